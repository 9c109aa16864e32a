"""Preparing: what is printed and stored, what is left alone, and that a failure leaves nothing behind."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.tuples import pipeline, tuple_builder
from launch import prepare as prepare_program
from launch.preparation import jobs, prepare
from launch.preparation.settings import Prepare
from launch.runs import locks, staging
from mcss_jax.errors import UserError
from tests.datasets.synthetic_multiview.test_builder import close
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]
RECORDS, VIEWS = 5, 2


class Fake(tuple_builder.TupleBuilder):
    """Two people for one instant's work; `trouble` strikes before the last record."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": ""}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="small", version=VERSION)]
    description = "For tests."
    trouble: BaseException | None = None
    extra: dict[str, int] = {}

    views = property(lambda self: VIEWS)
    split_names = property(lambda self: ("train",))
    specification = property(lambda self: {"size": 16, **self.extra})

    def sequences(self, split: str) -> int:
        return 1

    def expected_records(self) -> int:
        return RECORDS

    def recordings(self, split: str) -> Iterator[tuple_builder.Recording]:
        yield tuple_builder.Recording("S1", "a", "1", 1, 0.5, map(self.instant, range(RECORDS)))

    def instant(self, k: int) -> tuple_builder.Instant:
        if k == RECORDS - 1 and self.trouble is not None:
            raise self.trouble
        picture = tuple_builder.encode_jpeg(np.full((16, 16, 3), 40 * k, np.uint8))
        return tuple_builder.Instant(
            images=[picture, picture if k else b""],
            view_valid=np.array([True, k > 0]),
            camera=["left", f"right{k}"],
            pose=tuple_builder.unknown_pose(VIEWS),
            box=np.full((VIEWS, 4), np.nan),
            box_source="frame",
            frame=k,
            time=0.5 * k,
            **tuple_builder.unknown_camera(VIEWS),
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    """A data set that joins with one line."""
    monkeypatch.setitem(jobs.BUILDERS, "fake", Fake)
    monkeypatch.setattr(Fake, "trouble", None)
    monkeypatch.setattr(Fake, "extra", {})
    return Fake


def settings_of(data_dir: Path, **options: object) -> Prepare:
    return Prepare(**{"dataset": "fake/small", "data_dir": str(data_dir), **options})  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, int]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != locks.NAME)
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != locks.NAME)


