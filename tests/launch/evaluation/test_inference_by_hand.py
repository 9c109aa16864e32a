"""Predictions and figures of a split against loops, with a network whose answers are known."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.evaluation import inference, protocols
from mcss_jax.errors import UserError
from mcss_jax.skeleton import LHIP, RHIP, THORAX
from mcss_jax.training import parallel
from mcss_jax.training.state import PoseStatistics
from mcss_jax.training.train_step import Prediction
from tests.datasets.in_memory import VIEWS, changed, split_of
from tests.mcss_jax.test_metrics import slow_auc, slow_mpjpe, slow_n_mpjpe, slow_pa_mpjpe, slow_pck

STATE: Any = None
SPLIT = changed(split_of("test"), {3: {"view_valid": np.asarray([True, False, True, False])}})
FIGURES = {"mpjpe", "n_mpjpe", "pa_mpjpe", "mpjpe_canonical", "n_mpjpe_canonical", "pck_150mm", "auc"}


def answer(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embedding, canonical pose and rotation for one picture, drawn from a generator that its pixels seed."""
    rng = np.random.default_rng(int(picture.astype(np.int64).sum()) + 1)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return rng.normal(size=6), rng.normal(0, 200, (17, 3)), rotation * np.sign(np.linalg.det(rotation))


def embed(_: Any, images: np.ndarray) -> Prediction:
    """A network of which every picture's answer is known."""
    columns = zip(*map(answer, images), strict=True)
    return Prediction(*(jnp.asarray(np.stack(column), jnp.float32) for column in columns))


