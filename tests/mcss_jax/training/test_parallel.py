"""One body on several devices, by jit, pmap and shard_map: the same training."""

import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from mcss_jax.training import parallel, train_step
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState
from tests.mcss_jax.steps import TINY, leaves, make_batch, make_state, two_blocks
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]

KEY = jax.random.key(1)
# Compared after the first and after the last.
UPDATES = 10
KINDS = ("pmap", "shard_map")


class Ran(NamedTuple):
    """States (on the host) and metrics by number of updates, and what was compiled in the first and the later ones."""

    after: dict[int, tuple[TrainState, dict[str, np.ndarray]]]
    compiled_first: list[str]
    compiled_later: list[str]


def assert_replicated(tree: object) -> None:
    """Every device's copy of every leaf, compared: JAX does not check what `out_axes=None` claims."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        for shard in shards[1:]:
            np.testing.assert_array_equal(shard, shards[0], err_msg=jax.tree_util.keystr(path))


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """What JAX says that it compiles meanwhile."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "ompil" in record.getMessage():
                messages.append(record.getMessage())

    listener, logger = Listener(), logging.getLogger("jax")
    logger.addHandler(listener)
    try:
        with jax.log_compiles():
            yield messages
    finally:
        logger.removeHandler(listener)


def run(step: Callable, state: TrainState) -> Ran:
    now: Any = parallel.replicate(state)
    after = {}
    compiled: list[list[str]] = []
    for number in range(UPDATES):
        batch = make_batch(number)
        with compilations() as messages:
            now, report = jax.block_until_ready(step(now, batch, KEY))
        compiled.append(messages)
        assert_replicated((now, report))
        if number + 1 in (1, UPDATES):
            after[number + 1] = jax.tree.map(np.asarray, (now, report))
    return Ran(after, compiled[0], [text for later in compiled[1:] for text in later])


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def state() -> TrainState:
    return make_state()


@pytest.fixture(scope="module")
def single(state: TrainState) -> Ran:
    """Plain jit on one device."""
    return run(parallel.mapped_step(TINY, "jit", jax.local_devices()[:1]), state)


@pytest.fixture(scope="module")
def runs(state: TrainState) -> dict[str, Ran]:
    """On four devices."""
    return {kind: run(parallel.mapped_step(TINY, kind), state) for kind in KINDS}


def assert_same(actual: dict[str, np.ndarray], wanted: dict[str, np.ndarray], updates: int) -> None:
    """Loss, metrics, gradients (Adam's first moment is one), BatchNorm statistics and parameters.

    AdamW divides a gradient by its size, so where one is nearly zero its rounding shows in the parameters: they
    are compared with a tolerance of a part of one update, moments with that of float32.
    """
    assert actual.keys() == wanted.keys() and len(wanted) > 60
    tolerances = {"batch_stats": 2e-4, "opt_state": 2e-4, "params": 3e-4, "": 1e-4}
    for name in wanted:
        kind = next(part for part in tolerances if part in name)
        np.testing.assert_allclose(
            actual[name],
            wanted[name],
            rtol=5e-3,
            atol=tolerances[kind] * (1 if updates == 1 else 4),
            err_msg=name,
        )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("updates", [1, UPDATES])
def test_devices_change_nothing(single: Ran, runs: dict[str, Ran], kind: str, updates: int) -> None:
    assert_same(leaves(runs[kind].after[updates]), leaves(single.after[updates]), updates)


