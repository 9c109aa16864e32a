"""Batches hold what the records hold, damage is masked and counted, and read-ahead keeps order and errors."""

import dataclasses
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datasets.tuples import pipeline, records, sampling, tuple_builder
from datasets.tuples.pipeline import Loader, Split
from mcss_jax.training.batch import Batch
from tests.datasets.changed_records import Records
from tests.refusals import refused

DATASET = "synthetic_multiview/tiny"
BLOCKS = sampling.Blocks(2, 2, 3, 0.5)


@pytest.fixture(scope="module")
def split(prepared_tiny: Path) -> Split:
    return pipeline.open_split(prepared_tiny, DATASET, "train")


def altered(split: Split, changes: dict[int, Any]) -> Split:
    return dataclasses.replace(split, source=Records(split.source, changes), cache={}, cached_bytes=0)


def plan(
    split: Split, labelled: np.ndarray, step: int = 0, blocks: sampling.Blocks | None = BLOCKS
) -> sampling.Plan:
    return sampling.plan(
        split.table,
        split.views,
        seed=0,
        step=step,
        blocks=blocks,
        labelled=labelled,
        labelled_size=6 if len(labelled) else 0,
    )


@pytest.fixture(scope="module")
def labelled(split: Split) -> np.ndarray:
    return sampling.labelled_records(split.table, sampling.parse_labelled("S1", split.table))


def test_open_split(split: Split) -> None:
    assert split.records == sum(row.length for row in split.table) == len(split.sequence_of)
    assert (split.views, split.image_size, split.box_source) == (4, 64, "mask")
    assert split.specification["size"] == 64 and split.specification["instants"] == 6
    assert {row.subject for row in split.table} == {"S1", "S2"}
    assert split[0] is split[0], "kept in memory"


def test_batches_hold_the_records(split: Split, labelled: np.ndarray) -> None:
    batch_plan = plan(split, labelled)
    loader = Loader(split, labelled)
    batch = loader(batch_plan)
    part = batch.unlabelled
    assert part.images.shape == (12, 2, 64, 64, 3) and part.valid.all()
    for i, index in enumerate(batch_plan.unlabelled):
        record = split.source[int(index)]
        views = batch_plan.unlabelled_views[i][:2]
        assert len(set(views)) == 2
        for at, view in enumerate(views):
            np.testing.assert_array_equal(
                part.images[i, at], tuple_builder.decode_jpeg(record["images"][view])
            )
        row = split.table[part.sequence[i]]
        assert row.first <= index < row.first + row.length
        assert (part.group[i], part.time[i]) == (row.group, np.float32(record["time"]))
        if row.subject == "S1":
            np.testing.assert_array_equal(part.pose[i], record["pose"][views[0]])
        else:
            assert np.isnan(part.pose[i]).all()
    part = batch.labelled
    assert part.valid.all() and part.images.shape == (6, 64, 64, 3)
    for i, index in enumerate(batch_plan.labelled):
        record, view = split.source[int(index)], batch_plan.labelled_views[i][0]
        np.testing.assert_array_equal(part.images[i], tuple_builder.decode_jpeg(record["images"][view]))
        np.testing.assert_array_equal(part.pose[i], record["pose"][view])
        np.testing.assert_array_equal(part.intrinsics[i], record["intrinsics"][view].astype(np.float32))
        np.testing.assert_array_equal(part.box[i], record["box"][view])
    for part in batch.parts.values():
        np.testing.assert_array_equal(part.sample, np.arange(len(part.sample)))
    assert loader.skipped.records == 0
    assert set(Loader(split, labelled)(plan(split, labelled, blocks=None)).parts) == {"labelled"}


