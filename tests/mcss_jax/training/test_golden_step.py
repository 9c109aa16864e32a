"""Five updates of a tiny network from fixed draws: the numbers that they gave when this was written."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.augment import Augmentation
from mcss_jax.method import Method, Network, Objective, Optimiser
from mcss_jax.training import train_step
from tests.mcss_jax.steps import make_batch, make_state, two_blocks

EXPECTED = Path(__file__).with_name("golden_step.json")
UPDATES = 5
METHODS = {
    "resnet, triplet": Method(
        Network(width=8, embedding_dim=8, stem="patch8", hidden=8, layers=1),
        Objective(
            margin=0.6, metric_weight=0.8, rotation_weight=0.7, across_groups=False, temperature_end=0.05
        ),
        Optimiser(steps=8, learning_rate=5e-3, warmup_steps=2, weight_decay=0.05, clip_norm=0.7),
        Augmentation(scale=0.2, shift=0.1, colour=0.6, occlusion=0.5),
    ),
    "vit, infonce": Method(
        Network(
            encoder="vit",
            vit_patch=8,
            vit_size=12,
            vit_layers=2,
            vit_heads=3,
            embedding_dim=8,
            hidden=8,
            layers=1,
        ),
        Objective(metric_loss="infonce", infonce_temperature=0.3, across_groups=True),
        Optimiser(steps=8, learning_rate=5e-3, warmup_steps=0),
        Augmentation(scale=0.0, shift=0.0, colour=0.0, occlusion=0.0, flip=False),
    ),
}
# Random draws are JAX's own and the same for ever; what they scale is float32 arithmetic. Rounding differs between
# processors and versions of XLA, and updates of AdamW amplify it: from jax 0.10 to 0.12 by 1e-3 at most.
TOLERANCE = 5e-3


def figures(method: Method) -> dict[str, list[float]]:
    """Reports of the updates, and sums over the parameters of each part of the network after the last."""
    step = jax.jit(lambda s, b, key: train_step.train_step(method, s, b, key))
    now: Any = dataclasses.replace(make_state(method), step=np.zeros((), np.int32))
    key = jax.random.wrap_key_data(jnp.asarray([3, 14], jnp.uint32), impl="threefry2x32")
    reports: dict[str, list[float]] = {}
    for number in range(UPDATES):
        now, report = step(now, make_batch(number), key)
        for name, value in report.items():
            reports.setdefault(name, []).append(float(value))
    for part, params in now.params.items():
        leaves = jax.tree.leaves(params)
        reports[f"sum of squares, {part}"] = [float(sum(jnp.sum(x.astype(jnp.float32) ** 2) for x in leaves))]
    return reports


@pytest.mark.parametrize("name", METHODS)
def test_five_updates(name: str) -> None:
    """`python -m tests.mcss_jax.training.test_golden_step` writes them anew, where a change is meant."""
    expected = json.loads(EXPECTED.read_text())[name]
    with two_blocks():
        actual = figures(METHODS[name])
    assert actual.keys() == expected.keys()
    for figure, values in expected.items():
        np.testing.assert_allclose(actual[figure], values, rtol=TOLERANCE, atol=TOLERANCE, err_msg=figure)


if __name__ == "__main__":
    with two_blocks():
        EXPECTED.write_text(json.dumps({name: figures(of) for name, of in METHODS.items()}, indent=1) + "\n")
