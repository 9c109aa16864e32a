"""What a run learns from: the prepared set and the stream, their cards, labels and numbering."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from datasets import pipeline
from launch import sources
from launch.settings import Train

TINY = Train(
    dataset="synthetic_multiview/tiny", labelled="S1:0.5", labelled_batch=8, blocks=2, sequences=2, instants=2,
    workdir="x", validate_every=5, validation_stride=7,
)  # fmt: skip


@pytest.fixture
def config(prepared_tiny: Path) -> Train:
    return dataclasses.replace(TINY, data_dir=str(prepared_tiny))


def test_prepared_batches_are_those_of_their_step(config: Train) -> None:
    source = sources.Prepared(config)
    steps = {}
    for first, last in ((0, 4), (2, 4)):
        for step, batch in source.batches(first, last, pipeline.Waiting()):
            for part in batch:
                for name, column in batch[part].items():
                    if (step, part, name) in steps:
                        np.testing.assert_array_equal(column, steps[step, part, name])
                    steps[step, part, name] = column
    assert {step for step, _, _ in steps} == {0, 1, 2, 3}
    assert (steps[0, "unlabelled", "images"] != steps[1, "unlabelled", "images"]).any()


def test_labelled_poses_are_those_of_the_labelled(config: Train) -> None:
    source = sources.Prepared(config)
    half = source.card["labelled_instants"]
    assert source.labelled_poses.shape == (4 * half, 17, 3)
    assert not source.labelled_poses[:, 0].any(), "root-relative"
    whole = sources.Prepared(dataclasses.replace(config, labelled="S1"))
    assert whole.card["labelled_instants"] == 2 * half
    nobody = sources.Prepared(dataclasses.replace(config, labelled="none"))
    assert nobody.labelled_poses.shape == (0, 17, 3)
    _, batch = next(nobody.batches(0, 1, pipeline.Waiting()))
    assert set(batch) == {"unlabelled"} and np.isnan(batch["unlabelled"]["pose"]).all()
    means = sources.means(nobody.labelled_poses)
    assert not means.in_camera.any() and float(means.statistics.scale) == 1.0


def test_label_sampling_reaches_the_batches_and_the_card(config: Train) -> None:
    uniform = sources.Prepared(config)
    assert uniform.card["label_sampling"] == "uniform"
    assert uniform.card["specification"]["size"] == 64
    poses = {}
    for seed in (0, 1):
        chunk = sources.Prepared(dataclasses.replace(config, label_sampling="chunk", seed=seed))
        assert chunk.card["label_sampling"] == "chunk" and chunk.card["labelled"] == "S1:0.5"
        assert chunk.card["labelled_instants"] == uniform.card["labelled_instants"] == 8 * 3
        poses[seed] = chunk.labelled_poses
    other = sources.Prepared(dataclasses.replace(config, label_sampling="chunk", labelled_batch=4, steps=7))
    np.testing.assert_array_equal(other.labelled_poses, poses[0])
    assert (poses[0] != poses[1]).any() and (poses[0] != uniform.labelled_poses).any()


def test_validation_views_are_of_other_people(config: Train) -> None:
    source = sources.Prepared(config)
    found = source.validation()
    assert found is not None
    views, size = found
    first = list(views)
    assert max(len(v.images) for v in first) <= size
    records = np.concatenate([v.record for v in first])
    assert set(np.diff(np.unique(records))) == {TINY.validation_stride} and len(records) == 7 * 4
    assert np.isfinite(np.concatenate([v.pose for v in first])).all()
    for changes in ({"validate_every": 0}, {"validation_split": ""}):
        assert sources.Prepared(dataclasses.replace(config, **changes)).validation() is None


def test_a_baseline_has_neither_blocks_nor_unlabelled_people(config: Train) -> None:
    source = sources.Prepared(dataclasses.replace(config, method="baseline"))
    _, batch = next(source.batches(0, 1, pipeline.Waiting()))
    assert set(batch) == {"labelled"}
    assert source.card["unlabelled_subjects"] == [] and source.card["unlabelled_instants"] == 0


def without_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    original = pipeline.open_split

    def opened(*given: Any) -> pipeline.Split:
        split = original(*given)
        table = tuple(dataclasses.replace(row, has_pose=False) for row in split.table)
        return dataclasses.replace(split, table=table)

    monkeypatch.setattr(pipeline, "open_split", opened)


def test_sets_without_poses(config: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    without_poses(monkeypatch)
    with pytest.raises(
        ValueError, match="has instants without poses and cannot judge a run; set --validation_split="
    ):
        sources.Prepared(dataclasses.replace(config, labelled="none"))
    with pytest.raises(
        ValueError, match="--method=baseline learns from labels alone, but --labelled=all leaves none"
    ):
        sources.Prepared(dataclasses.replace(config, labelled="all", method="baseline"))
    with pytest.raises(ValueError, match="--labelled leaves no labelled instant"):
        sources.Prepared(dataclasses.replace(config, labelled="all", validation_split=""))


class Recorder:
    """Stands in for the renderer: remembers what was asked of it, draws nothing."""

    def __init__(self, real: Any) -> None:
        self.StreamConfig, self.asked = real.StreamConfig, []

    def stream_batch(self, seed: int, step: int, config: Any) -> Any:
        self.asked.append((seed, step, config))
        n, v, s = config.groups * config.sequences * config.instants, config.views, config.size
        subject = jnp.asarray(config.subjects)[jnp.arange(n) % len(config.subjects)].astype(jnp.int32)
        return SimpleNamespace(
            images=jnp.zeros((n, v, s, s, 3), jnp.uint8), pose=jnp.ones((n, v, 17, 3)), subject=subject,
            intrinsics=jnp.ones((n, v, 3, 3)), box=jnp.ones((n, v, 4)), camera=jnp.zeros((n, v), jnp.int32),
            sequence=jnp.arange(n, dtype=jnp.int32), time=jnp.zeros(n),
        )  # fmt: skip


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    from datasets.synthetic_multiview import stream as real

    recorder = Recorder(real)
    for name in ("stream_batch",):
        monkeypatch.setattr(real, name, getattr(recorder, name))
    return recorder


def numbers(asked: tuple[int, int, Any]) -> range:
    """The sequences that a call renders, as `stream_batch` numbers them."""
    _, step, config = asked
    per_step = config.groups * config.sequences
    return range(step * per_step, (step + 1) * per_step)


def test_the_parts_of_a_stream_share_their_people_and_no_motion(stream: Recorder) -> None:
    """One seed, so that S1 with labels is S1 without; numbers apart, so that no motion is seen twice."""
    config = dataclasses.replace(TINY, stream=True, stream_size=16, labelled="S1, S3", labelled_batch=48)
    source = sources.Streamed(config)
    batches = list(source.batches(0, 3, pipeline.Waiting())) + list(
        source.batches(10**6, 10**6 + 1, pipeline.Waiting())
    )
    found = source.validation()
    assert found is not None
    views, size = found
    assert [len(v.images) for v in views] == [size] * 4
    assert {seed for seed, _, _ in stream.asked} == {config.seed}
    people: dict[tuple[int, ...], list[range]] = {}
    for asked in stream.asked[1:]:  # the first one reads the labelled poses alone
        people.setdefault(asked[2].subjects, []).append(numbers(asked))
    assert set(people) == {(1, 3), (1, 2, 3, 4, 5), (6,)}
    spans = sorted((min(r.start for r in rs), max(r.stop for r in rs)) for rs in people.values())
    assert all(before[1] <= after[0] for before, after in zip(spans, spans[1:], strict=False))
    assert spans[-1][1] * 2 + 1 < 2**31, "numbers stay within int32"
    step, batch = batches[-1]
    assert step == 10**6 and batch["labelled"]["images"].shape == (48, 16, 16, 3)
    pose = np.asarray(batch["unlabelled"]["pose"])
    subject = np.asarray(batch["unlabelled"]["group"])
    np.testing.assert_array_equal(np.isnan(pose).all(axis=(1, 2)), ~np.isin(subject, (1, 3)))
    assert source.card["labelled_subjects"] == ["S1", "S3"] and source.skipped().records == 0


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"label_sampling": "chunk"}, "--label_sampling=chunk has no meaning with --stream"),
        ({"mix_groups": True}, "--mix_groups has no meaning with --stream"),
    ],
)
def test_what_a_stream_cannot_do(stream: Recorder, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sources.Streamed(dataclasses.replace(TINY, stream=True, labelled="S1", **changes))


def test_parts_of_a_stream_that_are_not_asked_for(stream: Recorder) -> None:
    config = dataclasses.replace(TINY, stream=True, stream_size=16, labelled="all", labelled_batch=4)
    baseline = sources.open_source(dataclasses.replace(config, method="baseline", validate_every=0))
    assert set(next(baseline.batches(0, 1, pipeline.Waiting()))[1]) == {"labelled"}
    assert baseline.validation() is None and baseline.card["unlabelled_subjects"] == []
    alone = sources.open_source(dataclasses.replace(config, labelled="none"))
    assert set(next(alone.batches(0, 1, pipeline.Waiting()))[1]) == {"unlabelled"}
    assert alone.labelled_poses.shape == (0, 17, 3)
