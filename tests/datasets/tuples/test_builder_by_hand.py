"""A set of two recordings a split, written and read again: records, sequence table, shards and fingerprint."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.tuples import columns, tuple_builder
from datasets.tuples.tuple_builder import Instant, Recording

VIEWS = 2


def instant(frame: int, **changes: Any) -> Instant:
    """All numbers of it are others than those of any other frame."""
    rng = np.random.default_rng(frame)
    return dataclasses.replace(
        Instant(
            images=[bytes([frame, view]) * 3 for view in range(VIEWS)],
            view_valid=np.ones(VIEWS, bool),
            camera=["left", "right"],
            pose=rng.normal(size=(VIEWS, 17, 3)),
            intrinsics=rng.normal(size=(VIEWS, 3, 3)),
            extrinsics=rng.normal(size=(VIEWS, 3, 4)),
            distortion=rng.normal(size=(VIEWS, 5)),
            box=rng.normal(size=(VIEWS, 4)),
            box_source="mask",
            frame=frame,
            time=frame / 7,
        ),
        **changes,
    )


def without_pose(frame: int, views: tuple[int, ...], **changes: Any) -> Instant:
    pose = np.array(instant(frame).pose)
    pose[list(views), 4, 1] = np.nan
    return instant(frame, pose=pose, **changes)


ONE = np.asarray([True, False])
NONE = np.zeros(VIEWS, bool)
# By sequence: instants, and whether all that show somebody have a pose.
SEQUENCES: list[tuple[list[Instant], bool]] = [
    ([instant(frame) for frame in (0, 5, 10)], True),
    ([instant(1), without_pose(2, (1,))], False),
    ([instant(3), without_pose(4, (1,), view_valid=ONE)], True),  # lost where nobody is seen
    ([instant(6), without_pose(7, (0, 1), view_valid=NONE)], True),
    ([], False),
    ([instant(8)], True),
]


class Builder(tuple_builder.TupleBuilder, skip_registration=True):  # type: ignore[call-arg]
    """The sequences above, in one split."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "For tests."}
    name = "by_hand"

    @property
    def views(self) -> int:
        return VIEWS

    @property
    def split_names(self) -> tuple[str, ...]:
        return ("train",)

    def sequences(self, split: str) -> int:
        return len(SEQUENCES)

    def expected_bytes(self, split: str) -> int:
        return 3 * tuple_builder.SHARD_BYTES  # three shards of two sequences

    def recordings(self, split: str) -> Iterator[Recording]:
        for number, (instants, _) in enumerate(SEQUENCES):
            yield Recording(
                f"S{number // 2}", f"action {number}", "b", number % 3, 0.1 * number, instants,
                "shaky" if number == 3 else "",
            )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int]]:
    """The folder, and what was told of each record."""
    folder, told = tmp_path_factory.mktemp("by_hand"), []
    tfds.disable_progress_bar()
    builder = Builder(data_dir=str(folder))
    builder.on_record = told.append
    builder.download_and_prepare()
    return Path(builder.data_path), told


def test_records_and_table_are_what_was_recorded(written: tuple[Path, list[int]]) -> None:
    path, told = written
    builder = tfds.builder_from_directory(str(path))
    source, table = builder.as_data_source("train"), tuple_builder.sequence_table(builder.info, "train")
    assert builder.info.splits["train"].num_shards == 3
    every = [(number, one) for number, (instants, _) in enumerate(SEQUENCES) for one in instants]
    assert len(source) == len(every) and told == [int(one.view_valid.sum()) for _, one in every]
    few = columns.Columns(source, ("time", "pose", "images"))
    assert len(few) == len(every)
    for index, (number, one) in enumerate(every):
        record = source[index]
        for name in ("pose", "intrinsics", "extrinsics", "distortion", "box", "view_valid"):
            expected = getattr(one, name)
            np.testing.assert_array_equal(record[name], expected.astype(record[name].dtype))
        assert record["intrinsics"].dtype == record["extrinsics"].dtype == np.float64, "nothing is rounded"
        assert list(record["images"]) == one.images and list(record["camera"]) == [b"left", b"right"]
        assert (record["frame"], record["time"], record["sequence"]) == (one.frame, one.frame / 7, number)
        assert (record["group"], record["subject"]) == (number % 3, f"S{number // 2}".encode())
        seen = one.pose[one.view_valid]
        assert record["has_pose"] == (len(seen) > 0 and np.isfinite(seen).all())
        assert set(few[index]) == {"time", "pose", "images"} and few[index]["time"] == record["time"]
    first = 0
    for number, (row, (instants, has_pose)) in enumerate(zip(table, SEQUENCES, strict=True)):
        assert (row.first, row.length, row.has_pose) == (first, len(instants), has_pose)
        assert (row.subject, row.action, row.group) == (f"S{number // 2}", f"action {number}", number % 3)
        assert row.seconds_per_record == 0.1 * number and row.defect == ("shaky" if number == 3 else "")
        first += len(instants)
    assert table[0].runs == ((0, 5, 3),) and table[1].runs == ((1, 1, 2),)


def test_a_fingerprint_is_of_all_that_decides_the_records() -> None:
    row = {"subject": "S1", "first": 0, "length": 3, "has_pose": True, "defect": "", "runs": [[0, 5, 3]]}

    def of(name: str = "a/1.0.0", specification: Any = None, **changes: Any) -> str:
        metadata = {"specification": specification or {"size": 64}, "tables": {"train": [row | changes]}}
        info = create_autospec(tfds.core.DatasetInfo, instance=True, full_name=name, metadata=metadata)
        return tuple_builder.fingerprint(info)

    assert len(of()) == 16 and of() == of(runs=[]), "sets of before rows had frame numbers are the same"
    others = [
        of("a/1.0.1"), of(specification={"size": 32}), of(subject="S2"), of(first=1), of(length=2), of(has_pose=False),
        of(defect="shaky"),
    ]  # fmt: skip
    assert len({of(), *others}) == 8
