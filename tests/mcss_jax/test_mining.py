"""The temporal rule against a loop, the soft minimum against its definition, and the schedule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import mining

negative_mask = jax.jit(mining.negative_mask, static_argnames=("min_gap", "across_groups"))
hardest = jax.jit(mining.hardest)
slope_of_hardest = jax.jit(jax.grad(lambda *given: jnp.sum(mining.hardest(*given)[0])))

INSTANTS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 6)), min_size=6, max_size=6
)


def mask_by_loops(rows: list, columns: list, gap: float, across: bool) -> np.ndarray:
    out = np.zeros((len(rows), len(columns)), bool)
    for i, (group, sequence, time) in enumerate(rows):
        for j, (other_group, other_sequence, other_time) in enumerate(columns):
            if group != other_group:
                out[i, j] = across
            elif sequence != other_sequence:
                out[i, j] = True
            else:
                out[i, j] = time != other_time and abs(time - other_time) >= gap
    return out


def arrays(instants: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sequence numbers are unique over the groups; ticks are quarters of a second."""
    group, sequence, tick = np.asarray(instants, np.int32).T
    return group, 2 * group + sequence, tick.astype(np.float32) / 4


def tuples(instants: list) -> list:
    return [(g, 2 * g + s, t / 4) for g, s, t in instants]


@settings(max_examples=60, deadline=None)
@given(INSTANTS, INSTANTS, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.booleans())
def test_negative_mask_against_loops(rows: list, columns: list, gap: float, across: bool) -> None:
    expected = mask_by_loops(tuples(rows), tuples(rows), gap, across)
    mask = np.asarray(negative_mask(*arrays(rows), gap, across))
    np.testing.assert_array_equal(mask, expected)
    assert not np.diag(mask).any()
    np.testing.assert_array_equal(mask, mask.T)
    both = negative_mask(*arrays(rows), gap, across, columns=arrays(columns))
    np.testing.assert_array_equal(both, mask_by_loops(tuples(rows), tuples(columns), gap, across))


@pytest.mark.parametrize("start", [0.0, 33.3, 3600.0, 10000.0])
@pytest.mark.parametrize("rate", [25, 30, 50, 60])
def test_a_gap_of_whole_frames_is_met_and_one_frame_less_is_not(start: float, rate: int) -> None:
    """At any common frame rate, anywhere in a long recording, in float32."""
    frames = start + np.arange(40) / rate
    time = frames.astype(np.float32)
    same = np.zeros(40, np.int32)
    mask = np.asarray(negative_mask(same, same, time, 10 / rate, False))
    apart = np.abs(np.arange(40)[:, None] - np.arange(40)[None, :])
    np.testing.assert_array_equal(mask, apart >= 10)


def test_groups_meet_only_when_asked() -> None:
    group = np.asarray([0, 1], np.int32)
    time = np.zeros(2, np.float32)
    assert not np.asarray(negative_mask(group, group, time, 0.5, False)).any()
    np.testing.assert_array_equal(negative_mask(group, group, time, 0.5, True), ~np.eye(2, dtype=bool))


