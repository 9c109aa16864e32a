"""Too little device memory is answered with a batch that was tried and fits."""

import contextlib
import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from launch.benchmarks.batch import random_batch
from launch.cli import options
from launch.runs import hosts, run_folder
from launch.runs.settings import Train
from launch.training import memory
from mcss_jax.errors import UserError
from mcss_jax.training import parallel
from tests.mcss_jax.training.test_parallel import compilations
from tests.refusals import refused

CONFIG = options.build(Train, labelled_batch=16, blocks=2, sequences=3, instants=4, workdir="x")
BATCH = random_batch(CONFIG, 4)
STATE: Any = {"params": np.ones(3)}
KEY = jax.random.key(0)


def room_for(pictures: int, tried: list[tuple[int, int]], whole: int = 1 << 30) -> Callable[[int], Any]:
    """Makes steps that hold `pictures` activations at a time, and batches of `whole` pictures."""

    def make(accumulate: int) -> Any:
        def step(state: Any, batch: Any, rng: jax.Array) -> Any:
            count = batch.pictures
            tried.append((count, accumulate))
            if count / accumulate > pictures or count > whole:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte.")
            return state, {"pictures": count}

        return step

    return make


@pytest.mark.parametrize(
    ("pictures", "advice"),
    [
        (63, "--labelled_batch=8 --blocks=1, or the whole batch with --accumulate=2$"),
        (20, "--labelled_batch=4 --blocks=1 --instants=2, or the whole batch with --accumulate=4$"),
        (8, "--labelled_batch=2 --blocks=1 --instants=1, or the whole batch with --accumulate=8$"),
    ],
)
def test_the_batch_that_fits_is_named(pictures: int, advice: str, capsys: pytest.CaptureFixture) -> None:
    tried: list[tuple[int, int]] = []
    step = memory.explained(room_for(pictures, tried), CONFIG, devices=1)
    message = (
        f"out of device memory with 16 labelled and 24 unlabelled samples in the batch; what fits is {advice}"
    )
    with pytest.raises(UserError, match=message):
        step(STATE, BATCH, KEY)
    assert tried[0] == (64, 1) and tried[-1][0] == 64
    assert [count for count, _ in tried[1:-1]] == [64 >> n for n in range(1, len(tried) - 1)]
    assert "looking for what fits" in capsys.readouterr().out


def test_parts_are_named_only_where_they_fit() -> None:
    step = memory.explained(room_for(32, [], whole=63), CONFIG, devices=1)
    with refused("--labelled_batch=8", "--blocks=1"):
        step(STATE, BATCH, KEY)
    # An eighth of the batch fits, but 12 labelled pictures cannot be gone through in eight equal parts.
    odd = options.replace(CONFIG, labelled_batch=12)
    batch = dataclasses.replace(BATCH, labelled=jax.tree.map(lambda x: x[:12], BATCH.labelled))
    step = memory.explained(room_for(8, []), odd, devices=1)
    with refused("--labelled_batch=1", "--blocks=1", "--instants=1"):
        step(STATE, batch, KEY)


