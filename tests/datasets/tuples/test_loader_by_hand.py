"""Rows of a batch and views of an evaluation against loops over records by hand; damage, and errors that are none."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from datasets.tuples import pipeline, read_ahead, sampling
from datasets.tuples.records import decode_jpeg, encode_jpeg
from launch.training import cached
from mcss_jax.training.batch import Batch
from tests.datasets.in_memory import SIZE, VIEWS, changed, split_of
from tests.refusals import refused

SPLIT = split_of()
LABELLED = np.arange(0, 11, 2)  # of S1, whose records are 0 to 10
HIDDEN = {3: [0, 2], 8: [1], 12: [3, 0], 20: [2]}
SEEN = {index: {"view_valid": ~np.isin(np.arange(VIEWS), hidden)} for index, hidden in HIDDEN.items()}


def plan_of(unlabelled: list[int], labelled: list[int], seed: int = 0) -> sampling.Plan:
    """These records with views in random order, as the second host has them."""
    rng = np.random.default_rng(seed)
    orders = [
        rng.permuted(np.tile(np.arange(VIEWS), (len(rows), 1)), axis=1) for rows in (unlabelled, labelled)
    ]
    return sampling.Plan(
        np.asarray(unlabelled, int), orders[0], np.asarray(labelled, int), orders[1],
        first_unlabelled=len(unlabelled), first_labelled=len(labelled),
    )  # fmt: skip


PLAN = plan_of([23, 3, 8, 0, 12, 2, 20, 5, 2], [8, 0, 10, 8, 2])


def seen_views(split: pipeline.Split, index: int, order: np.ndarray) -> list[int]:
    return [int(view) for view in order if split.source[index]["view_valid"][view]]


def picture(split: pipeline.Split, index: int, view: int) -> np.ndarray:
    return decode_jpeg(split.source[index]["images"][view])


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_rows_are_what_the_records_hold(threads: int) -> None:
    split = changed(SPLIT, SEEN)
    loader = pipeline.Loader(split, LABELLED, threads)
    batch = loader(PLAN)
    pairs, pictures = batch.unlabelled, batch.labelled
    for i, (index, order) in enumerate(zip(PLAN.unlabelled.tolist(), PLAN.unlabelled_views, strict=True)):
        first, second, *_ = seen_views(split, index, order)
        np.testing.assert_array_equal(pairs.images[i, 0], picture(split, index, first))
        np.testing.assert_array_equal(pairs.images[i, 1], picture(split, index, second))
        number = next(n for n, row in enumerate(split.table) if row.first <= index < row.first + row.length)
        assert (pairs.sequence[i], pairs.group[i]) == (number, split.table[number].group)
        assert pairs.time[i] == 20 + 0.25 * index and pairs.valid[i] and pairs.sample[i] == 9 + i
        wanted = split.source[index]["pose"][first] if index in (0, 2, 4, 6, 8, 10) else np.nan
        np.testing.assert_array_equal(pairs.pose[i], np.broadcast_to(wanted, (17, 3)))
    for i, (index, order) in enumerate(zip(PLAN.labelled.tolist(), PLAN.labelled_views, strict=True)):
        record, view = split.source[index], seen_views(split, index, order)[0]
        np.testing.assert_array_equal(pictures.images[i], picture(split, index, view))
        for name in ("pose", "intrinsics", "box"):
            np.testing.assert_array_equal(getattr(pictures, name)[i], record[name][view].astype(np.float32))
        assert pictures.valid[i] and pictures.sample[i] == 5 + i
    assert loader.skipped == pipeline.Skipped(0, "")
    assert pairs.images.shape == (9, 2, SIZE, SIZE, 3) and pictures.images.shape == (5, SIZE, SIZE, 3)


def test_a_doubled_order_gives_one_picture_twice() -> None:
    doubled = dataclasses.replace(PLAN, unlabelled_views=np.repeat(PLAN.unlabelled_views, 2, axis=1))
    whole, twice = (pipeline.Loader(SPLIT, LABELLED)(plan).unlabelled for plan in (PLAN, doubled))
    np.testing.assert_array_equal(twice.images, whole.images[:, [0, 0]])


class Guarded(dict[str, Any]):
    """A record of somebody whose poses nobody may read."""

    def __getitem__(self, name: str) -> Any:
        assert name != "pose", "a pose was read"
        return super().__getitem__(name)


def test_poses_of_unlabelled_people_are_not_even_looked_at() -> None:
    guarded = dataclasses.replace(
        SPLIT,
        source=[
            record if index in LABELLED else Guarded(record) for index, record in enumerate(SPLIT.source)
        ],
        cache={},
    )
    pose = pipeline.Loader(guarded, LABELLED)(PLAN).unlabelled.pose
    assert np.isfinite(pose).all(axis=(1, 2)).tolist() == np.isin(PLAN.unlabelled, LABELLED).tolist()


def second_broken(index: int, order: np.ndarray) -> dict[str, Any]:
    """The record with its second picture of that order cut short: the first is drawn before it is met."""
    images = list(SPLIT.source[index]["images"])
    images[order[1]] = images[order[1]][:40]
    return {"images": images}


def rows_of(batch: Batch, part: str, keep: np.ndarray) -> dict[str, np.ndarray]:
    columns = dataclasses.asdict(getattr(batch, part))
    return {name: np.asarray(column)[keep] for name, column in columns.items()}


@pytest.mark.parametrize("kind", [pipeline.Loader, cached.Loader])
def test_a_damaged_record_is_masked_where_it_stands_and_counted_once(kind: Any) -> None:
    whole = pipeline.Loader(SPLIT, LABELLED)(PLAN)
    broken = changed(SPLIT, {12: second_broken(12, PLAN.unlabelled_views[4])})
    loader = kind(broken, LABELLED)
    batch = loader(PLAN)
    assert loader.skipped.records == 1
    assert loader.skipped.reason.startswith(
        "record 12 of set/1.0.0:train: a stored picture is not a readable"
    )
    there = np.arange(9) != 4
    expected, rows = rows_of(whole, "unlabelled", there), rows_of(batch, "unlabelled", there)
    assert all(np.array_equal(rows[name], expected[name], equal_nan=True) for name in expected)
    pairs = batch.unlabelled
    assert not np.asarray(pairs.images[4]).any() and not pairs.valid[4] and np.isnan(pairs.pose[4]).all()
    assert (pairs.group[4], pairs.sequence[4], pairs.sample[4], pairs.time[4]) == (3, 2, 13, 0.0)
    loader(PLAN)
    assert loader.skipped.records == 2, "each time that it is met"


@pytest.mark.parametrize("kind", [pipeline.Loader, cached.Loader])
def test_every_row_of_a_damaged_record_is_counted_and_the_first_reason_kept(kind: Any) -> None:
    """One after another, so that it is known which comes first."""
    nothing = {"view_valid": np.zeros(VIEWS, bool)}
    loader = kind(changed(SPLIT, {8: nothing, 2: {"images": [b"x"] * VIEWS}}), LABELLED, 1)
    batch = loader(plan_of([], PLAN.labelled.tolist()))
    assert batch.labelled.valid.tolist() == [False, True, True, False, False]
    assert not np.asarray(batch.labelled.images)[[0, 3, 4]].any() and not batch.labelled.pose[[0, 3, 4]].any()
    assert np.isnan(batch.labelled.box[[0, 3, 4]]).all() and np.isnan(batch.labelled.intrinsics[0]).all()
    assert loader.skipped == pipeline.Skipped(3, "record 8 of set/1.0.0:train: fewer than 1 valid views")


def test_a_label_is_needed_in_the_view_that_is_drawn_and_in_no_other() -> None:
    order = PLAN.labelled_views[2].tolist()  # record 10 comes once
    pose = np.array(SPLIT.source[10]["pose"])
    pose[order[1:]] = np.nan
    assert pipeline.Loader(changed(SPLIT, {10: {"pose": pose}}), LABELLED)(PLAN).labelled.valid.all()
    pose = np.array(SPLIT.source[10]["pose"])
    pose[order[0], 16, 2] = np.nan
    loader = pipeline.Loader(changed(SPLIT, {10: {"pose": pose}}), LABELLED)
    assert loader(PLAN).labelled.valid.tolist() == [True, True, False, True, True]
    assert "record 10" in loader.skipped.reason and "no pose in a labelled view" in loader.skipped.reason


@pytest.mark.parametrize("kind", [pipeline.Loader, cached.Loader])
@pytest.mark.parametrize("name", ["decode_into", "first_valid_views"])
@pytest.mark.parametrize("error", [TypeError, PermissionError(13, "denied")])
def test_what_is_no_damage_is_raised(
    kind: Any, name: str, error: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(*_: Any) -> None:
        raise error

    monkeypatch.setattr(pipeline if name == "decode_into" else sampling, name, wrong)
    with pytest.raises(TypeError if error is TypeError else PermissionError):
        kind(SPLIT, LABELLED)(PLAN)


@pytest.mark.parametrize("size", [9, 20, 33, 63, 64])
def test_a_smaller_picture_is_the_mean_over_its_pixels(size: int) -> None:
    """Of a ramp along both axes; no cut-out, and no axis for the other."""
    y, x = np.mgrid[:64, :64]
    ramp = np.stack([4 * x, 2 * y + 40, 255 - 2 * x - y], axis=-1).astype(np.uint8)
    edges = np.arange(size + 1) * 64 / size
    cover = np.clip(
        np.minimum(edges[1:, None], np.arange(64) + 1) - np.maximum(edges[:-1, None], np.arange(64)), 0, 1
    )
    means = np.einsum("ay,bx,yxc->abc", cover, cover, ramp) * (size / 64) ** 2
    assert np.abs(decode_jpeg(encode_jpeg(ramp), size) - means).max() < 8


@pytest.mark.parametrize("batch", [4, 7, 8, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_views_of_an_evaluation_are_all_of_them_in_order(batch: int, threads: int) -> None:
    split = changed(SPLIT, {**SEEN, 4: {"valid_frame": False}, 5: {"valid_frame": True}})
    for records, cameras in itertools.product((None, [20, 3, 4, 8]), ((), ("camera3", "camera1"))):
        done: list[int] = []
        indices = None if records is None else np.asarray(records)
        parts = list(pipeline.iterate_views(split, batch, indices, cameras, done.append, threads))
        expected = [
            (index, view)
            for index in (records or range(24))
            for view in (range(VIEWS) if not cameras else (1, 3))
            if view not in HIDDEN.get(index, ()) and index != 4
        ]
        joined = {
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(pipeline.Views)
        }
        assert list(zip(joined["record"].tolist(), joined["camera"].tolist(), strict=True)) == expected
        assert sum(done) == (24 if records is None else 4)
        for n, (index, view) in enumerate(expected):
            record = split.source[index]
            np.testing.assert_array_equal(joined["images"][n], picture(split, index, view))
            for name in ("pose", "intrinsics", "box"):
                np.testing.assert_array_equal(joined[name][n], record[name][view])
            assert (joined["time"][n], joined["sequence"][n]) == (record["time"], split.sequence_of[index])
        for part, following in itertools.pairwise(parts):
            assert len(part.images) <= batch, "no more than fit"
            whole = np.count_nonzero(following.record == following.record[0])
            assert len(part.images) + whole > batch, "and no fewer than whole records can be"


def test_damage_ends_an_evaluation_with_the_records_number() -> None:
    for index, change in ((5, {"images": [b"x"] * VIEWS}), (23, {"images": [b"x"] * VIEWS})):
        with refused(f"record {index}", "set/1.0.0:train"):
            list(pipeline.iterate_views(changed(SPLIT, {index: change}), 8))


def test_waiting_is_the_sum_of_what_each_batch_took(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 10.0, 11.0, 20.0, 20.5])
    monkeypatch.setattr(read_ahead.time, "perf_counter", lambda: next(clock))
    waiting = pipeline.Waiting(seconds=2.0)
    assert [step for step, _ in pipeline.read_ahead(lambda step: step, range(7, 10), waiting=waiting)] == [
        7,
        8,
        9,
    ]
    assert waiting.seconds == 2.0 + 3.0 + 1.0 + 0.5
