"""What may move the parameters and what may not, on one device."""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax import skeleton
from mcss_jax.training import train_step
from mcss_jax.training.batch import Batch, Part
from mcss_jax.training.state import PoseStatistics, TrainState, pose_statistics
from tests.mcss_jax.steps import TINY, leaves, make_batch, make_state, poses, two_blocks

KEY = jax.random.key(1)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def state() -> TrainState:
    return make_state()


@pytest.fixture(scope="module")
def step() -> Callable:
    """One compilation for every test of a full batch."""
    return jax.jit(partial(train_step.train_step, TINY))


def assert_same(first: dict | TrainState, second: dict | TrainState) -> None:
    a, b = leaves(first), leaves(second)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def changed(batch: Batch, part: Part, rows: object, **values: object) -> Batch:
    """A copy of the batch in which `rows` of some columns of `part` hold other values."""
    columns = {}
    for name, value in values.items():
        columns[name] = getattr(batch.parts[part], name).copy()
        columns[name][rows] = value
    return dataclasses.replace(batch, **{part: dataclasses.replace(batch.parts[part], **columns)})


def test_a_step_is_a_pure_function_and_reports_everything(state: TrainState, step: Callable) -> None:
    first, report = step(state, make_batch(), KEY)
    second, again = step(state, make_batch(), KEY)
    assert_same(first, second)
    assert_same(report, again)
    assert int(first.step) == 1
    assert set(report) == {
        "loss", "loss_pose", "loss_rotation", "loss_metric", "train_mpjpe_canonical", "positive_distance",
        "negative_distance", "mined_pose_distance", "false_negatives", "anchors_with_negative", "negatives",
        "embedding_variance", "gradient_norm", "learning_rate",
    }  # fmt: skip
    assert all(np.isfinite(value) and value.shape == () for value in report.values())
    total = sum(float(report[name]) for name in ("loss_pose", "loss_rotation", "loss_metric"))
    assert float(report["loss"]) == pytest.approx(total, rel=1e-5)
    moved = [
        name for name, leaf in leaves(state.params).items() if (leaf != leaves(first.params)[name]).any()
    ]
    assert len(moved) == len(leaves(state.params)), "the first update reaches every parameter"
    # Other keys, and the same key at another step, augment otherwise.
    for other in (step(state, make_batch(), jax.random.key(2)), step(
        dataclasses.replace(state, step=np.asarray(1, np.int32)), make_batch(), KEY
    )):  # fmt: skip
        assert float(other[1]["loss"]) != float(report["loss"])


def test_learning_lowers_the_loss(state: TrainState, step: Callable) -> None:
    now, losses = state, []
    for _ in range(30):
        now, report = step(now, make_batch(), KEY)
        losses.append(float(report["loss_pose"]))
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_unlabelled_poses_never_move_a_parameter(state: TrainState, step: Callable) -> None:
    """They are logged, nothing else: NaN, garbage and the truth train the same network."""
    clean, report = step(state, make_batch(), KEY)
    for garbage in (np.nan, 1e6, np.inf, 0.0):
        poisoned, actual = step(state, changed(make_batch(), "unlabelled", slice(None), pose=garbage), KEY)
        assert_same(clean, poisoned)
        assert {n for n in report if actual[n] != report[n]} <= {"mined_pose_distance", "false_negatives"}
    assert np.isnan(
        float(step(state, changed(make_batch(), "unlabelled", slice(None), pose=np.nan), KEY)[1]["mined_pose_distance"])
    )  # fmt: skip


@pytest.mark.parametrize(
    ("part", "row", "values"),
    [
        ("labelled", 1, {"pose": np.nan, "box": np.nan, "intrinsics": np.nan}),
        ("labelled", 1, {"pose": 1e5}),
        ("unlabelled", 2, {"time": 77.0, "group": 9, "sequence": 9, "pose": 1.0}),
    ],
)
def test_damaged_rows_contribute_nothing(
    state: TrainState, step: Callable, part: str, row: int, values: dict
) -> None:
    clean, report = step(state, make_batch(), KEY)
    dirty, actual = step(state, changed(make_batch(), part, row, **values), KEY)
    assert_same(clean, dirty)
    assert_same(report, actual)


