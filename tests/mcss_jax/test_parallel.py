"""One body on 1, 2 and 4 devices, by pmap and by shard_map: the same training."""

from collections.abc import Callable, Iterator

import jax
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from mcss_jax import parallel, train_step
from mcss_jax.train_step import TrainState
from tests.mcss_jax.steps import leaves, make_batch, make_state, two_blocks

KEY = jax.random.key(1)
UPDATES = 3
COUNTS = (1, 2, 4)


def assert_replicated(tree: object) -> None:
    """Every device's copy of every leaf, compared: JAX does not check what `out_axes=None` claims."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0], err_msg=jax.tree_util.keystr(path))


def run(step: Callable, state: TrainState) -> list[tuple[TrainState, dict]]:
    """States (on the host) and metrics after each update."""
    found = []
    for number in range(UPDATES):
        state, report = step(state, make_batch(number), KEY)
        assert_replicated((state, report))
        found.append((jax.tree.map(np.asarray, state), jax.tree.map(np.asarray, report)))
    return found


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def state() -> TrainState:
    return make_state()


@pytest.fixture(scope="module")
def runs(state: TrainState) -> dict[str, list[tuple[TrainState, dict]]]:
    """Three updates with plain jit, with pmap on 1, 2 and 4 devices, and with shard_map on 2."""
    found = {"jit": run(jax.jit(train_step.train_step), state)}
    for count in COUNTS:
        step = parallel.pmap_step(jax.local_devices()[:count])
        found[f"pmap {count}"] = run(step, parallel.replicate(state))
    mesh = Mesh(np.asarray(jax.local_devices()[:2]), (parallel.AXIS,))
    body = jax.jit(
        jax.shard_map(
            lambda s, b, key: train_step.train_step(s, b, key, axis_name=parallel.AXIS),
            mesh=mesh,
            in_specs=(P(), P(parallel.AXIS), P()),
            out_specs=(P(), P()),
        )
    )
    found["shard_map 2"] = run(body, state)
    return found


KINDS = [f"pmap {count}" for count in COUNTS] + ["shard_map 2"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("update", range(UPDATES))
def test_devices_change_nothing(runs: dict, kind: str, update: int) -> None:
    """Loss, metrics, gradients (Adam's first moment is one), BatchNorm statistics and parameters.

    AdamW divides a gradient by its size, so where one is nearly zero its rounding shows in the parameters: they
    are compared with a tolerance of a part of one update, moments with that of float32.
    """
    (state, report), (expected_state, expected) = runs[kind][update], runs["jit"][update]
    for name, value in expected.items():
        np.testing.assert_allclose(report[name], value, rtol=5e-4, atol=1e-4, err_msg=name)
    tolerances = {"batch_stats": 2e-4, "opt_state": 2e-4, "params": 3e-4}
    for part, tolerance in tolerances.items():
        found, wanted = leaves(getattr(state, part)), leaves(getattr(expected_state, part))
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_allclose(
                found[name], wanted[name], rtol=5e-3, atol=tolerance, err_msg=f"{part} {name}"
            )


def test_gradients_of_the_first_update(runs: dict) -> None:
    """Before any rounding has been amplified: Adam's first moment is a tenth of the (clipped) gradient."""
    for kind in KINDS:
        found = leaves(runs[kind][0][0].opt_state)
        wanted = leaves(runs["jit"][0][0].opt_state)
        moments = [name for name in wanted if ".mu" in name]
        assert len(moments) > 20
        largest = max(np.abs(wanted[name]).max() for name in moments)
        for name in moments:
            np.testing.assert_allclose(
                found[name], wanted[name], atol=1e-4 * largest, err_msg=f"{kind} {name}"
            )


def test_mined_indices_are_the_same(state: TrainState) -> None:
    """The global column of every anchor's hardest negative, where no other is equally hard."""
    batch = {"unlabelled": make_batch()["unlabelled"]}

    def mined(s: TrainState, b: dict, axis_name: str | None = None) -> jax.Array:
        return train_step._loss(s.params, s, b, KEY, axis_name)[1][2]

    expected = jax.jit(mined)(state, batch)
    assert len(np.unique(expected)) > 3
    on_four = jax.pmap(lambda s, b: mined(s, b, parallel.AXIS), axis_name=parallel.AXIS, in_axes=(None, 0))
    found = on_four(state, parallel.split(batch, 4))
    np.testing.assert_array_equal(np.asarray(found).reshape(-1), expected)


def test_no_recompilation_after_the_first_step(state: TrainState, caplog: pytest.LogCaptureFixture) -> None:
    """The state that comes out of a step has the types and the places of the one that went in."""

    def compilations() -> list[str]:
        return [record.getMessage() for record in caplog.records if "ompil" in record.getMessage()]

    step = parallel.pmap_step(jax.local_devices()[:2])
    with jax.log_compiles(), caplog.at_level("WARNING"):
        now, _ = step(parallel.replicate(state), make_batch(0), KEY)
        assert compilations(), "the log shows compilations"
        now, _ = step(now, make_batch(1), KEY)
        caplog.clear()
        for number in (2, 3):
            now, _ = step(now, make_batch(number), KEY)
    jax.block_until_ready(now)
    assert compilations() == []


def test_a_batch_that_does_not_divide() -> None:
    with pytest.raises(
        ValueError, match="a batch of 6 cannot be split over 4 devices; choose a multiple of 4"
    ):
        parallel.split({"x": np.zeros((6, 2))}, 4)
    np.testing.assert_array_equal(parallel.split(np.arange(8)), np.arange(8).reshape(4, 2))


def test_replicate_keeps_values_and_random_keys() -> None:
    tree = parallel.replicate({"x": jax.numpy.ones(3), "key": KEY})
    assert isinstance(tree["x"], np.ndarray) and tree["key"] is KEY


def test_embedding_any_number_of_pictures(state: TrainState) -> None:
    images = make_batch()["labelled"]["images"]
    embed = parallel.pmap_embed()
    whole = embed(state, images)
    part = embed(state, images[:5])
    one = jax.jit(train_step.embed_step)(state, images)
    assert part.embedding.shape == (5, 8)
    for found, padded, expected in zip(whole, part, one, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(padded, expected[:5], rtol=1e-4, atol=1e-3)
