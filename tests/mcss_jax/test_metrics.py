"""Pose errors against plain float64 loops, and their values at the edges of the definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import metrics

ALL = [metrics.mpjpe, metrics.n_mpjpe, metrics.pa_mpjpe, metrics.pck, metrics.auc]
ERRORS = ALL[:3]


def slow_mpjpe(p: np.ndarray, g: np.ndarray) -> float:
    return float(np.mean([np.linalg.norm((p[j] - p[0]) - (g[j] - g[0])) for j in range(17)]))


def slow_n_mpjpe(p: np.ndarray, g: np.ndarray) -> float:
    p, g = p - p[0], g - g[0]
    return slow_mpjpe((p * g).sum() / (p * p).sum() * p, g)


def slow_pa_mpjpe(p: np.ndarray, g: np.ndarray) -> float:
    p, g = p - p.mean(0), g - g.mean(0)
    u, s, vt = np.linalg.svd(g.T @ p)
    sign = np.sign(np.linalg.det(u @ vt))
    s[2] *= sign
    aligned = s.sum() / (p * p).sum() * p @ (u @ np.diag([1, 1, sign]) @ vt).T
    return float(np.mean(np.linalg.norm(aligned - g, axis=1)))


def slow_pck(p: np.ndarray, g: np.ndarray, threshold: float = 150.0) -> float:
    errors = np.linalg.norm((p - p[0]) - (g - g[0]), axis=1)
    kept = [e for j, e in enumerate(errors) if j not in (0, 7, 9)]
    return sum(e < threshold for e in kept) / 14


def slow_auc(p: np.ndarray, g: np.ndarray) -> float:
    return float(np.mean([slow_pck(p, g, t) for t in range(0, 151, 5)]))


SLOW = [slow_mpjpe, slow_n_mpjpe, slow_pa_mpjpe, slow_pck, slow_auc]


def poses(seed: int, n: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 17, 3)) * [150, 120, 400] + [0, 0, 4000]


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


@pytest.mark.parametrize(("fast", "slow"), list(zip(ALL, SLOW, strict=True)))
def test_against_plain_loops(fast, slow):
    target = poses(0)
    pred = target + np.random.default_rng(1).normal(size=target.shape) * np.linspace(1, 150, 7)[:, None, None]
    pred, target = pred.astype(np.float32).astype(np.float64), target.astype(np.float32).astype(np.float64)
    expected = [slow(p, g) for p, g in zip(pred, target, strict=True)]
    np.testing.assert_allclose(fast(pred, target), expected, rtol=2e-6, atol=1e-3)
    np.testing.assert_array_equal(fast(jnp.asarray(pred), jnp.asarray(target)), fast(pred, target))


@pytest.mark.parametrize("metric", ALL)
def test_any_leading_shape(metric, monkeypatch):
    pred, target = poses(2), poses(3)
    flat = np.asarray(metric(pred, target))
    assert flat.dtype == np.float32 and metric(pred[0], target[0]).shape == ()
    np.testing.assert_allclose(
        metric(pred[:6].reshape(3, 2, 17, 3), target[:6].reshape(3, 2, 17, 3)),
        flat[:6].reshape(3, 2),
        rtol=1e-6,
    )
    assert metric(pred[:0], target[:0]).shape == (0,)
    assert metric(np.zeros((2, 0, 17, 3)), np.zeros((2, 0, 17, 3))).shape == (2, 0)
    monkeypatch.setattr(metrics, "SMALL_CHUNK", 2)
    monkeypatch.setattr(metrics, "CHUNK", 3)
    np.testing.assert_allclose(metric(pred, target), flat, rtol=1e-6)


def test_definitions_by_construction():
    target = poses(4, 1)[0]
    shifted = target + [10, 20, 30]
    assert float(metrics.mpjpe(shifted, target)) == pytest.approx(0, abs=1e-3)
    one_joint = target.copy()
    one_joint[3] += [30, 0, 40]
    assert float(metrics.mpjpe(one_joint, target)) == pytest.approx(50 / 17, abs=1e-3)
    # A wrong root moves the other sixteen.
    root = target.copy()
    root[0] += [0, 17, 0]
    assert float(metrics.mpjpe(root, target)) == pytest.approx(16, abs=1e-3)


def test_pck_is_strict_and_counts_14_joints():
    target = np.zeros((17, 3))
    exactly, below = target.copy(), target.copy()
    exactly[16, 0], below[16, 0] = 150.0, 149.99
    assert float(metrics.pck(exactly, target)) == pytest.approx(13 / 14)
    assert float(metrics.pck(below, target)) == 1.0
    others = target.copy()
    others[[7, 9]] = 1000.0
    assert float(metrics.pck(others, target)) == 1.0
    assert float(metrics.pck(exactly, target, threshold=151.0)) == 1.0


def test_pck_and_auc_count_the_joints_that_are_named():
    """One joint of two is right, and right below every threshold but zero."""
    target = np.zeros((17, 3), np.float32)
    pred = target.copy()
    pred[[7, 9], 0] = 1e4
    assert float(metrics.pck(pred, target, joints=(7, 8))) == 0.5
    assert float(metrics.pck(pred, target)) == 1.0, "neither 7 nor 9 is among the fourteen"
    assert float(metrics.auc(pred, target, joints=(9, 10))) == pytest.approx(0.5 * 30 / 31)


def test_auc_ends_at_30_of_31():
    assert float(metrics.auc(np.ones((17, 3)), np.ones((17, 3)))) == pytest.approx(30 / 31)
    far = np.zeros((17, 3))
    far[1:] = 1000.0
    assert float(metrics.auc(far, np.zeros((17, 3)))) == 0.0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_invariances(seed, scale, shift):
    rng = np.random.default_rng(seed)
    target = poses(seed, 1)[0] - [0, 0, 4000]
    assert float(metrics.n_mpjpe(scale * target, target)) < 2e-3
    moved = scale * (target @ rotation(rng).T + shift)
    assert float(metrics.pa_mpjpe(moved, target)) < 4e-3
    # A mirrored pose is another pose, unless it is flat.
    assert float(metrics.pa_mpjpe(target * [-1, 1, 1], target)) > 1.0
    flat = target * [1, 1, 0]
    assert float(metrics.pa_mpjpe(flat * [-1, 1, 1], flat)) < 4e-3


ZERO, LINE, POSE = np.zeros((17, 3)), np.arange(17.0)[:, None] * [1, 2, -3], poses(5, 1)[0]
EDGES = [
    (ZERO, ZERO),
    (ZERO, POSE),
    (POSE, ZERO),
    (ZERO + 5, POSE),
    (POSE, ZERO + 5),
    (LINE, POSE),
    (POSE, LINE),
    (LINE, -LINE),
    (-POSE, POSE),
    (POSE * 1e-30, POSE * 1e-30),
    (POSE * 1e-30, POSE),
    (POSE * 1e30, POSE),
    (POSE * 1e30, -POSE * 1e30),
    (np.clip(poses(6, 1)[0] * 1e38, -3.4e38, 3.4e38), -np.clip(poses(6, 1)[0] * 1e38, -3.4e38, 3.4e38)),
]


@pytest.mark.parametrize("metric", ALL)
def test_never_nan(metric):
    pred, target = (np.stack([edge[i] for edge in EDGES]).astype(np.float32) for i in (0, 1))
    values = np.asarray(metric(pred, target))
    assert not np.isnan(values).any() and (values >= 0).all()
    assert np.isfinite(values[:10]).all()


def test_values_at_degenerate_poses():
    spread = np.mean(np.linalg.norm(POSE - POSE.mean(0), axis=1))
    assert float(metrics.pa_mpjpe(ZERO, POSE)) == pytest.approx(spread, rel=1e-6)
    assert float(metrics.pa_mpjpe(POSE, ZERO + 5)) == 0.0
    assert float(metrics.pa_mpjpe(LINE * 7, -LINE)) == pytest.approx(0, abs=1e-3)
    assert float(metrics.n_mpjpe(ZERO, POSE)) == pytest.approx(slow_mpjpe(ZERO, POSE), rel=1e-6)
    assert float(metrics.n_mpjpe(POSE, ZERO)) == 0.0


@pytest.mark.parametrize("metric", ERRORS)
def test_gradients_are_finite(metric):
    pred, target = (jnp.asarray(np.stack([edge[i] for edge in EDGES[:9]]), jnp.float32) for i in (0, 1))
    for gradient in jax.grad(lambda p, g: jnp.sum(metric(p, g)), argnums=(0, 1))(pred, target):
        assert np.isfinite(gradient).all()
