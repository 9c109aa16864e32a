"""Every metric loss by explicit pairs in loops, its gradient by differences, and what all of them owe the step."""

import dataclasses
import math
from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.method import MetricLoss, Objective
from mcss_jax.metric_losses.registry import metric_loss
from mcss_jax.pairs import Instants, Pairs

OBJECTIVE = Objective(margin=0.4, infonce_temperature=0.2)
TEMPERATURE = 0.3
Anchor = Callable[[float, list[float]], float]


def hinge(positive: float, negatives: list[float]) -> float:
    least = -TEMPERATURE * math.log(sum(math.exp(-d / TEMPERATURE) for d in negatives) / len(negatives))
    return max(0.0, OBJECTIVE.margin + positive - least)


def entropy(positive: float, negatives: list[float]) -> float:
    own, *others = (math.exp((1 - d * d / 2) / OBJECTIVE.infonce_temperature) for d in (positive, *negatives))
    return -math.log(own / (own + sum(others)))


BY_LOOPS: dict[MetricLoss, Anchor] = {"triplet": hinge, "infonce": entropy}
# The settings of the objective that each reads itself.
READS: dict[MetricLoss, set[str]] = {"triplet": {"margin"}, "infonce": {"infonce_temperature"}}


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    rng = np.random.default_rng(1)
    embedding = rng.normal(size=(7, 2, 5)) + [1.0, 0, 0, 0, 0]
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    of = Instants(
        group=np.asarray([0, 0, 0, 1, 1, 2, 0], np.int32),
        sequence=np.asarray([0, 0, 1, 2, 2, 3, 1], np.int32),
        time=np.asarray([0, 1, 0, 0, 0.25, 0, 9], np.float32),
        valid=np.asarray([True] * 6 + [False]),
    )
    x = embedding.astype(np.float32)
    return Pairs(jnp.asarray(x), of, jnp.asarray(x), of, 0.5, False)


def allowed(of: Instants, i: int, j: int) -> bool:
    """By hand, for the fixture's rule: the own group alone, half a second apart or in another sequence."""
    if not (of.valid[i] and of.valid[j]) or of.group[i] != of.group[j]:
        return False
    return bool(of.sequence[i] != of.sequence[j] or abs(of.time[i] - of.time[j]) >= 0.5)


def test_every_name_has_its_loops() -> None:
    assert set(get_args(MetricLoss)) == set(BY_LOOPS) == set(READS)


@pytest.mark.parametrize("name", BY_LOOPS)
def test_against_explicit_pairs(name: MetricLoss, pairs: Pairs) -> None:
    term = jax.jit(lambda p: metric_loss(name)(p, OBJECTIVE, TEMPERATURE))(pairs)
    x, of = np.asarray(pairs.embedding, np.float64), pairs.instants
    losses, positives, nearest = [], [], []
    for i in range(7):
        for view in range(2):
            others = {
                2 * j + other: float(np.linalg.norm(x[i, view] - x[j, other]))
                for j in range(7)
                for other in range(2)
                if allowed(of, i, j)
            }
            anchor = 2 * i + view
            assert bool(term.has_negative[anchor]) == bool(others)
            if others:
                positive = float(np.linalg.norm(x[i, 0] - x[i, 1]))
                losses.append(BY_LOOPS[name](positive, list(others.values())))
                positives.append(positive)
                nearest.append(min(others.values()))
                assert int(term.mined[anchor]) == min(others, key=others.__getitem__)
    assert len(losses) == 6, "three instants of one group have negatives"
    assert float(term.total) == pytest.approx(sum(losses), rel=1e-4)
    assert float(term.anchors) == len(losses)
    total, count = term.figures["positive_distance"]
    assert (float(total), float(count)) == pytest.approx((sum(positives), 6.0), rel=1e-4)
    total, count = term.figures["negative_distance"]
    assert float(count) == 6.0 and min(nearest) * 6 <= float(total) + 1e-4


@pytest.mark.parametrize("name", BY_LOOPS)
def test_gradients_are_those_of_differences(name: MetricLoss, pairs: Pairs) -> None:
    """Finite where nobody has a negative, where views coincide, and for instants that do not count."""

    @jax.jit
    @jax.value_and_grad
    def loss(x: jax.Array, p: Pairs) -> jax.Array:
        return metric_loss(name)(
            dataclasses.replace(p, embedding=x, candidates=x), OBJECTIVE, TEMPERATURE
        ).total

    _, slope = loss(pairs.embedding, pairs)
    assert not slope[6].any(), "an instant that is not valid"
    direction = np.random.default_rng(2).normal(size=pairs.embedding.shape).astype(np.float32)
    step = 1e-3  # small enough not to cross a corner of the hinge
    difference = (
        float(loss(pairs.embedding + step * direction, pairs)[0])
        - float(loss(pairs.embedding - step * direction, pairs)[0])
    ) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(difference, rel=0.05, abs=0.02)
    nobody = dataclasses.replace(pairs, instants=pairs.instants._replace(valid=np.zeros(7, bool)))
    for x, p in ((pairs.embedding, nobody), (np.ones_like(pairs.embedding), pairs)):
        value, slope = loss(x, p)
        assert np.isfinite(float(value)) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", BY_LOOPS)
def test_one_replicas_anchors_are_a_part_of_all(name: MetricLoss, pairs: Pairs) -> None:
    loss = jax.jit(lambda p: metric_loss(name)(p, OBJECTIVE, TEMPERATURE))
    pairs = dataclasses.replace(pairs, across_groups=True)  # negatives lie in the other replica's rows too
    whole = loss(pairs)
    shares = []
    for rows in (slice(0, 3), slice(3, 7)):
        of = Instants(*(x[rows] for x in pairs.instants))
        shares.append(loss(dataclasses.replace(pairs, embedding=pairs.embedding[rows], instants=of)))
    assert sum(float(share.total) for share in shares) == pytest.approx(float(whole.total), rel=1e-5)
    assert sum(float(share.anchors) for share in shares) == float(whole.anchors)


@pytest.mark.parametrize("setting", sorted(set.union(*READS.values())))
@pytest.mark.parametrize("name", BY_LOOPS)
def test_a_loss_reads_its_own_settings(name: MetricLoss, setting: str, pairs: Pairs) -> None:
    changed = dataclasses.replace(OBJECTIVE, **{setting: 0.05})
    before, after = (float(metric_loss(name)(pairs, of, TEMPERATURE).total) for of in (OBJECTIVE, changed))
    assert (before != after) == (setting in READS[name])
