"""Accumulated parts against the large batch, in one differentiable function with the same normalisation groups."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mcss_jax.training import accumulation, parallel, train_step
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState
from tests.mcss_jax.steps import TINY, darken, leaves, make_batch, make_state, two_blocks
from tests.refusals import refused

KEY = jax.random.key(1)
PARTS = 2
BATCH = make_batch(labelled=16, unlabelled=24)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_step, "augment", darken)
        yield


@pytest.fixture(scope="module")
def state() -> TrainState:
    return make_state()


def large_batch(params: Any, state: TrainState, batch: Batch) -> tuple[jax.Array, Any]:
    """The whole batch at once, but for the network, which sees every group of rows by itself."""
    branches = []
    for k in range(PARTS):
        rows = jax.tree.map(lambda x, k=k: x[k::PARTS], batch)
        branches.append(train_step.forward(TINY, params, state, rows, KEY, None))

    def together(*groups: jax.Array) -> jax.Array:
        return jnp.stack(groups, axis=1).reshape(-1, *groups[0].shape[1:])

    outputs = jax.tree.map(together, *(outputs for outputs, _ in branches))
    crops = jax.tree.map(together, *(crops for _, (_, crops) in branches))
    statistics = jax.tree.map(lambda *x: sum(x) / PARTS, *(stats for _, (stats, _) in branches))
    loss, (sums, mined) = train_step.objective(TINY, outputs, crops, state, batch, None)
    return loss, (statistics, sums, mined)


def in_parts(state: TrainState, batch: Batch, parts: int = PARTS) -> Any:
    return accumulation.value_and_gradients(TINY, state, batch, KEY, None, parts)


def at_once(state: TrainState, batch: Batch) -> Any:
    gradient = jax.value_and_grad(train_step._loss, has_aux=True)
    return gradient(state.params, TINY, state, batch, KEY, None)


def assert_equal(actual: Any, wanted: Any) -> None:
    (loss, (statistics, sums, mined)), gradients = actual
    (wanted_loss, (wanted_statistics, wanted_sums, wanted_mined)), wanted_gradients = wanted
    np.testing.assert_array_equal(mined, wanted_mined)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-5)
    pairs = (sums, wanted_sums), (statistics, wanted_statistics), (gradients, wanted_gradients)
    for a, b in pairs:
        a, b = leaves(a), leaves(b)
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_allclose(a[name], b[name], **TOLERANCE, err_msg=name)


def compiled(function: Callable, state: TrainState) -> Any:
    return jax.jit(function).lower(state, BATCH).compile()


@pytest.fixture(scope="module")
def program(state: TrainState) -> Any:
    return compiled(in_parts, state)


@pytest.fixture(scope="module")
def accumulated(state: TrainState, program: Any) -> Any:
    return program(state, BATCH)


def test_the_large_batch_with_the_same_groups(state: TrainState, program: Any, accumulated: Any) -> None:
    large = compiled(lambda s, b: jax.value_and_grad(large_batch, has_aux=True)(s.params, s, b), state)
    wanted = large(state, BATCH)
    assert_equal(accumulated, wanted)
    assert len(np.unique(wanted[0][1][2])) > 3, "several columns are mined"
    assert all(np.abs(leaf).max() > 0 for leaf in leaves(wanted[1]).values()), (
        "every parameter has a gradient"
    )
    parts, whole = (executable.memory_analysis().temp_size_in_bytes for executable in (program, large))
    assert parts < 0.75 * whole, "the activations of one part of two are held at a time"


def test_frozen_statistics_give_the_large_batch_itself(
    state: TrainState, accumulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_norm = nn.BatchNorm

    def frozen(**settings: Any) -> nn.BatchNorm:
        return batch_norm(**settings | {"use_running_average": True, "axis_name": None})

    batch_normalised = accumulated[0][0]
    monkeypatch.setattr(nn, "BatchNorm", frozen)
    actual = jax.jit(lambda s, b: in_parts(s, b, 4))(state, BATCH)
    assert_equal(actual, jax.jit(at_once)(state, BATCH))
    assert abs(float(actual[0][0] - batch_normalised)) > 1e-2


def test_two_replicas_find_what_one_does(state: TrainState, accumulated: Any) -> None:
    """A part takes the same rows of the global batch on any number of devices."""
    (loss, (statistics, sums, _)), gradients = accumulated
    wanted_state, wanted = jax.jit(train_step.update, static_argnums=(0, 6))(
        TINY, state, loss, gradients, statistics, sums, None
    )

    def step(s: TrainState, b: Batch, key: jax.Array) -> Any:
        return accumulation.accumulated_step(TINY, s, b, key, axis_name=parallel.AXIS, parts=PARTS)

    mapped = jax.pmap(
        step,
        axis_name=parallel.AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        devices=jax.local_devices()[:2],
    )
    actual_state, actual = mapped(state, parallel.split(BATCH, 2), KEY)
    assert actual.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(actual[name], wanted[name], rtol=5e-4, atol=1e-4, err_msg=name)
    for part in ("collections", "opt_state"):
        a, b = leaves(getattr(actual_state, part)), leaves(getattr(wanted_state, part))
        for name in b:
            np.testing.assert_allclose(a[name], b[name], rtol=5e-3, atol=2e-4, err_msg=name)
    assert int(actual_state.step) == 1


def test_one_part_is_the_plain_step(state: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = state, {"axis": jnp.zeros(())}
    monkeypatch.setattr(accumulation, "train_step", lambda *given, axis_name: plain)
    batch = jax.tree.map(jnp.asarray, BATCH)
    assert accumulation.accumulated_step(TINY, state, batch, KEY, parts=1) is plain


def test_cutting_takes_every_row_once() -> None:
    batch = {"x": {"row": np.arange(12)}, "y": {"row": np.arange(6).reshape(3, 2).repeat(2, axis=0)}}
    cut = accumulation.cut(batch, 3)
    np.testing.assert_array_equal(cut["x"]["row"], [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]])
    assert cut["y"]["row"].shape == (3, 2, 2)
    for part in batch:
        np.testing.assert_array_equal(accumulation.join(cut)[part]["row"], batch[part]["row"])


@pytest.mark.parametrize(
    ("sizes", "parts", "facts"),
    [
        ({"labelled": 64, "unlabelled": 96}, 3, ("labelled is 64", "3 equal parts", "2 and 4")),
        ({"labelled": 64, "unlabelled": 96}, 5, ("labelled is 64", "unlabelled is 96", "4 and 8")),
        ({"labelled": 7}, 9, ("labelled is 7", "batch: 7")),
        ({"labelled": 6, "unlabelled": 35}, 2, ("unlabelled is 35", "batch: 1")),
    ],
)
def test_parts_that_do_not_divide(sizes: dict[str, int], parts: int, facts: tuple[str, ...]) -> None:
    with refused(*facts):
        accumulation.check_parts(sizes, parts)
    accumulation.check_parts(sizes, 1)


def test_a_step_refuses_parts_that_do_not_divide(state: TrainState) -> None:
    def step(s: TrainState, b: Batch) -> Any:
        return accumulation.accumulated_step(TINY, s, b, KEY, parts=3)

    with refused("labelled batch of a device is 16", "2 and 4"):
        jax.eval_shape(step, state, BATCH)
