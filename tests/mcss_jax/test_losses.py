"""The triplet loss against explicit triplets in loops, blocks against one piece, and the pose losses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import losses

GAP = 0.5


def mined(
    x: jax.Array,
    of: losses.Instants,
    candidates: jax.Array,
    of_candidates: losses.Instants,
    *,
    min_gap: float,
    across_groups: bool,
    temperature: float,
    block: int = 2048,
) -> losses.Triplets:
    pairs = losses.Pairs(x, of, candidates, of_candidates, min_gap, across_groups)
    return losses.mine(pairs, temperature, block=block)


mine = jax.jit(mined, static_argnames=("min_gap", "across_groups", "block"))
triplet = jax.jit(losses.triplet, static_argnums=1)


def batch(seed: int, n: int = 9, dim: int = 6) -> tuple[np.ndarray, losses.Instants]:
    rng = np.random.default_rng(seed)
    embedding = rng.normal(size=(n, 2, dim))
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    group = rng.integers(0, 3, n)
    instants = losses.Instants(
        group=group.astype(np.int32),
        sequence=(2 * group + rng.integers(0, 2, n)).astype(np.int32),
        time=(rng.integers(0, 6, n) / 4).astype(np.float32),
        valid=rng.uniform(size=n) < 0.8,
    )
    return embedding.astype(np.float32), instants


def loss_by_loops(
    embedding: np.ndarray, instants: losses.Instants, margin: float, across: bool, temperature: float
) -> tuple[float, float]:
    """Every explicit (anchor, positive, negative), then the hardest or the soft minimum of each anchor."""
    n = len(embedding)
    total, count = 0.0, 0
    x = embedding.astype(np.float64)
    for i in range(n):
        for view in range(2):
            negatives = []
            for j in range(n):
                same = instants.group[i] == instants.group[j]
                apart = instants.sequence[i] != instants.sequence[j] or (
                    instants.time[i] != instants.time[j] and abs(instants.time[i] - instants.time[j]) >= GAP
                )
                if not (instants.valid[i] and instants.valid[j] and (apart if same else across)):
                    continue
                negatives += [np.linalg.norm(x[i, view] - x[j, other]) for other in range(2)]
            if negatives:
                d = np.asarray(negatives)
                hard = d.min()
                if temperature > 0:
                    hard -= temperature * np.log(np.mean(np.exp(-(d - hard) / temperature)))
                total += max(0.0, margin + np.linalg.norm(x[i, 0] - x[i, 1]) - hard)
                count += 1
    return total, float(count)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31 - 1), st.sampled_from([0.1, 0.3, 2.0]), st.booleans(), st.sampled_from([0.0, 0.1])
)
def test_triplet_against_explicit_triplets(
    seed: int, margin: float, across: bool, temperature: float
) -> None:
    embedding, instants = batch(seed)
    triplets = mine(
        embedding, instants, embedding, instants, min_gap=GAP, across_groups=across, temperature=temperature
    )
    total, count = triplet(triplets, margin)
    expected = loss_by_loops(embedding, instants, margin, across, temperature)
    assert (float(total), float(count)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_line_of_embeddings() -> None:
    """Instants on a line at 0, 1, 2, 10, half a second apart: the nearest that the gap allows is known."""
    at = np.asarray([0.0, 1.0, 2.0, 10.0], np.float32)
    embedding = np.stack([np.stack([at, 0 * at], -1), np.stack([at, 0 * at + 0.25], -1)], axis=1)
    same = np.zeros(4, np.int32)
    instants = losses.Instants(same, same, np.arange(4, dtype=np.float32) / 2, np.ones(4, bool))
    options = {"across_groups": False, "temperature": 0.0}
    near = mine(embedding, instants, embedding, instants, min_gap=0.5, **options)
    np.testing.assert_allclose(near.positive, 0.25)
    # The hardest is the same view of the neighbour; of the equal ones at 0 and 2 the first.
    np.testing.assert_array_equal(near.mined, [2, 3, 0, 1, 2, 3, 4, 5])
    np.testing.assert_allclose(near.negative, [1, 1, 1, 1, 1, 1, 8, 8], rtol=1e-6)
    total, count = triplet(near, 1.0)
    assert (float(total), float(count)) == pytest.approx((6 * 0.25, 8))
    far = mine(embedding, instants, embedding, instants, min_gap=1.0, **options)
    np.testing.assert_array_equal(far.mined, [4, 5, 6, 7, 0, 1, 2, 3])


@pytest.fixture(scope="module")
def loss_and_slope() -> Callable:
    def loss(x: jax.Array, anchors: losses.Instants, temperature: float, block: int) -> tuple[jax.Array, Any]:
        options = {"min_gap": GAP, "across_groups": True, "temperature": temperature}
        triplets = mined(x, anchors, x, anchors, **options, block=block)
        return losses.triplet(triplets, 0.5)[0], triplets

    return jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnames="block")


@pytest.mark.parametrize("temperature", [0.0, 0.1])
@pytest.mark.parametrize("block", [1, 7, 18])
def test_blocks_change_nothing(loss_and_slope: Callable, block: int, temperature: float) -> None:
    embedding, instants = batch(5)
    (whole, expected), of_whole = loss_and_slope(embedding, instants, temperature, block=2048)
    (blocked, triplets), of_blocked = loss_and_slope(embedding, instants, temperature, block=block)
    assert float(blocked) == pytest.approx(float(whole), rel=1e-6)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), triplets, expected)
    np.testing.assert_allclose(of_blocked, of_whole, atol=1e-6)


def test_rows_are_a_share_of_the_candidates() -> None:
    """One replica's rows against everybody's columns are rows of the whole."""
    embedding, instants = batch(6)
    options = {"min_gap": GAP, "across_groups": True, "temperature": 0.1}
    whole = mine(embedding, instants, embedding, instants, **options)
    share = losses.Instants(*(x[3:6] for x in instants))
    part = mine(embedding[3:6], share, embedding, instants, **options)
    for actual, expected in zip(part, whole, strict=True):
        np.testing.assert_allclose(actual, expected[6:12], rtol=1e-5)


def test_nothing_to_learn_from_is_zero_of_zero() -> None:
    embedding, instants = batch(7)
    nobody = instants._replace(valid=np.zeros(9, bool))
    alone = losses.Instants(*(x[:1] for x in instants))

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def loss(x: jax.Array, anchors: losses.Instants) -> tuple[jax.Array, jax.Array]:
        options = {"min_gap": GAP, "across_groups": True, "temperature": 0.1}
        return losses.triplet(mined(x, anchors, x, anchors, **options), 0.3)

    for x, anchors in ((embedding, nobody), (embedding[:1], alone)):
        (value, count), slope = loss(x, anchors)
        assert (float(value), float(count)) == (0.0, 0.0)
        assert not np.asarray(slope).any()


def test_invalid_instants_are_neither_anchors_nor_negatives() -> None:
    embedding, instants = batch(8)
    assert not instants.valid.all()
    options = {"min_gap": GAP, "across_groups": True, "temperature": 0.1}
    garbage = np.where(instants.valid[:, None, None], embedding, 1e3).astype(np.float32)
    for margin in (0.3, 2.0):
        clean, dirty = (
            triplet(mine(x, instants, x, instants, **options), margin) for x in (embedding, garbage)
        )
        assert float(clean[0]) == pytest.approx(float(dirty[0]), rel=1e-6) and clean[1] == dirty[1]
    keep = instants.valid
    kept = losses.Instants(*(x[keep] for x in instants))
    without = triplet(mine(embedding[keep], kept, embedding[keep], kept, **options), 0.3)
    clean = triplet(mine(embedding, instants, embedding, instants, **options), 0.3)
    assert float(without[0]) == pytest.approx(float(clean[0]), rel=1e-5) and without[1] == clean[1]


def test_pose_loss() -> None:
    rng = np.random.default_rng(0)
    predicted, target = rng.normal(size=(2, 4, 17, 3)).astype(np.float32)
    valid = np.asarray([True, False, True, False])
    target[1] = np.nan
    (total, count), slope = jax.jit(jax.value_and_grad(losses.pose, has_aux=True))(predicted, target, valid)
    expected = sum(np.abs(predicted[i] - target[i]).mean() for i in (0, 2))
    assert (float(total), float(count)) == pytest.approx((expected, 2.0))
    assert np.isfinite(slope).all() and not np.asarray(slope)[~valid].any()


def test_rotation_loss() -> None:
    half_turn = np.diag([1.0, -1.0, -1.0]).astype(np.float32)
    quarter = np.asarray([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    same = np.eye(3, dtype=np.float32)
    predicted = np.stack([half_turn, quarter, same, same])
    target = np.stack([same, same, same, np.full((3, 3), np.nan, np.float32)])
    loss = jax.jit(losses.rotation)
    single = [float(loss(predicted, target, np.arange(4) == i)[0]) for i in range(3)]
    assert single == pytest.approx([1.0, 0.5, 0.0])
    total, count = loss(predicted, target, np.asarray([True, True, True, False]))
    assert (float(total), float(count)) == pytest.approx((1.5, 3.0))
    # Twice the difference over 8; a row that does not count has no gradient, whatever its target.
    slope = jax.jit(jax.grad(losses.rotation, has_aux=True))(predicted, target, np.arange(4) < 3)[0]
    np.testing.assert_allclose(slope[:3], (predicted - target)[:3] / 4, atol=1e-6)
    assert not np.asarray(slope[3]).any()


def test_memory_is_linear_in_the_batch() -> None:
    """Forward and backward, as compiled: four times the anchors take four times the memory, not sixteen."""

    def loss(embedding: jax.Array, instants: losses.Instants) -> jax.Array:
        triplets = mined(
            embedding, instants, embedding, instants, min_gap=GAP, across_groups=True, temperature=0.1
        )
        return losses.triplet(triplets, 0.5)[0]

    def temporary(anchors: int) -> int:
        shape, n = jax.ShapeDtypeStruct, anchors // 2
        instants = losses.Instants(*(shape((n,), kind) for kind in ("int32", "int32", "float32", "bool")))
        lowered = jax.jit(jax.grad(loss)).lower(shape((n, 2, 128), "float32"), instants)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    small, large = temporary(4096), temporary(16384)
    assert large < 4.1 * small
    assert large < 16384**2 * 4, "less than one matrix of all distances"