def look_through(intrinsics: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The shortest turn of the optical axis to the ray through the box's centre, by its axis and angle."""
    centre = (box[:2] + box[2:]) / 2
    focal, middle = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    ray = np.append((centre - middle) / focal, 1.0)
    ray /= np.linalg.norm(ray)
    axis = np.cross([0, 0, 1], ray)
    sine, cosine = np.linalg.norm(axis), ray[2]
    x, y, z = axis / sine
    cross = np.asarray([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + sine * cross + (1 - cosine) * cross @ cross


def canonical(pose: np.ndarray) -> np.ndarray:
    """Root-relative, along x from right to left hip, y up the spine."""
    pose = pose.astype(float) - pose[0]
    x = (pose[LHIP] - pose[RHIP]) / np.linalg.norm(pose[LHIP] - pose[RHIP])
    y = pose[THORAX] - (pose[THORAX] @ x) * x
    y /= np.linalg.norm(y)
    return pose @ np.stack([x, y, np.cross(x, y)], axis=1)


@pytest.fixture(scope="module")
def views() -> inference.Views:
    def of_one_size(state: Any, images: np.ndarray) -> Prediction:
        assert len(images) == 8, "the last batch is filled up"
        return embed(state, images)

    return inference.predict(STATE, pipeline.iterate_views(SPLIT, 8), size=8, embed=of_one_size)


def test_every_view_has_what_the_network_says_of_it(views: inference.Views) -> None:
    places = [(r, v) for r in range(SPLIT.records) for v in range(VIEWS) if r != 3 or v in (0, 2)]
    assert list(zip(views.record.tolist(), views.camera.tolist(), strict=True)) == places
    assert len(views) == 24 * 4 - 2 and views.has_pose
    for n, (index, view) in enumerate(places):
        record = SPLIT.source[index]
        embedding, pose, rotation = answer(SPLIT.picture(record, view))
        true = record["pose"][view].astype(float)
        turn = look_through(record["intrinsics"][view], record["box"][view].astype(float))
        assert (views.time[n], views.sequence[n]) == (record["time"], SPLIT.sequence_of[index])
        np.testing.assert_allclose(views.embedding[n], embedding, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(views.canonical[n], pose, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(views.in_camera[n], pose @ (turn @ rotation).T, atol=0.02)
        np.testing.assert_allclose(views.true_in_camera[n], true - true[0], atol=1e-3)
        np.testing.assert_allclose(views.true_canonical[n], canonical(true), atol=0.02)


def test_errors_are_those_of_their_names(views: inference.Views) -> None:
    """Predictions near the truth, so that shares of joints are neither all nor none."""
    rng, n = np.random.default_rng(0), 12
    some = views.select(np.arange(n))
    noise = rng.normal(size=(2, n, 17, 3)) * rng.uniform(20, 110, (2, n, 1, 1))
    near = dataclasses.replace(
        some,
        in_camera=(some.true_in_camera + noise[0]).astype(np.float32),
        canonical=(1.2 * some.true_canonical + noise[1]).astype(np.float32),
    )
    real = [
        (p.astype(float), t.astype(float)) for p, t in zip(near.in_camera, near.true_in_camera, strict=True)
    ]
    body = [
        (p.astype(float), t.astype(float)) for p, t in zip(near.canonical, near.true_canonical, strict=True)
    ]
    expected = {
        "mpjpe": [slow_mpjpe(*pair) for pair in real],
        "n_mpjpe": [slow_n_mpjpe(*(pose - pose[0] for pose in pair)) for pair in real],
        "pa_mpjpe": [slow_pa_mpjpe(*pair) for pair in body],
        "mpjpe_canonical": [slow_mpjpe(*pair) for pair in body],
        "n_mpjpe_canonical": [slow_n_mpjpe(*(pose - pose[0] for pose in pair)) for pair in body],
        "pck_150mm": [100 * slow_pck(*pair) for pair in real],
        "auc": [100 * slow_auc(*pair) for pair in real],
    }
    assert set(expected) == FIGURES
    errors, figures = inference.pose_errors(near), inference.pose_figures(near)
    labels = np.asarray(["a", "b", "b"] * 4)
    means = inference.means_by(errors, labels)
    assert list(means) == ["a", "b"] and (means["a"]["views"], means["b"]["views"]) == (4, 8)
    for name, values in expected.items():
        np.testing.assert_allclose(errors[name], values, rtol=1e-4, atol=1e-3)
        assert figures[name] == pytest.approx(np.mean(values), rel=1e-4)
        for label in "ab":
            of_label = [value for value, of in zip(values, labels, strict=True) if of == label]
            assert means[label][name] == pytest.approx(np.mean(of_label), rel=1e-4)
    assert 0 < figures["pck_150mm"] < 100 and len({round(value, 3) for value in figures.values()}) == 7


def test_views_are_grouped_by_their_sequences_action(views: inference.Views) -> None:
    labels = protocols.labels_of(SPLIT, views.record, views.sequence)
    expected = [f"action {sum(record >= first for first in (5, 11, 15))}" for record in views.record]
    assert {kind: names.tolist() for kind, names in labels.items()} == {"action": expected}


def test_without_true_poses_there_is_no_error(views: inference.Views) -> None:
    lost = np.array(views.true_canonical)
    lost[5, 3, 1] = np.nan
    assert not dataclasses.replace(views, true_canonical=lost).has_pose
    with pytest.raises(UserError, match="no true poses"):
        inference.pose_errors(dataclasses.replace(views, true_canonical=lost))


@pytest.mark.parametrize(("batch", "size"), [(8, 8), (11, 8), (1, 4)])
def test_a_choice_is_predicted_and_nothing_else(
    batch: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are of whole records, and one record at least."""
    sizes: list[int] = []

    def seen(state: Any, images: np.ndarray) -> Prediction:
        sizes.append(len(images))
        return embed(state, images)

    monkeypatch.setattr(parallel, "pmap_embed", lambda: seen)
    choice = protocols.choose(SPLIT, stride=5, cameras="camera2,camera0", exclude="S2 action 2")
    views = inference.predict_split(STATE, SPLIT, choice, batch=batch)
    left = [r for r in range(24) if not 11 <= r < 15][::5]
    assert list(zip(views.record.tolist(), views.camera.tolist(), strict=True)) == [
        (r, v) for r in left for v in (0, 2)
    ]
    assert set(sizes) == {size}


def test_the_mean_pose_is_said_for_every_view(views: inference.Views) -> None:
    rng = np.random.default_rng(4)
    mean, in_camera = rng.normal(size=(2, 17, 3)).astype(np.float32)
    constant = inference.mean_pose(views, PoseStatistics(jnp.asarray(mean), jnp.ones(())), in_camera)
    for n in range(len(views)):
        np.testing.assert_array_equal(constant.canonical[n], mean)
        np.testing.assert_array_equal(constant.in_camera[n], in_camera)
    for name in ("true_canonical", "true_in_camera", "record", "embedding"):
        np.testing.assert_array_equal(getattr(constant, name), getattr(views, name))