EIGHT = """
import sys
import jax, numpy as np
from mcss_jax import losses, parallel
from tests.mcss_jax.training import test_parallel
from tests.mcss_jax.steps import TINY, leaves, make_state, two_blocks

def kept(name, kind, count, parts=1):
    ran = test_parallel.run(parallel.mapped_step(TINY, kind, jax.devices()[:count], parts), make_state())
    assert ran.compiled_first and not ran.compiled_later, name
    return {f"{name} {n} {leaf}": x for n, tree in ran.after.items() for leaf, x in leaves(tree).items()}

assert jax.device_count() == 8
everything = {}
with two_blocks():
    for kind in test_parallel.KINDS:
        for count in (1, 2, 8):
            everything |= kept(f"{kind}{count}", kind, count)
    everything |= kept("one", "jit", 1, parts=2)
    whole = losses.mine
    losses.mine = lambda *given, **options: whole(*given, **options, block=1)
    everything |= kept("two", "shard_map", 2, parts=2)
np.savez(sys.argv[1], **everything)
"""


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """States and metrics of runs in a process of eight devices, by the run's name and number of updates."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    file = tmp_path_factory.mktemp("eight") / "eight.npz"
    command = [sys.executable, "-c", EIGHT, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    leaves_by_run: dict[str, dict[str, np.ndarray]] = {}
    with np.load(file) as stored:
        for name in stored:
            run_of, updates, leaf = name.split(" ", 2)
            leaves_by_run.setdefault(f"{run_of} {updates}", {})[leaf] = stored[name]
    return leaves_by_run


@pytest.mark.processes
@pytest.mark.parametrize("count", [1, 2, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_devices_change_nothing(
    single: Ran, eight: dict[str, dict[str, np.ndarray]], kind: str, count: int
) -> None:
    for updates in (1, UPDATES):
        assert_same(eight[f"{kind}{count} {updates}"], leaves(single.after[updates]), updates)


@pytest.mark.processes
def test_parts_and_blocks_of_one_row_change_nothing_under_shard_map(
    single: Ran, eight: dict[str, dict[str, np.ndarray]]
) -> None:
    """Two devices that accumulate two parts and mine row by row, against one device and the whole table."""
    for updates in (1, UPDATES):
        assert_same(eight[f"two {updates}"], eight[f"one {updates}"], updates)
    name = "[1]['loss']"
    assert abs(eight["one 1"][name] - leaves(single.after[1])[name]) > 1e-3, (
        "parts are normalised by themselves"
    )


def test_gradients_of_the_first_update(single: Ran, runs: dict[str, Ran]) -> None:
    """Before any rounding has been amplified: Adam's first moment is a tenth of the (clipped) gradient."""
    wanted = leaves(single.after[1][0].opt_state)
    moments = [name for name in wanted if ".mu" in name]
    assert len(moments) > 20
    largest = max(np.abs(wanted[name]).max() for name in moments)
    for kind, ran in runs.items():
        actual = leaves(ran.after[1][0].opt_state)
        for name in moments:
            np.testing.assert_allclose(
                actual[name], wanted[name], atol=1e-4 * largest, err_msg=f"{kind} {name}"
            )


def test_mined_indices_are_the_same(single: Ran, runs: dict[str, Ran]) -> None:
    """The global column of every anchor's hardest negative, where no other is equally hard."""
    batch = make_batch(labelled=0)

    def mined(s: TrainState, b: Batch, axis_name: str | None = None) -> jax.Array:
        outputs, (_, crops) = train_step.forward(TINY, s.params, s, b, KEY, axis_name)
        return train_step.objective(TINY, outputs, crops, s, b, axis_name)[1][1]

    on_one = jax.jit(mined)
    on_four = jax.pmap(lambda s, b: mined(s, b, parallel.AXIS), axis_name=parallel.AXIS, in_axes=(None, 0))
    for updates in (1, UPDATES):
        expected = on_one(single.after[updates][0], batch)
        assert len(np.unique(expected)) > 3
        columns = on_four(runs["pmap"].after[updates][0], parallel.split(batch, 4))
        np.testing.assert_array_equal(np.asarray(columns).reshape(-1), expected)
        for kind, ran in runs.items():
            np.testing.assert_array_equal(on_one(ran.after[updates][0], batch), expected, err_msg=kind)


def test_no_recompilation_after_the_first_step(single: Ran, runs: dict[str, Ran]) -> None:
    """The state that comes out of a step has the types and the places of the one that went in."""
    for kind, ran in {"jit": single, **runs}.items():
        assert ran.compiled_first, f"{kind}: the log shows compilations"
        assert ran.compiled_later == [], kind


def test_a_step_is_made_once() -> None:
    pair = jax.local_devices()[:2]
    step = parallel.mapped_step(TINY, "pmap", pair)
    assert step is parallel.pmap_step(TINY, pair)
    assert step is not parallel.mapped_step(TINY, "pmap", pair, accumulate=2)
    other = dataclasses.replace(TINY, optimiser=dataclasses.replace(TINY.optimiser, learning_rate=0.5))
    assert step is not parallel.mapped_step(other, "pmap", pair)