def assert_same(first: Batch, second: Batch) -> None:
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("poison", [np.nan, 12345.0])
def test_labels_of_unlabelled_people_are_never_read(
    split: Split, labelled: np.ndarray, poison: float
) -> None:
    """Poisoned poses of everybody outside `--labelled` leave every batch as it was, bit for bit."""
    others = sorted(set(range(split.records)) - set(labelled))
    wrong = {"pose": np.full((4, 17, 3), poison, np.float32)}
    poisoned = altered(split, dict.fromkeys(others, wrong))
    for step in range(3):
        batch_plan = plan(split, labelled, step)
        assert set(batch_plan.unlabelled) & set(others), "the batch meets poisoned records"
        assert_same(Loader(split, labelled)(batch_plan), Loader(poisoned, labelled)(batch_plan))


def test_only_the_views_of_the_plan_are_decoded(
    split: Split, labelled: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []

    def counted(data: bytes, out: np.ndarray) -> None:
        decoded.append(data)
        records.decode_into(data, out)

    monkeypatch.setattr(pipeline, "decode_into", counted)
    batch_plan = plan(split, labelled)
    Loader(split, labelled)(batch_plan)
    wanted = list(
        zip(batch_plan.unlabelled.repeat(2), batch_plan.unlabelled_views[:, :2].ravel(), strict=True)
    )
    wanted += zip(batch_plan.labelled, batch_plan.labelled_views[:, 0], strict=True)
    expected = [split[int(record)]["images"][view] for record, view in wanted]
    assert sorted(decoded) == sorted(expected) and len(decoded) == 2 * 12 + 6


def test_records_for_training_hold_what_training_reads(
    prepared_tiny: Path, split: Split, labelled: np.ndarray
) -> None:
    few = pipeline.open_split(prepared_tiny, DATASET, "train", 0, pipeline.FOR_TRAINING)
    assert set(few[3]) == set(pipeline.FOR_TRAINING) and len(few.source) == split.records
    for step in range(2):
        batch_plan = plan(split, labelled, step)
        assert_same(Loader(split, labelled)(batch_plan), Loader(few, labelled, threads=5)(batch_plan))


def test_damaged_records_keep_their_place(split: Split, labelled: np.ndarray) -> None:
    batch_plan = plan(split, labelled)
    whole = Loader(split, labelled)(batch_plan)
    hidden = np.asarray([True, False, False, False])
    damages: list[Any] = [
        {"images": [b"not a picture"] * 4},
        {"images": [tuple_builder.encode_jpeg(np.zeros((32, 32, 3), np.uint8))] * 4},
        {"view_valid": hidden},
        RuntimeError("unreadable block"),
    ]
    at = [0, 4, 7, 11]
    changes = {int(batch_plan.unlabelled[i]): damage for i, damage in zip(at, damages, strict=True)}
    no_pose = int(batch_plan.labelled[2])
    assert len(changes) == 4 and no_pose not in changes
    changes[no_pose] = {"pose": np.full((4, 17, 3), np.nan, np.float32)}
    loader = Loader(altered(split, changes), labelled)
    batch = loader(batch_plan)
    for i in range(12):
        if i in at:
            assert not batch.unlabelled.valid[i] and not batch.unlabelled.images[i].any()
            for name in ("group", "sequence", "sample"):
                assert getattr(batch.unlabelled, name)[i] == getattr(whole.unlabelled, name)[i]
        elif batch_plan.unlabelled[i] not in changes:
            np.testing.assert_array_equal(batch.unlabelled.images[i], whole.unlabelled.images[i])
    assert not batch.labelled.valid[2] and np.isfinite(batch.labelled.pose).all()
    assert loader.skipped.records >= 5
    assert loader.skipped.reason.startswith("record ") and split.name in loader.skipped.reason


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"images": [b"not a picture"] * 4}, "not a readable JPEG (13 bytes)"),
        ({"images": [b""] * 4}, "not a readable JPEG (0 bytes)"),
        (
            {"images": [tuple_builder.encode_jpeg(np.zeros((8, 8, 3), np.uint8))] * 4},
            "a picture of (8, 8, 3)",
        ),
        (KeyError("gone"), "gone"),
    ],
)
def test_evaluation_refuses_damaged_records(split: Split, damage: Any, reason: str) -> None:
    broken = altered(split, {3: damage})
    with refused("record 3", reason):
        list(pipeline.iterate_views(broken, 8))


