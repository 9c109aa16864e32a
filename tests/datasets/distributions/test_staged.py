"""Finished takes: complete or absent, and never taken for what was made otherwise."""

import dataclasses
import functools
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import originals, staged
from datasets.tuples import records
from tests.distributions import small
from tests.refusals import refused

CUTTING = staged.Cutting(size=32, margin=0.1, version="1.0.0")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    small.write(tmp_path / "source", ["a"])
    return tmp_path / "source"


def take_of(source: Path, **options: bool) -> small.SmallTake:
    return small.inventory(small.loose(source), **options).takes[0]  # type: ignore[return-value,arg-type]


def locate(file: originals.File) -> Path:
    return Path(file.source) / file.path


def finish(source: Path, stage: Path) -> tuple[Path, int]:
    counted: list[int] = []
    path = staged.stage(take_of(source), CUTTING, stage, locate, counted.append)
    return path, sum(counted)


def test_what_is_read_is_what_was_cut(source: Path, tmp_path: Path) -> None:
    take = take_of(source)
    path, decoded = finish(source, tmp_path / "stage")
    assert path == staged.folder_of(take, CUTTING, tmp_path / "stage") and decoded == 2 * 12
    staged_take, footage = staged.open_staged(path), take.read(locate)
    assert (
        staged_take.camera == ["left", "right"]
        and staged_take.box_source == "static"
        and staged_take.valid.all()
    )
    assert staged_take.seconds_per_record == footage.seconds_per_record and staged_take.notes[0] == "read a"
    for v, view in enumerate(footage.views):
        for name in ("intrinsics", "extrinsics", "distortion"):
            np.testing.assert_array_equal(staged_take.numbers[name][v], getattr(view, name))
        np.testing.assert_array_equal(staged_take.numbers["pose"][v], view.pose)
    np.testing.assert_array_equal(staged_take.numbers["frame"], footage.frame)
    np.testing.assert_array_equal(staged_take.numbers["time"], footage.time)
    pictures = list(staged_take.pictures())
    assert len(pictures) == 6
    assert all(records.decode_jpeg(data).shape == (32, 32, 3) for instant in pictures for data in instant)


def test_a_finished_take_is_left_alone(source: Path, tmp_path: Path) -> None:
    path, _ = finish(source, tmp_path / "stage")
    before = {file.name: file.stat().st_mtime_ns for file in path.iterdir()}
    again, decoded = finish(source, tmp_path / "stage")
    assert again == path and decoded == 0
    assert before == {file.name: file.stat().st_mtime_ns for file in path.iterdir()}


@pytest.mark.parametrize("name", ["view0", staged.NUMBERS, staged.TEXTS])
def test_a_take_that_lost_its_content_is_made_again(source: Path, tmp_path: Path, name: str) -> None:
    path, _ = finish(source, tmp_path / "stage")
    whole = {file.name: file.read_bytes() for file in path.iterdir()}
    assert staged.is_finished(path)
    (path / name).write_bytes(b"")
    assert not staged.is_finished(path) and not staged.is_finished(tmp_path)
    again, decoded = finish(source, tmp_path / "stage")
    assert again == path and decoded == 24
    assert {file.name: file.read_bytes() for file in path.iterdir()} == whole


def test_pictures_that_are_cut_short_are_told(source: Path, tmp_path: Path) -> None:
    path, _ = finish(source, tmp_path / "stage")
    staged_take = staged.open_staged(path)
    (path / "view1").write_bytes((path / "view1").read_bytes()[:-1])
    with refused(path.name, "damaged", "remove it"):
        list(staged_take.pictures())


def test_the_name_tells_what_decided_the_content(source: Path, tmp_path: Path) -> None:
    folder = functools.partial(staged.folder_of, stage=tmp_path)
    take = take_of(source)
    names = {
        folder(take, CUTTING),
        folder(take, dataclasses.replace(CUTTING, size=48)),
        folder(take, dataclasses.replace(CUTTING, margin=0.2)),
        folder(take, dataclasses.replace(CUTTING, version="1.1.0")),
        folder(dataclasses.replace(take, frames=11), CUTTING),
        folder(take_of(source, known=True), CUTTING),
    }
    os.utime(source / "a" / "left.avi", ns=(1, 1))
    names.add(folder(take_of(source), CUTTING))
    (source / "a" / "right.avi").unlink()
    names.add(folder(take_of(source), CUTTING))
    assert len(names) == 8
    moved = take.files["left"][0]
    elsewhere = dataclasses.replace(
        take, files={**take.files, "left": (dataclasses.replace(moved, source="else/where"),)}
    )
    assert folder(elsewhere, CUTTING) == folder(take, CUTTING), "the same files, moved"


def test_a_failure_leaves_nothing(source: Path, tmp_path: Path) -> None:
    stage = tmp_path / "stage"
    with refused("out of tune"):
        staged.stage(dataclasses.replace(take_of(source), trouble="out of tune"), CUTTING, stage, locate)

    def stop(frames: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        staged.stage(take_of(source), CUTTING, stage, locate, stop)
    assert list(stage.iterdir()) == []


def test_an_unpacked_file_is_called_as_the_user_knows_it(source: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archives" / "a.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(source / "a" / "left.avi", "a/left.avi")
        packed.writestr("a/right.avi", b"no video")
    take = small.inventory(originals.scan(archive.parent)).takes[0]
    unpacked = tmp_path / "unpacked"
    originals.unpack(sorted(take.archived), unpacked)
    with refused("a.zip/a/right.avi", "not a readable video") as caught:
        staged.stage(take, CUTTING, tmp_path / "stage", functools.partial(originals.locate, folder=unpacked))
    assert str(caught.value).startswith("a.zip")


def test_what_a_killed_process_left_is_swept(source: Path, tmp_path: Path) -> None:
    path, _ = finish(source, tmp_path / "stage")
    (tmp_path / "stage" / f"xyz{staged.UNFINISHED}").mkdir()
    staged.sweep(tmp_path / "stage")
    assert list((tmp_path / "stage").iterdir()) == [path]