@pytest.mark.parametrize(("kind", "devices"), [("jit", 1), ("pmap", 2), ("shard_map", 2)])
def test_what_a_replica_is_given(kind: Any, devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The method, the parts, the name of the axis, the run's key and its own rows, in order of devices."""
    method = dataclasses.replace(TINY, optimiser=dataclasses.replace(TINY.optimiser, learning_rate=0.25))

    def body(of: Any, state: Any, batch: Any, rng: Any, *, axis_name: str | None, parts: int) -> Any:
        assert of == method
        rows = batch if axis_name is None else jax.lax.all_gather(batch, axis_name)
        return {"w": state["w"] + 1}, {"parts": parts, "rows": rows, "key": jax.random.key_data(rng)}

    monkeypatch.setattr(parallel, "accumulated_step", body)
    step = parallel.mapped_step(method, kind, jax.local_devices()[:devices], accumulate=3)
    after, report = step.mapped(*step.place({"w": np.ones(2, np.float32)}, np.arange(8)), KEY)
    np.testing.assert_array_equal(after["w"], [2.0, 2.0])
    assert int(report["parts"]) == 3
    wanted = np.arange(8).reshape((8,) if kind == "jit" else (2, 4))
    np.testing.assert_array_equal(report["rows"], wanted)
    np.testing.assert_array_equal(report["key"], jax.random.key_data(KEY))
    assert step is parallel.mapped_step(method, kind, jax.local_devices()[:devices], accumulate=3)


def test_jit_is_for_one_device() -> None:
    with refused("jit", "4", "pmap", "shard_map"):
        parallel.mapped_step(TINY, "jit")


def test_devices_in_order() -> None:
    assert parallel.choose_devices() == jax.local_devices()
    assert parallel.choose_devices(2) == jax.local_devices()[:2]
    assert parallel.local(parallel.choose_devices(3)) == jax.local_devices()[:3]
    with refused("5 devices"):
        parallel.choose_devices(5)


@pytest.mark.parametrize(
    ("present", "count", "expected"),
    [
        ({0: 4}, 0, 4),
        ({0: 4}, 3, 3),
        ({0: 4, 1: 4}, 0, 4),
        ({0: 4, 1: 2}, 2, 2),
        ({0: 4}, 5, ("5 devices", "there are 4", "1 to 4", "0 for all")),
        ({0: 4}, -1, ("-1 devices", "there are 4", "1 to 4", "0 for all")),
        ({0: 4, 1: 4}, 5, ("process 0 has 4", "1 to 4", "0 for all")),
        ({0: 4, 1: 2, 2: 3}, 3, ("3 devices", "process 1 has 2", "1 to 2")),
        (
            {0: 3, 1: 2, 2: 4},
            0,
            ("process 1: 2", "process 2: 4", "--devices=2"),
        ),
    ],
)
def test_as_many_devices_of_every_process(
    present: dict[int, int], count: int, expected: int | tuple[str, ...]
) -> None:
    if isinstance(expected, int):
        assert parallel.devices_each(present, count) == expected
        return
    with refused(*expected):
        parallel.devices_each(present, count)


def test_one_process_gathers_its_own() -> None:
    np.testing.assert_array_equal(parallel.gather(np.arange(3)), np.arange(3)[None])
    assert parallel.gather(np.asarray(True)).tolist() == [True]


def test_what_a_process_has_becomes_its_part() -> None:
    """From the host and from one of its devices; with several processes, tests/multiprocess."""
    mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), (parallel.AXIS,))
    rows = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    for source in (rows, jax.device_put(rows, jax.local_devices()[1])):
        for spec in (jax.P(), jax.P(parallel.AXIS)):
            sharding = jax.NamedSharding(mesh, spec)
            spread = parallel.global_array(source, sharding)
            assert spread.sharding == sharding and spread.shape == rows.shape
            for shard in spread.addressable_shards:
                np.testing.assert_array_equal(shard.data, rows[shard.index])
    scalar = parallel.global_array(np.int32(3), jax.NamedSharding(mesh, jax.P()))
    assert scalar.shape == () and int(scalar) == 3


def test_a_batch_that_does_not_divide() -> None:
    with refused("batch of 6", "4 devices", "4 and 8"):
        parallel.split({"x": np.zeros((6, 2))}, 4)
    assert parallel.nearest_multiples(3, 4) == "4" and parallel.nearest_multiples(4, 4) == "4 and 8"
    with refused("batch of 6", "4 devices"):
        parallel.mapped_step(TINY, "shard_map", jax.local_devices())(make_state(), make_batch(0, 6, 8), KEY)
    np.testing.assert_array_equal(parallel.split(np.arange(8)), np.arange(8).reshape(4, 2))


def test_replicate_keeps_values_and_random_keys() -> None:
    tree = parallel.replicate({"x": jax.numpy.ones(3), "key": KEY})
    assert isinstance(tree["x"], np.ndarray) and tree["key"] is KEY


def test_embedding_any_number_of_pictures(state: TrainState) -> None:
    images = make_batch().labelled.images
    embed = parallel.pmap_embed()
    whole = embed(state, images)
    part = embed(state, images[:5])
    single = jax.jit(train_step.embed_step)(state, images)
    assert part.embedding.shape == (5, 8)
    for actual, padded, expected in zip(whole, part, single, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(padded, expected[:5], rtol=1e-4, atol=1e-3)
