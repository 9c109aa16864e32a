"""What every encoder must do, whatever kind it is: shapes, kinds of numbers, one state in training and afterwards."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.method import EncoderName, Network
from mcss_jax.networks.encoder import ENCODERS
from mcss_jax.training import accumulation, parallel, train_step
from mcss_jax.training.state import TrainState
from tests.mcss_jax.steps import SIZE, TINY, leaves, make_batch, make_state, two_blocks
from tests.mcss_jax.training.test_parallel import compilations

KEY = jax.random.key(1)
SMALL: dict[EncoderName, dict[str, Any]] = {
    "resnet": {},
    "vit": {"vit_patch": 8, "vit_size": 12, "vit_layers": 2, "vit_heads": 3},
}
METHODS = {
    name: dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, encoder=name, **sizes))
    for name, sizes in SMALL.items()
}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


def test_every_name_is_an_encoder() -> None:
    assert set(get_args(EncoderName)) == set(ENCODERS) == set(SMALL), "a new encoder is tested here too"


@pytest.fixture(scope="module", params=SMALL)
def name(request: pytest.FixtureRequest) -> EncoderName:
    return request.param


@pytest.fixture(scope="module")
def state(name: EncoderName) -> TrainState:
    return make_state(METHODS[name])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_and_embedding(name: EncoderName, precision: Any) -> None:
    network = dataclasses.replace(METHODS[name].network, precision=precision)
    encoder = ENCODERS[name](network, None)
    pictures = jnp.asarray(np.random.default_rng(0).normal(size=(5, SIZE, SIZE, 3)), jnp.float32)
    variables = encoder.init(KEY, pictures)
    features, embedding = jax.jit(encoder.apply, static_argnums=2)(variables, pictures, False)
    assert features.ndim == 2 and embedding.shape == (5, network.embedding_dim)
    assert {x.dtype for x in (features, embedding, *jax.tree.leaves(variables))} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1.0, rtol=1e-5)
    assert len(np.unique(np.round(features, 6), axis=0)) == 5, "pictures are told apart"


def test_a_step_reaches_every_parameter(name: EncoderName, state: TrainState) -> None:
    step = jax.jit(train_step.train_step, static_argnums=0)
    after, report = step(METHODS[name], state, make_batch(), KEY)
    assert np.isfinite(float(report["loss"])) and after.variables.keys() == state.variables.keys()
    before = leaves(state.params)
    still = [path for path, leaf in leaves(after.params).items() if (leaf == before[path]).all()]
    # A key's bias moves all logits of a query alike, so softmax gives it no gradient; it moves by decay alone, or not.
    assert not still
    moved = leaves(after.collections)
    assert all((leaf != leaves(state.collections)[path]).any() for path, leaf in moved.items())


def test_parts_and_devices(name: EncoderName) -> None:
    """Accumulated in two parts on two devices, twice: the state keeps its form, and nothing is compiled again."""
    method = METHODS[name]
    step = parallel.mapped_step(method, "pmap", jax.local_devices()[:2], 2)
    now: Any = parallel.replicate(make_state(method))
    wanted = jax.tree.structure(now)
    for number in range(2):
        with compilations() as compiled:
            now, report = jax.block_until_ready(step(now, make_batch(number), KEY))
        assert jax.tree.structure(now) == wanted and np.isfinite(float(report["loss"]))
    assert not compiled


def test_an_encoder_without_batch_statistics_accumulates_exactly() -> None:
    """No picture's features depend on another's: two parts are the whole batch."""
    method, batch = METHODS["vit"], make_batch()
    state = make_state(method)
    assert state.collections == {}
    whole = jax.jit(train_step.train_step, static_argnums=0)(method, state, batch, KEY)
    parts = jax.jit(accumulation.accumulated_step, static_argnums=0, static_argnames="parts")(
        method, state, batch, KEY, parts=2
    )
    for path, leaf in leaves(whole[0].opt_state).items():
        np.testing.assert_allclose(leaves(parts[0].opt_state)[path], leaf, atol=2e-5, err_msg=path)
    assert float(parts[1]["loss"]) == pytest.approx(float(whole[1]["loss"]), rel=1e-5)


def test_how_a_network_is_trained_does_not_compile_its_inference_again(
    name: EncoderName, state: TrainState
) -> None:
    embed = jax.jit(lambda s, x: train_step.embed_step(s, x))
    pictures = make_batch().labelled.images
    embed(state, pictures)
    embed(dataclasses.replace(state, step=state.step + 1), pictures)
    other = dataclasses.replace(
        METHODS[name],
        objective=dataclasses.replace(TINY.objective, margin=0.7),
        optimiser=dataclasses.replace(TINY.optimiser, learning_rate=0.3, weight_decay=0.5),
    )
    embed(make_state(other), pictures)
    assert embed._cache_size() == 1


@pytest.mark.parametrize("group", ["global", "replica"])
def test_the_group_of_batch_normalisation(group: Any) -> None:
    """Global: two devices do what one does. Replica: each normalises its own half, as two separate batches would."""
    network = dataclasses.replace(METHODS["resnet"].network, batchnorm_group=group)
    method = dataclasses.replace(METHODS["resnet"], network=network)
    state, batch = make_state(method), make_batch(unlabelled=0)

    def features(s: TrainState, b: Any, axis_name: str | None) -> tuple[Any, Any]:
        outputs, (collections, _) = train_step.forward(method, s.params, s, b, KEY, axis_name)
        return outputs["labelled"].embedding, collections

    alone = jax.jit(lambda s, b: features(s, b, None))
    mapped = jax.pmap(
        lambda s, b: features(s, b, parallel.AXIS),
        axis_name=parallel.AXIS,
        in_axes=(None, 0),
        devices=jax.local_devices()[:2],
    )
    halves = [jax.tree.map(lambda x, k=k: x[4 * k : 4 * k + 4], batch) for k in range(2)]
    actual, statistics = mapped(state, parallel.split(batch, 2))
    whole, _ = alone(state, batch)
    apart = [alone(state, half) for half in halves]
    expected = whole if group == "global" else np.concatenate([embedding for embedding, _ in apart])
    other = np.concatenate([embedding for embedding, _ in apart]) if group == "global" else whole
    np.testing.assert_allclose(np.asarray(actual).reshape(expected.shape), expected, atol=2e-4)
    assert np.abs(np.asarray(actual).reshape(expected.shape) - other).max() > 1e-2
    first = [leaf[0] - leaf[1] for leaf in leaves(statistics).values()]
    assert (max(np.abs(x).max() for x in first) > 1e-3) == (group == "replica")


def test_network_is_the_states() -> None:
    assert Network().encoder == "resnet", "what older runs have"
