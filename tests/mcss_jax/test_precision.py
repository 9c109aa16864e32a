"""bfloat16 is the encoder's activations' alone; whatever is kept, compared or summed stays in float32."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.networks.convolution import Conv
from mcss_jax.networks.pixels import standardise
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.training import train_step
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState
from tests.mcss_jax.steps import TINY, darken, leaves, make_batch, make_state, two_blocks

KEY = jax.random.key(1)
HALF = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, precision="bfloat16"))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "augment", darken)
        yield


def gradients_of(method: Any) -> Any:
    def gradient(state: TrainState, batch: Batch) -> Any:
        return jax.value_and_grad(train_step._loss, has_aux=True)(
            state.params, method, state, batch, KEY, None
        )

    return jax.jit(gradient)(make_state(method), make_batch())


def test_everything_kept_is_float32_and_near_it() -> None:
    (loss, (statistics, sums, _)), gradients = gradients_of(HALF)
    kept = leaves({"loss": loss, "statistics": statistics, "sums": sums, "gradients": gradients})
    assert {leaf.dtype for leaf in kept.values()} == {np.dtype(np.float32)}
    assert {leaf.dtype for leaf in leaves(make_state(HALF).params).values()} == {np.dtype(np.float32)}
    (exact, (_, exact_sums, _)), exact_gradients = gradients_of(TINY)
    assert float(loss) == pytest.approx(float(exact), rel=0.05) and float(loss) != float(exact)
    for name, (total, count) in exact_sums.items():
        assert sums[name][1] == count and float(sums[name][0]) == pytest.approx(float(total), rel=0.15), name
    a, b = (np.concatenate([x.ravel() for x in leaves(g).values()]) for g in (gradients, exact_gradients))
    assert a @ b > 0.9 * np.linalg.norm(a) * np.linalg.norm(b), "the gradients point the same way"


def test_activations_are_bfloat16() -> None:
    """Of every convolution and normalisation; features, embedding and answers are float32 again."""

    def everything(state: TrainState, images: jax.Array) -> Any:
        return PoseNetwork(HALF.network).apply(
            state.variables,
            standardise(images),
            True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, _: isinstance(module, Conv) or module.name == "bn",
        )

    shapes = jax.eval_shape(everything, make_state(HALF), make_batch().labelled.images)
    answers, updates = shapes
    inside = jax.tree.leaves(updates["intermediates"])
    assert len(inside) > 8 and {x.dtype for x in inside} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in answers} == {jnp.dtype(jnp.float32)}
    assert {x.dtype for x in jax.tree.leaves(updates["batch_stats"])} == {jnp.dtype(jnp.float32)}
