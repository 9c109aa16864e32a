"""The base of the distributions' builders, on a small distribution: what is stored, and in how many shards."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import originals, staged
from datasets.tuples import pipeline, records, tuple_builder
from tests.distributions import small
from tests.refusals import refused

NAMES = ["a", "b", "c", "test"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    small.write(source, NAMES)
    return source


def prepared(data_dir: Path, **options: object) -> small.Builder:
    builder = small.Builder(data_dir=str(data_dir), size=32, **options)  # type: ignore[arg-type]
    builder.download_and_prepare()
    return builder


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_records_are_the_takes_in_order(source: Path, tmp_path: Path) -> None:
    builder = prepared(tmp_path, source=source, boxes="joints")
    assert builder.split_names == ("train", "test")
    train = pipeline.open_split(tmp_path, "small/few", "train")
    table = tuple_builder.sequence_table(builder.info, "train")
    assert [row.subject for row in table] == ["a", "b", "c"] and train.records == 18
    assert [row.defect for row in table] == ["", "odd", ""] and all(row.has_pose for row in table)
    assert all(records.frame_numbers(row).tolist() == [0, 2, 4, 6, 8, 10] for row in table)
    record = train[7]
    assert record["frame"] == 2 and record["box_source"] == b"joints" and record["sequence"] == 1
    assert record["time"] == 2 / small.RATE and record["camera"] == [b"left", b"right"]
    # Thirds are exact in float64 only.
    assert record["intrinsics"][0, 0, 0] == 100 / 3 and record["extrinsics"][1, 0, 0] == 2 / 3
    np.testing.assert_array_equal(record["pose"][1] - record["pose"][0], 1000)
    np.testing.assert_array_equal(record["pose"][0, 0], [2, 3, 4])
    assert tuple_builder.decode_jpeg(record["images"][1]).shape == (32, 32, 3)
    assert builder.info.metadata["specification"] == {"boxes": "joints", "size": 32, "margin": 0.1}


def test_shards_hold_whole_sequences_and_the_same_records(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepared(tmp_path / "one", source=source)
    monkeypatch.setattr(tuple_builder, "SHARD_BYTES", 18 * 2 * tuple_builder.view_bytes(32) // 2)
    two = prepared(tmp_path / "two", source=source)
    assert one.info.splits["train"].num_shards == 1 and two.info.splits["train"].num_shards == 2
    assert two.info.splits["train"].shard_lengths == [6, 12]
    assert tuple_builder.fingerprint(one.info) == tuple_builder.fingerprint(two.info)
    first, second = (pipeline.open_split(tmp_path / name, "small/few", "train") for name in ("one", "two"))
    assert first.table == second.table
    for index in range(18):
        a, b = first[index], second[index]
        assert a["images"] == b["images"] and a["frame"] == b["frame"] and a["subject"] == b["subject"]


def test_finished_takes_are_used(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = tmp_path / "stage"
    once = prepared(tmp_path / "one", source=source, stage=stage)
    monkeypatch.setattr(small.SmallTake, "read", None)
    prepared(tmp_path / "two", source=source, stage=stage, inventory=once.inventory)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_an_archive_is_unpacked_once_for_all(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "x.tgz", "w:gz") as archive:
        archive.add(source, ".")
    passes: list[int] = []
    unpack = originals.unpack
    monkeypatch.setattr(
        originals, "unpack", lambda files, folder: (passes.append(len(files)), unpack(files, folder))
    )
    prepared(tmp_path / "one", source=source)
    prepared(tmp_path / "two", source=tmp_path / "packed")
    assert passes[0] == 2 * len(NAMES), "all that is needed, at the first take"
    ours, theirs = (pipeline.open_split(tmp_path / name, "small/few", "train") for name in ("one", "two"))
    assert [ours[k]["images"] for k in range(18)] == [theirs[k]["images"] for k in range(18)]


def test_an_instant_that_no_view_shows_is_kept_unless_it_is_the_last(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = staged.Staged.valid
    monkeypatch.setattr(
        staged.Staged,
        "valid",
        property(lambda self: valid.fget(self) & ~np.isin(self.numbers["frame"], (4, 10))),
    )
    builder = prepared(tmp_path, source=source)
    row = tuple_builder.sequence_table(builder.info, "test")[0]
    assert records.frame_numbers(row).tolist() == [0, 2, 4, 6, 8] and row.has_pose
    record = builder.as_data_source("test")[2]
    assert not record["view_valid"].any() and not record["has_pose"]


def test_a_take_that_no_view_shows_is_left_out(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = staged.Staged.valid
    seen = property(lambda self: valid.fget(self) & (not self.folder.name.startswith("b ")))
    monkeypatch.setattr(staged.Staged, "valid", seen)
    builder = prepared(tmp_path, source=source)
    assert [row.subject for row in tuple_builder.sequence_table(builder.info, "train")] == ["a", "c"]


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"size": 8}, ("size is 8", "16 pixels")),
        ({"margin": -0.1}, ("margin is -0.1", "a share of the box's longer side")),
    ],
)
def test_wrong_options(options: dict[str, object], facts: tuple[str, ...], tmp_path: Path) -> None:
    with refused(*facts):
        small.Builder(data_dir=str(tmp_path), **options)  # type: ignore[arg-type]


def test_a_source_is_asked_for_only_when_it_is_needed(tmp_path: Path) -> None:
    builder = small.Builder(data_dir=str(tmp_path))
    with refused("source", "small.write"):
        _ = builder.inventory
