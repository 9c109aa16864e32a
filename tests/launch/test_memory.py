"""Too little device memory is answered with a batch that was tried and fits."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from launch import memory
from launch.settings import Train

CONFIG = Train(labelled_batch=16, blocks=2, sequences=3, instants=4, workdir="x")
BATCH = {
    "labelled": {"images": np.ones((16, 4, 4, 3), np.uint8), "sample": np.arange(16)},
    "unlabelled": {"images": np.ones((24, 2, 4, 4, 3), np.uint8), "sample": np.arange(24)},
}
STATE: Any = {"params": np.ones(3)}
KEY = jax.random.key(0)


def room_for(pictures: int, tried: list[tuple[int, int]], whole: int = 1 << 30) -> Callable[[int], Any]:
    """Makes steps that hold `pictures` activations at a time, and batches of `whole` pictures."""

    def make(accumulate: int) -> Any:
        def step(state: Any, batch: Any, rng: jax.Array) -> Any:
            count = sum(int(np.prod(data["images"].shape[:-3])) for data in batch.values())
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
        "out of device memory with 16 labelled and 24 unlabelled samples in the batch; "
        f"what fits, in another --workdir, is {advice}"
    )
    with pytest.raises(ValueError, match=message):
        step(STATE, BATCH, KEY)
    assert tried[0] == (64, 1) and tried[-1][0] == 64
    assert [count for count, _ in tried[1:-1]] == [64 >> n for n in range(1, len(tried) - 1)]
    assert "looking for what fits" in capsys.readouterr().out


def test_parts_are_named_only_where_they_fit() -> None:
    step = memory.explained(room_for(32, [], whole=63), CONFIG, devices=1)
    with pytest.raises(
        ValueError, match="what fits, in another --workdir, is --labelled_batch=8 --blocks=1$"
    ):
        step(STATE, BATCH, KEY)
    # An eighth of the batch fits, but 12 labelled pictures cannot be gone through in eight equal parts.
    odd = dataclasses.replace(CONFIG, labelled_batch=12)
    batch = {**BATCH, "labelled": {name: x[:12] for name, x in BATCH["labelled"].items()}}
    step = memory.explained(room_for(8, []), odd, devices=1)
    with pytest.raises(
        ValueError, match="what fits, in another --workdir, is --labelled_batch=1 --blocks=1 --instants=1$"
    ):
        step(STATE, batch, KEY)


def test_nothing_fits() -> None:
    step = memory.explained(room_for(0, []), CONFIG, devices=1)
    with pytest.raises(
        ValueError, match="nor does --labelled_batch=2 --blocks=1 --instants=1 fit; lower --image_size"
    ):
        step(STATE, BATCH, KEY)
    step = memory.explained(room_for(0, []), CONFIG, devices=16)
    with pytest.raises(
        ValueError, match="samples in the batch; lower --image_size or --width, or use --precision"
    ):
        step(STATE, BATCH, KEY)


def test_several_hosts_try_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    tried: list[tuple[int, int]] = []
    step = memory.explained(room_for(8, tried), CONFIG, devices=2)
    with pytest.raises(
        ValueError,
        match="in the batch of a host; in another --workdir double --accumulate, or halve --labelled_batch",
    ):
        step(STATE, BATCH, KEY)
    assert tried == [(64, 1)]


def test_what_else_goes_wrong_is_not_touched() -> None:
    calls: list[int] = []

    def make(accumulate: int) -> Any:
        def step(state: Any, batch: Any, rng: jax.Array) -> Any:
            calls.append(accumulate)
            if len(calls) != 2:
                raise jax.errors.JaxRuntimeError("INTERNAL: no")
            return state, {}

        return step

    step = memory.explained(make, dataclasses.replace(CONFIG, accumulate=4), devices=1)
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
        return config and (config.labelled_batch, config.blocks, config.sequences, config.instants)

    assert flags(memory.halved(CONFIG, 4)) == (8, 1, 3, 4)
    assert memory.halved(CONFIG, 16) is None
    assert memory.halved(dataclasses.replace(CONFIG, blocks=3, instants=3), 1) is None
    assert memory.halved(dataclasses.replace(CONFIG, labelled_batch=1), 1) is None
    assert flags(memory.halved(dataclasses.replace(CONFIG, labelled="none"), 1)) == (16, 1, 3, 4)
    assert flags(memory.halved(dataclasses.replace(CONFIG, method="baseline"), 1)) == (8, 2, 3, 4)
    assert memory.halved(dataclasses.replace(CONFIG, accumulate=16), 1) is None