def soft_by_loops(distances: np.ndarray, mask: np.ndarray, temperature: float) -> np.ndarray:
    out = np.zeros(len(distances))
    for i, (row, allowed) in enumerate(zip(distances.astype(np.float64), mask, strict=True)):
        candidates = [d for d, ok in zip(row, allowed, strict=True) if ok]
        if candidates and temperature == 0:
            out[i] = min(candidates)
        elif candidates:
            out[i] = -temperature * np.log(
                np.mean(np.exp(-(np.asarray(candidates) - min(candidates)) / temperature))
            )
            out[i] += min(candidates)
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 1e-3, 0.05, 0.1, 1.0, 10.0]))
def test_hardest_against_loops(seed: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    distances = rng.uniform(0, 2, (6, 9)).astype(np.float32)
    mask = rng.uniform(size=(6, 9)) < rng.uniform(0, 1)
    value, index, has_negative = hardest(distances, mask, temperature)
    np.testing.assert_allclose(value, soft_by_loops(distances, mask, temperature), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(has_negative, mask.any(axis=1))
    for i in range(6):
        allowed = np.flatnonzero(mask[i])
        assert index[i] == (allowed[np.argmin(distances[i, allowed])] if len(allowed) else 0)


def test_temperature_runs_from_the_minimum_to_the_mean() -> None:
    distances = np.asarray([[0.5, 1.0, 1.2, 0.1]], np.float32)
    mask = np.asarray([[True, True, True, False]])
    values = [float(hardest(distances, mask, t)[0][0]) for t in (0.0, 1e-6, 0.1, 1.0, 100.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0.5) and values[1] == pytest.approx(0.5, abs=1e-5)
    assert values[-1] == pytest.approx(0.9, abs=2e-3)


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0])
def test_more_copies_of_the_negatives_change_nothing(temperature: float) -> None:
    """The margin means the same at every batch size."""
    rng = np.random.default_rng(0)
    distances, mask = rng.uniform(0, 2, (4, 5)).astype(np.float32), rng.uniform(size=(4, 5)) < 0.7
    once = hardest(distances, mask, temperature)[0]
    often = hardest(np.tile(distances, (1, 6)), np.tile(mask, (1, 6)), temperature)[0]
    np.testing.assert_allclose(often, once, rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_rows_without_negatives_and_ties(temperature: float) -> None:
    distances = jnp.asarray([[0.3, 0.3, 0.3], [0.2, 0.2, 0.9], [0.0, 0.0, 0.0]])
    mask = jnp.asarray([[False, False, False], [False, True, True], [True, True, True]])
    value, index, has_negative = hardest(distances, mask, temperature)
    np.testing.assert_array_equal(has_negative, [False, True, True])
    np.testing.assert_array_equal(index, [0, 1, 0])
    assert value[0] == 0.0 and value[2] == pytest.approx(0.0, abs=1e-6)
    slope = slope_of_hardest(distances, mask, temperature)
    assert np.isfinite(slope).all() and not np.asarray(slope)[~np.asarray(mask)].any()
    np.testing.assert_allclose(jnp.sum(slope, axis=1), [0, 1, 1], atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 1e-30, 0.05, 1.0])
def test_gradient_is_the_softmax_over_negatives(temperature: float) -> None:
    rng = np.random.default_rng(1)
    distances, mask = rng.uniform(0, 2, (3, 6)).astype(np.float32), rng.uniform(size=(3, 6)) < 0.8
    slope = slope_of_hardest(distances, mask, temperature)
    for i in range(3):
        row = np.where(mask[i], distances[i].astype(np.float64), np.inf)
        weight = np.exp(-(row - row.min()) / max(temperature, 1e-9))
        np.testing.assert_allclose(slope[i], weight / weight.sum(), atol=1e-5)


def test_temperature_schedule() -> None:
    values = [float(mining.temperature_at(step, 1.0, 0.01, 100)) for step in (0, 50, 100, 1000)]
    assert values == pytest.approx([1.0, 0.1, 0.01, 0.01], rel=1e-5)
    to_hardest = [float(mining.temperature_at(step, 0.1, 0.0, 10)) for step in range(12)]
    assert to_hardest[0] == pytest.approx(0.1) and all(t > 0 for t in to_hardest[:10])
    assert to_hardest[:10] == sorted(to_hardest[:10], reverse=True)
    assert to_hardest[10:] == [0.0, 0.0]
    assert float(mining.temperature_at(5, 0.0, 0.0, 10)) == 0.0
    assert float(mining.temperature_at(0, 0.1, 0.2, 0)) == pytest.approx(0.1)
    assert float(mining.temperature_at(1, 0.1, 0.2, 0)) == pytest.approx(0.2)