def test_rows_without_a_valid_one_leave_the_loss_defined(state: TrainState, step: Callable) -> None:
    batch = changed(make_batch(), "labelled", slice(None), valid=False, pose=0.0)
    batch = changed(batch, "unlabelled", slice(None), valid=False, pose=np.nan)
    after, report = step(state, batch, KEY)
    assert float(report["loss"]) == 0.0 and float(report["gradient_norm"]) == 0.0
    assert np.isnan(float(report["loss_pose"])) and np.isnan(float(report["loss_metric"]))
    assert all(np.isfinite(leaf).all() for leaf in leaves(after.params).values())


def test_an_unknown_camera_is_one_that_looks_at_the_person(state: TrainState, step: Callable) -> None:
    unknown = changed(make_batch(), "labelled", slice(None), intrinsics=np.nan)
    _, report = step(state, unknown, KEY)
    no_box = changed(make_batch(), "labelled", slice(None), box=np.nan)
    assert_same(report, step(state, no_box, KEY)[1])
    assert np.isfinite(float(report["loss"]))


def test_a_baseline_has_no_unlabelled_part(state: TrainState, step: Callable) -> None:
    _, report = step(state, make_batch(unlabelled=0), KEY)
    assert "loss_metric" not in report and np.isfinite(float(report["loss"]))


def test_no_labels_leave_the_regressor_alone(state: TrainState) -> None:
    calm = dataclasses.replace(TINY, optimiser=dataclasses.replace(TINY.optimiser, weight_decay=0.0))
    after, report = jax.jit(partial(train_step.train_step, calm))(state, make_batch(labelled=0), KEY)
    assert "loss_pose" not in report and "train_mpjpe_canonical" not in report
    assert float(report["loss"]) == pytest.approx(float(report["loss_metric"]))
    assert_same(after.params["regressor"], state.params["regressor"])
    before = leaves(state.params["encoder"])
    assert any((leaf != before[name]).any() for name, leaf in leaves(after.params["encoder"]).items())


def test_targets_follow_the_crop_and_the_mirror() -> None:
    """Canonical pose and rotation give the pose back, in the virtual camera and mirrored where flipped."""
    data = make_batch().labelled
    flipped = np.arange(8) % 2 == 0
    canonical, rotation = jax.jit(train_step._targets)(data, data.box, flipped)
    turn = train_step.geometry.look_through(data.intrinsics, data.box)
    centred = data.pose - data.pose[:, :1]
    for i in range(8):
        expected = centred[i] @ np.asarray(turn[i])
        if flipped[i]:
            expected = expected[list(skeleton.MIRROR)] * (-1, 1, 1)
        expected = expected if data.valid[i] else 0 * expected
        turned = np.asarray(canonical[i]) @ np.asarray(rotation[i]).T
        np.testing.assert_allclose(turned, expected, atol=2e-2)


def test_pose_statistics() -> None:
    pose = poses(np.random.default_rng(0), 50)
    mean, scale = pose_statistics(jnp.asarray(pose))
    canonical = np.asarray(jax.jit(skeleton.canonicalise)(pose)[0], np.float64)
    np.testing.assert_allclose(mean, canonical.mean(0), atol=1e-2)
    assert float(scale) == pytest.approx((canonical - canonical.mean(0)).std(), rel=1e-4)
    mean, scale = pose_statistics(jnp.zeros((0, 17, 3)))
    assert not np.asarray(mean).any() and float(scale) == 1.0
    # One pose has no spread; the scale stays usable.
    assert float(pose_statistics(jnp.asarray(pose[:1]))[1]) == 1.0


def test_embed_step_uses_the_running_statistics(state: TrainState) -> None:
    images = make_batch().labelled.images
    embed = jax.jit(train_step.embed_step)
    together = embed(state, images)
    np.testing.assert_allclose(jnp.linalg.norm(together.embedding, axis=1), 1.0, rtol=1e-5)
    product = np.einsum("nij,nik->njk", together.rotation, together.rotation)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), (8, 3, 3)), atol=1e-5)
    others = images.copy()
    others[1:] = 0
    apart = embed(state, others)
    jax.tree.map(
        lambda a, b: partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)(a[0], b[0]), together, apart
    )
    # Standardisation is undone: deviations from the mean pose grow with the scale.
    mean, scale = state.statistics
    wide = embed(dataclasses.replace(state, statistics=PoseStatistics(mean, 2 * scale)), images)
    deviation, wider = (np.asarray(prediction.canonical) - mean for prediction in (together, wide))
    np.testing.assert_allclose(wider, 2 * deviation, rtol=1e-3, atol=1e-2)
