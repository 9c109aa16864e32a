"""Clipping, AdamW and its schedule in NumPy, and every setting of theirs."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.method import Method, Network, Optimiser
from mcss_jax.training import train_step
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.mcss_jax.steps import poses


def state(step: int) -> TrainState:
    statistics = PoseStatistics(jnp.asarray(poses(np.random.default_rng(9), 1)[0] * 0.01), jnp.asarray(90.0))
    return TrainState(jnp.asarray(step, jnp.int32), {"params": {}}, (), statistics, Network())


OPTIMISER = Optimiser(steps=12, learning_rate=0.05, warmup_steps=3, weight_decay=0.3, clip_norm=2.0)
CHANGED_OPTIMISER: dict[str, Any] = {
    "steps": 7,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "weight_decay": 0.02,
    "clip_norm": 30.0,
}
UPDATES = 6


def weights() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = {
        "kernel": (3, 4),
        "bias": (4,),
        "scale": (2, 1, 4),
    }  # a learned position has axes as a kernel has
    return {"layer": {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}}


def gradients(step: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda w: (2.0 * rng.normal(size=w.shape) ** 3).astype(np.float32), weights())


def rate(of: Optimiser, step: int) -> float:
    """Linear from zero over the warm-up (half of a short run), then half a cosine to zero."""
    warmup = min(of.warmup_steps, of.steps // 2)
    if step < warmup:
        return of.learning_rate * step / warmup
    share = min((step - warmup) / (of.steps - warmup), 1.0)
    return of.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def trained_by_hand(of: Optimiser) -> dict[str, np.ndarray]:
    """Clipping to a global norm, then AdamW, its decay on kernels alone."""
    w = {name: x.astype(np.float64) for name, x in weights()["layer"].items()}
    m, v = ({name: np.zeros_like(x) for name, x in w.items()} for _ in range(2))
    for step in range(UPDATES):
        g = {name: x.astype(np.float64) for name, x in gradients(step)["layer"].items()}
        norm = math.sqrt(sum((x * x).sum() for x in g.values()))
        factor = min(1.0, of.clip_norm / norm)
        for name in w:
            clipped = g[name] * factor
            m[name] = 0.9 * m[name] + 0.1 * clipped
            v[name] = 0.999 * v[name] + 0.001 * clipped**2
            direction = (m[name] / (1 - 0.9 ** (step + 1))) / (
                np.sqrt(v[name] / (1 - 0.999 ** (step + 1))) + 1e-8
            )
            decay = of.weight_decay * w[name] if name == "kernel" else 0.0
            w[name] = w[name] - rate(of, step) * (direction + decay)
    return w


def trained(of: Optimiser) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    method = Method(optimiser=of)
    params: Any = jax.tree.map(jnp.asarray, weights())
    now = dataclasses.replace(
        state(0),
        variables={"params": params},
        opt_state=train_step.transformation(of).init(params),
    )
    step = jax.jit(lambda s, g: train_step.update(method, s, jnp.zeros(()), g, {}, {}, None))
    for number in range(UPDATES):
        now, report = step(now, gradients(number))
    assert int(now.step) == UPDATES
    return now.params["layer"], {name: float(value) for name, value in report.items()}


@pytest.mark.parametrize("field", ["none", *CHANGED_OPTIMISER])
def test_the_optimiser(field: str) -> None:
    of = OPTIMISER if field == "none" else dataclasses.replace(OPTIMISER, **{field: CHANGED_OPTIMISER[field]})
    actual, report = trained(of)
    expected, base = trained_by_hand(of), trained_by_hand(OPTIMISER)
    for name, leaf in expected.items():
        np.testing.assert_allclose(actual[name], leaf, rtol=2e-4, atol=1e-6, err_msg=name)
    if field != "none":
        assert any(np.abs(expected[name] - base[name]).max() > 1e-3 for name in base), "the change shows"
    last = gradients(UPDATES - 1)["layer"].values()
    assert report["gradient_norm"] == pytest.approx(
        math.sqrt(sum(float((g**2).sum()) for g in last)), rel=1e-4
    )
    assert report["learning_rate"] == pytest.approx(rate(of, UPDATES - 1), rel=1e-4)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 100), (2, 100), (10, 100), (5, 0)])
def test_short_runs_reach_the_peak_and_end_near_zero(steps: int, warmup: int) -> None:
    of = Optimiser(steps=steps, learning_rate=0.5, warmup_steps=warmup)
    rates = [float(train_step.schedule(of)(jnp.asarray(step))) for step in range(steps + 1)]
    np.testing.assert_allclose(rates[:steps], [rate(of, step) for step in range(steps)], rtol=1e-5)
    assert max(rates) == pytest.approx(0.5) and rates[-1] == pytest.approx(0.0, abs=1e-6)


def test_no_setting_is_without_its_formula() -> None:
    assert {field.name for field in dataclasses.fields(Optimiser)} == set(CHANGED_OPTIMISER)
