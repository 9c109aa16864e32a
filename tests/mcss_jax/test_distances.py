"""Distances against float64, their gradients against finite differences, and points that coincide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import distances

pairwise, rowwise = jax.jit(distances.pairwise), jax.jit(distances.rowwise)


def loops(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            out[i, j] = np.sqrt(np.sum((a[i].astype(np.float64) - b[j]) ** 2))
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.1, 1.0, 30.0]))
def test_values(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = (scale * rng.normal(size=(n, 8)).astype(np.float32) for n in (5, 7))
    expected = loops(a, b)
    np.testing.assert_allclose(pairwise(a, b), expected, rtol=2e-5, atol=1e-3 * scale)
    np.testing.assert_allclose(rowwise(a, b[:5]), np.diag(expected), rtol=1e-6)


def test_unit_vectors_close_together() -> None:
    """The documented error of the Gram matrix near zero, and none in `rowwise`."""
    rng = np.random.default_rng(1)
    a = rng.normal(size=(200, 64))
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    b = a + 1e-5 * rng.normal(size=a.shape)
    a, b = a.astype(np.float32), b.astype(np.float32)
    truth = np.linalg.norm(a.astype(np.float64) - b, axis=1)
    assert np.abs(np.diag(pairwise(a, b)) - truth).max() < 1e-3
    np.testing.assert_allclose(rowwise(a, b), truth, rtol=1e-5)


@pytest.mark.parametrize("of", [0, 1])
def test_gradients_against_finite_differences(of: int) -> None:
    rng = np.random.default_rng(2)
    points = [rng.normal(size=(4, 3)), rng.normal(size=(5, 3))]
    weight = rng.normal(size=(4, 5))

    def value(*arrays: jax.Array) -> jax.Array:
        return jnp.sum(jnp.asarray(weight, jnp.float32) * distances.pairwise(*arrays))

    gradient = jax.jit(jax.grad(value, argnums=of))(*(jnp.asarray(p, jnp.float32) for p in points))
    for index in np.ndindex(points[of].shape):
        ends = []
        for sign in (1, -1):
            moved = [p.copy() for p in points]
            moved[of][index] += sign * 1e-5
            difference = moved[0][:, None] - moved[1][None]
            ends.append(np.sum(weight * np.sqrt(np.sum(difference**2, -1))))
        assert gradient[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-3, abs=1e-4)


def test_identical_points_have_distance_and_gradient_zero() -> None:
    a = jnp.asarray(np.random.default_rng(3).normal(size=(3, 4)), jnp.float32)
    assert not np.asarray(rowwise(a, a)).any()
    assert not np.asarray(jax.grad(lambda x: jnp.sum(distances.rowwise(x, a)))(a)).any()
    same = jnp.ones((3, 4))
    assert not np.asarray(pairwise(same, same)).any()
    for x in (same, a):
        assert np.isfinite(jax.grad(lambda x: jnp.sum(distances.pairwise(x, x)))(x)).all()


def test_bfloat16_is_computed_in_float32() -> None:
    rng = np.random.default_rng(4)
    a, b = (jnp.asarray(rng.normal(size=(6, 32)), jnp.bfloat16) for _ in range(2))
    expected = loops(np.asarray(a, np.float32), np.asarray(b, np.float32))
    assert pairwise(a, b).dtype == rowwise(a, b).dtype == jnp.float32
    np.testing.assert_allclose(pairwise(a, b), expected, rtol=1e-5)
    np.testing.assert_allclose(rowwise(a, b), np.diag(expected), rtol=1e-5)