def test_prepared_once(fake: type[Fake], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare.prepare(settings_of(tmp_path / "a" / "b"))
    printed = capsys.readouterr()
    assert made.fresh and made.path == tmp_path / "a/b/fake/small/1.0.0"
    for line in (
        "9 pictures in ",
        "train: 1 subject (S1), 1 action, 1 sequence without poses, 5 instants x 2 views, 2.5 s",
        f"fingerprint: {made.fingerprint}",
        f"look at: {made.path}/contact_sheet.jpg",
        f"folder: {made.path}",
        f"use it with: --dataset=fake/small --data_dir={tmp_path}/a/b",
    ):
        assert line in printed.out
    assert "Downloading" not in printed.out and "images/s" in printed.out and "5/5" in printed.err
    assert names(tmp_path / "a/b") == ["fake"]  # nothing beside it

    before = files(tmp_path)
    again = prepare.prepare(settings_of(tmp_path / "a" / "b"))
    assert again == dataclasses.replace(made, fresh=False) and files(tmp_path) == before
    assert (
        "fake/small is prepared already" in (printed := capsys.readouterr().out) and str(made.path) in printed
    )

    third = prepare.prepare(settings_of(tmp_path / "a" / "b", overwrite=True))
    assert third == made and files(tmp_path).keys() == before.keys() and files(tmp_path) != before


def test_a_set_made_otherwise_is_not_passed_off(fake: type[Fake], tmp_path: Path) -> None:
    prepare.prepare(settings_of(tmp_path))
    fake.extra = {"size": 32, "rays": 2}
    with refused("size 16, now 32", "rays", "--overwrite"):
        prepare.prepare(settings_of(tmp_path))


@pytest.mark.parametrize(
    ("trouble", "raised", "facts"),
    [
        (
            OSError(errno.ENOSPC, "No space left"),
            UserError,
            ("disk is full", "--data_dir", "free"),
        ),
        (
            RuntimeError("Failed to finalize: write() failed: No space left on device"),
            UserError,
            ("disk is full", "--data_dir"),
        ),
        (
            RuntimeError("Failed to finalize writing of split: read-only"),
            UserError,
            ("--data_dir", "read-only"),
        ),
        (RuntimeError("a mistake of ours"), RuntimeError, ("a mistake of ours",)),
        (OSError(errno.EIO, "Input/output error"), OSError, ("Input/output error",)),
        (KeyboardInterrupt(), KeyboardInterrupt, ()),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_trouble_leaves_nothing_and_spares_what_was_there(
    fake: type[Fake],
    tmp_path: Path,
    trouble: BaseException,
    raised: type,
    facts: tuple[str, ...],
    there: bool,
) -> None:
    data_dir = tmp_path / "new" / "data"
    if there:
        prepare.prepare(settings_of(data_dir))
    before = files(tmp_path)
    fake.trouble = trouble
    with refused(*facts, kind=raised):
        prepare.prepare(settings_of(data_dir, overwrite=there))
    assert files(tmp_path) == before
    assert (tmp_path / "new").exists() == there and not list(tmp_path.rglob(f"{staging.PREFIX}*"))


def test_main_ends_with_130_after_ctrl_c(
    fake: type[Fake], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.trouble = KeyboardInterrupt()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            prepare_program.main(settings_of(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert ended.value.code == 130 and "nothing half-made was left behind" in capsys.readouterr().err
    assert not names(tmp_path)


def test_too_small_a_disk_is_refused_at_once(
    fake: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    monkeypatch.setattr(Fake, "expected_records", lambda self: 10**6)
    with refused("--data_dir", "0 bytes free", "4.1 GB"):
        prepare.prepare(settings_of(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_a_folder_that_cannot_be_written_to(
    fake: type[Fake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with refused("--data_dir", "file/data"):
        prepare.prepare(settings_of(tmp_path / "file" / "data"))

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with refused("--data_dir", "Permission denied", "another folder"):
        prepare.prepare(settings_of(tmp_path / "data"))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("killed", [False, True])
def test_a_set_is_never_lost_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    target, at_death = tmp_path / "set", tmp_path / "copy"
    target.mkdir()
    (target / "old").touch()
    rename = Path.rename

    def strike(self: Path, to: Path) -> Path:
        if self.name == "fresh":
            assert not target.exists(), "the earlier set is out of the way"
            shutil.copytree(self.parent, at_death)
            raise Stopped
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", strike)
    with pytest.raises(Stopped), staging.staging(tmp_path) as folder:
        (folder / "fresh").mkdir()
        staging.install(folder / "fresh", target, folder)
    monkeypatch.undo()
    if killed:  # nothing cleaned up after it
        shutil.rmtree(target)
        at_death.rename(tmp_path / f"{staging.PREFIX}dead")
    else:
        shutil.rmtree(at_death)
    with staging.staging(tmp_path):
        pass
    assert names(tmp_path) == ["set"] and (target / "old").exists()


def test_what_a_killed_process_left_is_swept_and_a_running_one_spared(tmp_path: Path) -> None:
    (tmp_path / f"{staging.PREFIX}dead" / "x").mkdir(parents=True)
    with staging.staging(tmp_path) as first, staging.staging(tmp_path) as second:
        assert names(tmp_path) == sorted([first.name, second.name])
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (
            {"dataset": "nothing"},
            ("--dataset=nothing", "synthetic_multiview/tiny", "synthetic_multiview/wild", "human36m/fps10"),
        ),
        ({"dataset": "synthetic_multiview"}, ("needs a configuration", "synthetic_multiview/tiny")),
        ({"dataset": "synthetic_multiview/x"}, ("no configuration 'x'", "synthetic_multiview/tiny")),
        (
            {"dataset": "synthetic_multiview/tiny", "source": "x"},
            ("--source", "--dataset=synthetic_multiview/tiny"),
        ),
        (
            {"dataset": "human36m", "fps": "5"},
            ("--fps", "--dataset=human36m", "--allow_missing"),
        ),
        ({"dataset": "human36m", "annotation": "annot3"}, ("--annotation", "--dataset=human36m")),
        (
            {"dataset": "multiview_video", "boxes": "joints"},
            ("--boxes", "--dataset=multiview_video"),
        ),
        ({"dataset": "multiview_video"}, ("--source is missing", "folder")),
        (
            {"dataset": "multiview_video/mine"},
            ("--source is missing", "multiview_video/mine"),
        ),
        ({"dataset": "multiview_video/a", "name": "b"}, ("--name=b", "--dataset=multiview_video/a")),
        ({"dataset": "multiview_video", "name": "../b"}, ("--name=../b", "letters, digits")),
        ({"dataset": "multiview_video", "source": "x", "fps": "fast"}, ("--fps=fast", "number")),
        ({"dataset": "multiview_video", "source": "no/where"}, ("no/where", "no such folder")),
    ],
)
def test_wrong_flags(options: dict[str, object], facts: tuple[str, ...], tmp_path: Path) -> None:
    with refused(*facts):
        prepare.prepare(settings_of(tmp_path / "data", **options))
    assert not (tmp_path / "data").exists()


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    import jax

    cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir), "PYTHONWARNINGS": ""}
    return subprocess.run(
        [sys.executable, "-m", "launch.prepare", *arguments],
        cwd=ROOT,
        env={**os.environ, **cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_program_makes_the_same_set_in_another_process(prepared_tiny: Path, tmp_path: Path) -> None:
    done = program("--dataset=synthetic_multiview/tiny", f"--data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "768 pictures" in done.stdout and "192/192" in done.stderr
    assert "Traceback" not in done.stderr and "dataset_builder.py" not in done.stderr
    for name in ("train", "validation", "test"):
        folders = (prepared_tiny, tmp_path)
        here, there = (pipeline.open_split(d, "synthetic_multiview/tiny", name) for d in folders)
        assert here.fingerprint == there.fingerprint and f"fingerprint: {here.fingerprint}" in done.stdout
        assert here.table == there.table and here.records == there.records
        for index in range(here.records):
            a, b = here[index], there[index]
            for key in set(a) - {"images"}:
                np.testing.assert_array_equal(a[key], b[key], err_msg=key)
            if index % 8 == 0:
                for x, y in zip(a["images"], b["images"], strict=True):
                    close(tuple_builder.decode_jpeg(x), tuple_builder.decode_jpeg(y))


def test_the_program_ends_an_error_with_a_sentence_and_1(tmp_path: Path) -> None:
    done = program("--dataset=multiview_video", "--source=no/where", f"--data_dir={tmp_path / 'data'}")
    assert done.returncode == 1 and "prepare: error: no/where: no such folder" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "data").exists()