def test_nothing_fits() -> None:
    step = memory.explained(room_for(0, []), CONFIG, devices=1)
    with refused("--labelled_batch=2", "--blocks=1", "--instants=1", "--image_size"):
        step(STATE, BATCH, KEY)
    step = memory.explained(room_for(0, []), CONFIG, devices=16)
    with refused("--image_size", "--width", "--precision"):
        step(STATE, BATCH, KEY)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Two processes: this one, and one of whose answers these are the first; after them it answers as this one."""
    others: list[bool] = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "together", contextlib.nullcontext)
    monkeypatch.setattr(
        hosts, "gather", lambda here: np.stack([here, np.asarray(others.pop(0)) if others else here])
    )
    return others


class Program:
    """What `mapped` is, on a device of so many bytes: it can be compiled, and is not meant to be run."""

    def __init__(self, error: str = "") -> None:
        self.lowered: list[int] = []
        self._error = error
        self._jitted = jax.jit(lambda state, batch, rng: (state, jax.tree.map(lambda x: x + 1, batch)))

    def lower(self, state: Any, batch: Any, rng: jax.Array) -> Any:
        self.lowered.append(len(batch.labelled.sample))
        if self._error:
            raise jax.errors.JaxRuntimeError(self._error)
        return self._jitted.lower(state, batch, rng)

    def __call__(self, *_: Any) -> Any:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: ran")

    def made(self, accumulate: int) -> parallel.Step:
        return parallel.Step(self, lambda state, batch: (state, batch))


@pytest.mark.usefixtures("pair")
def test_several_hosts_look_without_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The program reads the batch and writes another: twice its bytes, on a device of one and a half times."""
    size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(BATCH))
    monkeypatch.setattr(memory, "free_bytes", lambda device: size * 3 // 2)
    program = Program()
    message = (
        "with 16 labelled and 24 unlabelled samples in a host's part of the batch; what fits is "
        "--labelled_batch=8 --blocks=1$"
    )
    with pytest.raises(UserError, match=message):
        memory.explained(program.made, CONFIG, devices=2)(STATE, BATCH, KEY)
    # The step, half of it, and the whole in two parts; none of them was called.
    assert program.lowered == [16, 8, 16]
    assert "looking for what fits" in capsys.readouterr().out


@pytest.mark.parametrize("donated", [True, False])
def test_what_a_step_needs_of_a_device(donated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice its state, or once where the new one takes the place of the old; what is there already is not asked for."""
    donate = {"donate_argnums": 0} if donated else {}
    step = parallel.Step(jax.jit(lambda state, batch, rng: state + 1, **donate), lambda *placed: placed)
    wanted = (4000 if donated else 8000) + 8

    def fits(free: int | None, state: Any) -> bool:
        monkeypatch.setattr(memory, "free_bytes", lambda device: free)
        return memory._has_room(step, state, {}, KEY)

    away = np.zeros(1000, np.float32)
    assert fits(wanted, away) and not fits(wanted - 9, away) and fits(None, away)
    here = jax.device_put(away, jax.local_devices()[0])
    assert fits(wanted - 4000, here) and not fits(wanted - 4009, here)
    assert not fits(wanted - 4000, jax.device_put(away, jax.local_devices()[1])), "what lies elsewhere is"


def test_free_memory_is_what_is_not_in_use() -> None:
    def free(said: dict[str, int] | None) -> int | None:
        return memory.free_bytes(SimpleNamespace(memory_stats=lambda: said))  # type: ignore[arg-type]

    assert (free({"bytes_limit": 10, "bytes_in_use": 8}), free({"bytes_limit": 10})) == (2, 10)
    assert free({"bytes_in_use": 8}) is None and free(None) is None


@pytest.mark.parametrize("several", [False, True])
def test_a_resumed_run_is_told_where_other_settings_go(
    several: bool, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture
) -> None:
    if several:
        request.getfixturevalue("pair")
    make = Program().made if several else room_for(32, [])
    step = memory.explained(make, CONFIG, devices=1, resumed=True)
    with refused("--accumulate=2", f"{run_folder.ELSEWHERE}"):
        step(STATE, BATCH, KEY)
    assert capsys.readouterr().out.count("looking") == (not several)


def test_what_one_host_has_no_room_for_is_refused_on_all(
    pair: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair[:] = [False, False, True, False]
    program = Program()
    with refused("--labelled_batch=4", "--blocks=1", "--instants=2"):
        memory.explained(program.made, CONFIG, devices=2)(STATE, BATCH, KEY)
    assert program.lowered == [16, 8, 4, 16]


@pytest.mark.usefixtures("pair")
def test_compilers_that_run_out_and_that_fail_otherwise() -> None:
    program = Program("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm.")
    with refused("--labelled_batch=4", "--blocks=1", "--instants=2"):
        memory.explained(program.made, CONFIG, devices=2)(STATE, BATCH, KEY)
    assert program.lowered == [16, 8, 4]
    program = Program("INTERNAL: no")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        memory.explained(program.made, CONFIG, devices=2)(STATE, BATCH, KEY)
    assert program.lowered == [16]


@pytest.mark.usefixtures("pair")
@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "try --labelled_batch=8 --blocks=1 or --accumulate=2$"),
        ({"method": "baseline", "accumulate": 2}, "try --labelled_batch=8 or --accumulate=4$"),
        (
            {"labelled": "none", "blocks": 1, "sequences": 1, "instants": 12},
            "try --instants=6 or --accumulate=2$",
        ),
        ({"blocks": 3, "instants": 3}, "lower --image_size or --width, or use --precision=bfloat16$"),
        ({"blocks": 3, "instants": 3, "stream": True}, "lower --stream_size or --width, or use --pre"),
    ],
)
def test_hosts_that_run_out_in_the_step_itself_do_not_search(changes: dict[str, Any], advice: str) -> None:
    """The others may be waiting in it."""
    program = Program()
    step = memory.explained(program.made, options.replace(CONFIG, **changes), devices=2)
    with pytest.raises(UserError, match=f"samples in a host's part of the batch; {advice}"):
        step(STATE, BATCH, KEY)
    assert program.lowered == [16]


@pytest.mark.parametrize("kind", ["_pmapped", "_shard_mapped"])
def test_what_was_compiled_to_look_is_not_compiled_to_run(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise several hosts would compile every step twice."""

    def body(state: Any, batch: Any, rng: jax.Array, axis_name: str) -> Any:
        return {"params": state["params"] + jax.lax.psum(batch["x"].sum(), axis_name)}, {}

    step = getattr(parallel, kind)(body, tuple(jax.devices()))
    state, batch = {"params": np.ones(3)}, {"x": np.ones(4)}
    with compilations() as said:
        assert memory._has_room(step, state, batch, KEY)
    assert said
    with compilations() as said:
        jax.block_until_ready(step.mapped(*step.place(state, batch), KEY))
    assert said == []


def test_what_else_goes_wrong_is_not_touched() -> None:
    calls: list[int] = []

    def make(accumulate: int) -> Any:
        def step(state: Any, batch: Any, rng: jax.Array) -> Any:
            calls.append(accumulate)
            if len(calls) != 2:
                raise jax.errors.JaxRuntimeError("INTERNAL: no")
            return state, {}

        return step

    step = memory.explained(make, options.replace(CONFIG, accumulate=4), devices=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        step(STATE, BATCH, KEY)
    # Later calls are passed through, with whatever they raise.
    assert step(STATE, BATCH, KEY) == (STATE, {}) and calls == [4, 4]
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        step(STATE, BATCH, KEY)


def test_an_error_while_looking_is_not_hidden() -> None:
    errors = iter(("RESOURCE_EXHAUSTED", "INTERNAL: no"))

    def step(state: Any, batch: Any, rng: jax.Array) -> Any:
        raise jax.errors.JaxRuntimeError(next(errors))

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        memory.explained(lambda accumulate: step, CONFIG, devices=1)(STATE, BATCH, KEY)


def test_halving_keeps_what_the_devices_can_share() -> None:
    def flags(config: Train | None) -> tuple[int, ...] | None:
        return config and (
            config.batch.labelled_batch,
            config.batch.blocks,
            config.batch.sequences,
            config.batch.instants,
        )

    assert flags(memory.halved(CONFIG, 4)) == (8, 1, 3, 4)
    assert memory.halved(CONFIG, 16) is None
    assert memory.halved(options.replace(CONFIG, blocks=3, instants=3), 1) is None
    assert memory.halved(options.replace(CONFIG, labelled_batch=1), 1) is None
    assert flags(memory.halved(options.replace(CONFIG, labelled="none"), 1)) == (16, 1, 3, 4)
    assert flags(memory.halved(options.replace(CONFIG, method="baseline"), 1)) == (8, 2, 3, 4)
    assert memory.halved(options.replace(CONFIG, accumulate=16), 1) is None


def test_validation_takes_no_more_at_a_time_than_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(views: int, **changes: Any) -> int:
        return memory.judged_at_once(options.replace(CONFIG, **changes), views)

    assert at_once(4) == 16 + 2 * 24 and at_once(3) == 63
    assert (at_once(4, accumulate=4), at_once(4, method="baseline")) == (16, 16)
    assert at_once(4, labelled="none") == 48
    # Never more than is of use, nor less than an instant.
    assert at_once(14, blocks=200) == 252 and at_once(14, method="baseline", labelled_batch=8) == 14
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert at_once(4) == 8 + 24, "a process embeds alone, and holds half an update"
