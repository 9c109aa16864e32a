"""What a run learns from: the prepared set and the stream, their cards, labels and numbering."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.cli import options
from launch.runs.settings import Train
from launch.training import sources
from mcss_jax.errors import UserError
from tests.refusals import refused

TINY = options.build(Train, 
    dataset="synthetic_multiview/tiny", labelled="S1:0.5", labelled_batch=8, blocks=2, sequences=2, instants=2,
    workdir="x", validate_every=5, validation_stride=7,
)  # fmt: skip


@pytest.fixture
def config(prepared_tiny: Path) -> Train:
    return options.replace(TINY, data_dir=str(prepared_tiny))


def test_prepared_batches_are_those_of_their_step(config: Train) -> None:
    source = sources.Prepared(config)
    steps = {}
    for first, last in ((0, 4), (2, 4)):
        for step, batch in source.batches(first, last, pipeline.Waiting()):
            jax.tree.map(np.testing.assert_array_equal, batch, steps.setdefault(step, batch))
    assert steps.keys() == {0, 1, 2, 3}
    assert (steps[0].unlabelled.images != steps[1].unlabelled.images).any()


def test_labelled_poses_are_those_of_the_labelled(config: Train) -> None:
    source = sources.Prepared(config)
    half = source.card["labelled_instants"]
    assert source.labelled_poses.shape == (4 * half, 17, 3)
    assert not source.labelled_poses[:, 0].any(), "root-relative"
    whole = sources.Prepared(options.replace(config, labelled="S1"))
    assert whole.card["labelled_instants"] == 2 * half
    nobody = sources.Prepared(options.replace(config, labelled="none"))
    assert nobody.labelled_poses.shape == (0, 17, 3)
    _, batch = next(nobody.batches(0, 1, pipeline.Waiting()))
    assert set(batch.parts) == {"unlabelled"} and np.isnan(batch.unlabelled.pose).all()
    means = sources.means(nobody.labelled_poses)
    assert not means.in_camera.any() and float(means.statistics.scale) == 1.0


def test_label_sampling_reaches_the_batches_and_the_card(config: Train) -> None:
    uniform = sources.Prepared(config)
    assert uniform.card["label_sampling"] == "uniform"
    assert uniform.card["specification"]["size"] == 64
    poses = {}
    for seed in (0, 1):
        chunk = sources.Prepared(options.replace(config, label_sampling="chunk", seed=seed))
        assert chunk.card["label_sampling"] == "chunk" and chunk.card["labelled"] == "S1:0.5"
        assert chunk.card["labelled_instants"] == uniform.card["labelled_instants"] == 8 * 3
        poses[seed] = chunk.labelled_poses
    other = sources.Prepared(options.replace(config, label_sampling="chunk", labelled_batch=4, steps=7))
    np.testing.assert_array_equal(other.labelled_poses, poses[0])
    assert (poses[0] != poses[1]).any() and (poses[0] != uniform.labelled_poses).any()


def test_validation_views_are_of_other_people(config: Train) -> None:
    source = sources.Prepared(config)
    actual = source.validation()
    assert actual is not None
    views, size = actual
    first = list(views)
    # No more at a time than an update has: 8 labelled, twice 8 unlabelled.
    assert max(len(v.images) for v in first) == size == 24
    records = np.concatenate([v.record for v in first])
    assert set(np.diff(np.unique(records))) == {TINY.run.validation_stride} and len(records) == 7 * 4
    assert np.isfinite(np.concatenate([v.pose for v in first])).all()
    for changes in ({"validate_every": 0}, {"validation_split": ""}):
        assert sources.Prepared(options.replace(config, **changes)).validation() is None


def test_a_baseline_has_neither_blocks_nor_unlabelled_people(config: Train) -> None:
    source = sources.Prepared(options.replace(config, method="baseline"))
    _, batch = next(source.batches(0, 1, pipeline.Waiting()))
    assert set(batch.parts) == {"labelled"}
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
        UserError, match="has instants without poses and cannot judge a run; set --validation_split="
    ):
        sources.Prepared(options.replace(config, labelled="none"))
    with refused("--method=baseline", "--labelled=all"):
        sources.Prepared(options.replace(config, labelled="all", method="baseline"))
    with pytest.raises(UserError, match="--labelled leaves no labelled instant"):
        sources.Prepared(options.replace(config, labelled="all", validation_split=""))


def test_an_augmented_positive_is_the_same_picture_twice(config: Train) -> None:
    pairs = {}
    for positives in ("views", "augmented"):
        source = sources.Prepared(options.replace(config, positives=positives))
        _, batch = next(source.batches(0, 1, pipeline.Waiting()))
        pairs[positives] = batch
    views, augmented = (pairs[name].unlabelled.images for name in ("views", "augmented"))
    assert (views[:, 0] != views[:, 1]).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(augmented[:, 0], augmented[:, 1])
    # The control changes the second picture and nothing else.
    np.testing.assert_array_equal(augmented[:, 0], views[:, 0])
    jax.tree.map(np.testing.assert_array_equal, pairs["views"].labelled, pairs["augmented"].labelled)
