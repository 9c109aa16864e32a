"""Which key augments which sample."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.augment import Augmentation
from mcss_jax.method import Method, Network
from mcss_jax.training import train_step
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.mcss_jax.steps import make_batch, poses

BATCH = make_batch(labelled=6, unlabelled=12)
AUGMENTATION = Augmentation(scale=0.2)


def state(step: int) -> TrainState:
    statistics = PoseStatistics(jnp.asarray(poses(np.random.default_rng(9), 1)[0] * 0.01), jnp.asarray(90.0))
    return TrainState(jnp.asarray(step, jnp.int32), {"params": {}}, (), statistics, Network())


def test_every_sample_of_every_part_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run, step, part and place in the global batch are folded in, in this order."""

    def told(keys: jax.Array, views: jax.Array, box: jax.Array, of: Augmentation) -> Any:
        assert of == AUGMENTATION
        draw = jax.vmap(jax.random.uniform)(keys)
        return views.astype(jnp.float32), box * 0 + draw[:, None, None], draw < 0.5

    monkeypatch.setattr(train_step, "augment", told)
    monkeypatch.setattr(train_step, "PoseNetwork", lambda network, axis_name: Answers())
    method, rng = Method(augmentation=AUGMENTATION), jax.random.key(8)
    batch: Batch = jax.tree.map(jnp.asarray, BATCH)
    moved = dataclasses.replace(
        batch, labelled=dataclasses.replace(batch.labelled, sample=batch.labelled.sample + 30)
    )
    for step in (0, 37):
        _, (_, made) = train_step.forward(method, {}, state(step), moved, rng, None)
        for number, part in enumerate(("labelled", "unlabelled")):
            keys = [
                jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(rng, step), number), int(sample))
                for sample in moved.parts[part].sample
            ]
            expected = [float(jax.random.uniform(key)) for key in keys]
            np.testing.assert_allclose(made[part].box[:, 0], expected, rtol=1e-6)


class Answers:
    """A network that looks at nothing."""

    def apply(self, variables: Any, images: jax.Array, train: bool, mutable: Any) -> Any:
        assert train
        n = len(images)
        return (jnp.zeros((n, 2)), jnp.zeros((n, 17, 3)), jnp.zeros((n, 6))), {}