def test_the_reasons_of_skipping(split: Split, labelled: np.ndarray) -> None:
    unlabelled_only = plan(split, labelled[:0])
    record = int(unlabelled_only.unlabelled[0])
    for damage, reason in (
        ({"view_valid": np.zeros(4, bool)}, "fewer than 2 valid views"),
        ({"images": [tuple_builder.encode_jpeg(np.zeros((8, 8, 3), np.uint8))] * 4}, "a picture of"),
    ):
        loader = Loader(altered(split, {record: damage}), labelled[:0])
        loader(unlabelled_only)
        assert f"record {record} of {split.name}: {reason}" in loader.skipped.reason
    labelled_only = plan(split, labelled, blocks=None)
    no_pose = {int(labelled_only.labelled[0]): {"pose": np.full((4, 17, 3), np.nan, np.float32)}}
    loader = Loader(altered(split, no_pose), labelled)
    loader(labelled_only)
    assert "no pose in a labelled view" in loader.skipped.reason


def test_the_picture_size_survives_a_damaged_first_record(split: Split) -> None:
    damaged = Records(split.source, {0: {"images": [b""] * 4}, 1: {"view_valid": np.zeros(4, bool)}})
    assert pipeline.stored_image_size(damaged, "x") == 64
    nothing = Records(split.source, {i: {"view_valid": np.zeros(4, bool)} for i in range(len(damaged))})
    with refused("x", "no picture"):
        pipeline.stored_image_size(nothing, "x")


def test_views_for_evaluation(split: Split) -> None:
    dealt_with: list[int] = []
    chosen = np.arange(0, split.records, 5)
    batches = list(pipeline.iterate_views(split, 10, chosen, done=dealt_with.append))
    assert sum(dealt_with) == len(chosen)
    assert all(len(views.images) == 8 for views in batches[:-1]), "whole records of four views"
    record = np.concatenate([views.record for views in batches])
    camera = np.concatenate([views.camera for views in batches])
    expected = [(r, v) for r in range(0, split.records, 5) for v in range(4)]
    assert list(zip(record, camera, strict=True)) == expected
    third = split.source[10]
    np.testing.assert_array_equal(batches[1].pose[1], third["pose"][1])
    np.testing.assert_array_equal(batches[1].images[1], tuple_builder.decode_jpeg(third["images"][1]))
    hidden = altered(split, {0: {"view_valid": np.asarray([False, True, True, False])}})
    assert list(next(pipeline.iterate_views(hidden, 8)).camera) == [1, 2, 0, 1, 2, 3]


def test_views_that_are_left_out_are_not_decoded(split: Split) -> None:
    """Invalid frames and other cameras may hold anything; batches fill up across them, progress counts them."""
    junk = [b"not a picture"] * 4
    changes = {i: {"valid_frame": i % 8 == 3} | ({} if i % 8 == 3 else {"images": junk}) for i in range(48)}
    dealt_with: list[int] = []
    batches = list(pipeline.iterate_views(altered(split, changes), 8, np.arange(48), done=dealt_with.append))
    assert [views.record.tolist() for views in batches] == [
        [3] * 4 + [11] * 4,
        [19] * 4 + [27] * 4,
        [35] * 4 + [43] * 4,
    ]
    assert sum(dealt_with) == 48
    one = {i: {"images": [split[i]["images"][0], b"", split[i]["images"][2], b""]} for i in range(6)}
    batches = list(pipeline.iterate_views(altered(split, one), 4, np.arange(6), ("camera2", "camera0")))
    assert [views.camera.tolist() for views in batches] == [[0, 2] * 2] * 3
    assert list(pipeline.iterate_views(altered(split, changes), 8, np.arange(3))) == []


def test_cameras_of_a_split(split: Split) -> None:
    assert pipeline.camera_names(split) == ("camera0", "camera1", "camera2", "camera3")
    second = split.table[1].first
    other = altered(split, {second: {"camera": [b"camera0", b"", b"above", b""]}})
    assert pipeline.camera_names(other) == ("camera0", "camera1", "camera2", "camera3", "above")


