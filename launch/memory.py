"""Out of device memory in training: said in one sentence, with a batch that fits, found by halving."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from launch import progress, settings
from mcss_jax.train_step import Batch, Report, TrainState

Step = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Report]]


def exhausted(error: Exception) -> bool:
    """Whether an error of JAX says that the device has no memory left, while compiling or running."""
    return "RESOURCE_EXHAUSTED" in str(error)


def halved(config: settings.Train, devices: int) -> settings.Train | None:
    """Settings of half the batch that the devices can still share and accumulate; None where there are none."""
    labelled = config.labelled_batch // 2 if settings.labelled_size(config) else config.labelled_batch
    shrunk: dict[str, Any] = {"labelled_batch": labelled}
    if settings.blocks_of(config) is not None:
        name = next((n for n in ("blocks", "instants", "sequences") if getattr(config, n) % 2 == 0), None)
        if name is None:
            return None
        shrunk[name] = getattr(config, name) // 2
    found = dataclasses.replace(config, **shrunk)
    if settings.labelled_size(config) and not settings.labelled_size(found):
        return None
    try:
        settings.check_devices(found, devices)
    except ValueError:
        return None
    return found


def explained(make: Callable[[int], Step], config: settings.Train, devices: int) -> Step:
    """`make(--accumulate)`, whose first call raises ValueError with what would fit where there is too little memory.

    Later calls need no more than the first and are passed through.
    """
    step = make(config.accumulate)
    called = False

    def call(state: TrainState, batch: Batch, rng: Key[Array, ""]) -> tuple[TrainState, Report]:
        nonlocal called
        if called:
            return step(state, batch, rng)
        called = True
        try:
            return jax.block_until_ready(step(state, batch, rng))
        except jax.errors.JaxRuntimeError as error:
            if not exhausted(error):
                raise
        # Not inside the handler: the error holds on to arrays.
        raise ValueError(_advice(_Trial(make, state, batch, rng), config, devices))

    return call


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What a smaller step is tried on; of state and batch only the shapes, as a donated state may be gone."""

    make: Callable[[int], Step]
    state: TrainState
    batch: Batch
    rng: Key[Array, ""]

    def fits(self, times: int, accumulate: int) -> bool:
        """Whether a step runs on the batch cut down so many times, on zeros."""

        def zeros(x: Any) -> np.ndarray:
            return np.zeros(x.shape, x.dtype)

        def part(x: Any) -> np.ndarray:
            return np.zeros((x.shape[0] // times, *x.shape[1:]), x.dtype)

        step = self.make(accumulate)
        try:
            jax.block_until_ready(
                step(jax.tree.map(zeros, self.state), jax.tree.map(part, self.batch), self.rng)
            )
        except jax.errors.JaxRuntimeError as error:
            if not exhausted(error):
                raise
            return False
        return True


def _advice(trial: _Trial, config: settings.Train, devices: int) -> str:
    size = " and ".join(f"{len(data['sample'])} {part}" for part, data in trial.batch.items())
    problem = f"out of device memory with {size} samples in the batch"
    if jax.process_count() > 1:
        # Hosts that did not run out would wait for those that try.
        return f"{problem} of a host; in another --workdir double --accumulate, or halve --labelled_batch and --blocks"
    progress.say(f"{problem}; looking for what fits")
    smaller, times = config, 1
    while (found := halved(smaller, devices)) is not None:
        smaller, times = found, 2 * times
        if trial.fits(times, config.accumulate):
            parts = _in_parts(trial, config, devices, times)
            return f"{problem}; what fits, in another --workdir, is {_flags(smaller, config)}{parts}"
    tried = f", nor does {_flags(smaller, config)} fit" if times > 1 else ""
    return f"{problem}{tried}; lower --image_size or --width, or use --precision=bfloat16"


def _flags(config: settings.Train, before: settings.Train) -> str:
    names = ("labelled_batch", "blocks", "sequences", "instants")
    return " ".join(
        f"--{name}={getattr(config, name)}"
        for name in names
        if getattr(config, name) != getattr(before, name)
    )


def _in_parts(trial: _Trial, config: settings.Train, devices: int, times: int) -> str:
    parts = times * config.accumulate
    try:
        settings.check_devices(dataclasses.replace(config, accumulate=parts), devices)
    except ValueError:
        return ""
    return f", or the whole batch with --accumulate={parts}" if trial.fits(1, parts) else ""