def test_a_name_is_enough_where_one_configuration_is_prepared(tmp_path: Path, prepared_tiny: Path) -> None:
    assert pipeline.prepared_path(prepared_tiny, "synthetic_multiview") == pipeline.prepared_path(
        prepared_tiny, DATASET
    )
    for name in ("one", "two"):
        (tmp_path / "set" / name / "1.0.0").mkdir(parents=True)
        (tmp_path / "set" / name / "1.0.0" / "dataset_info.json").touch()
    with refused("'set'", "one, two"):
        pipeline.prepared_path(tmp_path, "set")


def test_what_is_not_prepared_is_answered_with_the_command(tmp_path: Path, prepared_tiny: Path) -> None:
    command = f"python -m launch.prepare --dataset={DATASET} --data_dir={tmp_path}"
    with refused("not prepared") as caught:
        pipeline.open_split(tmp_path, DATASET, "train")
    assert str(caught.value).endswith(command)
    with refused("'nobody'", "train"):
        pipeline.open_split(prepared_tiny, DATASET, "nobody")


def test_smaller_pictures(prepared_tiny: Path, split: Split) -> None:
    small = pipeline.open_split(prepared_tiny, DATASET, "train", image_size=16)
    assert (small.image_size, small.stored_size) == (16, 64)
    record = small[0]
    pixels = small.picture(record, 0).astype(float)
    means = tuple_builder.decode_jpeg(record["images"][0]).reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(pixels - means).mean() < 2.0
    with refused("--image_size=65", "64 px"):
        pipeline.open_split(prepared_tiny, DATASET, "train", image_size=65)


def test_the_cache_is_bounded(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "CACHE_BYTES", 1)
    fresh = altered(split, {})
    first, second = fresh[0], fresh[1]
    assert fresh[0] is first and fresh[1] is not second
    np.testing.assert_array_equal(fresh[1]["pose"], second["pose"])


def test_the_newest_version_is_opened(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        (tmp_path / "x" / version).mkdir(parents=True)
        (tmp_path / "x" / version / "dataset_info.json").touch()
    (tmp_path / "x" / "incomplete.1.11.0").mkdir()
    assert pipeline.prepared_path(tmp_path, "x").name == "1.10.0"


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "read-ahead"]


def test_read_ahead_keeps_the_order_and_stays_ahead() -> None:
    made: list[int] = []
    waiting = pipeline.Waiting()

    def make(step: int) -> dict[str, int]:
        made.append(step)
        return {"step": step}

    batches = pipeline.read_ahead(make, range(3, 9), depth=2, waiting=waiting)
    assert made == [], "nothing runs before it is asked for"
    assert [(step, batch["step"]) for step, batch in batches] == [(s, s) for s in range(3, 9)]
    assert made == list(range(3, 9)) and waiting.seconds >= 0 and not threads()
    assert list(pipeline.read_ahead(make, range(5, 5))) == []


def test_read_ahead_raises_an_error_at_its_step() -> None:
    def make(step: int) -> dict[str, int]:
        if step == 2:
            raise OSError("the disk is gone")
        return {}

    batches = pipeline.read_ahead(make, range(5))
    assert [next(batches)[0], next(batches)[0]] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert not threads()


@pytest.mark.parametrize("taken", [1, 3])
def test_closing_read_ahead_stops_its_thread(taken: int) -> None:
    made: list[int] = []
    batches: Iterator = pipeline.read_ahead(lambda step: made.append(step) or {}, range(1000), depth=2)
    for _ in range(taken):
        next(batches)
    batches.close()
    assert not threads() and len(made) <= taken + 4


def test_planning_and_decoding_load_no_tfds() -> None:
    """So that `--stream` trains where there is none."""
    code = (
        "import sys, datasets.tuples.pipeline, datasets.tuples.sampling; "
        "print(sorted({'tensorflow', 'tensorflow_datasets', 'array_record'} & set(sys.modules)))"
    )
    program = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert program.stdout.strip() == "[]"
