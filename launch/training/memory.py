"""Out of device memory in training: said in one sentence, with a batch that fits, found by halving."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from launch.cli import options
from launch.cli.out_of_memory import exhausted, free_bytes
from launch.runs import hosts, run_folder, settings
from mcss_jax.errors import UserError
from mcss_jax.training import parallel
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Report

Step = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, Report]]


def halved(config: settings.Train, devices: int) -> settings.Train | None:
    """Settings of half the batch that the devices can still share and accumulate; None where there are none."""
    labelled = (
        config.batch.labelled_batch // 2 if settings.labelled_size(config) else config.batch.labelled_batch
    )
    shrunk: dict[str, Any] = {"labelled_batch": labelled}
    if settings.blocks_of(config) is not None:
        name = next(
            (n for n in ("blocks", "instants", "sequences") if getattr(config.batch, n) % 2 == 0), None
        )
        if name is None:
            return None
        shrunk[name] = getattr(config.batch, name) // 2
    halved_config = options.replace(config, **shrunk)
    if settings.labelled_size(config) and not settings.labelled_size(halved_config):
        return None
    return halved_config if _can_be_shared(halved_config, devices) else None


def explained(
    make: Callable[[int], parallel.Step], config: settings.Train, devices: int, *, resumed: bool = False
) -> Step:
    """`make(--accumulate)`, whose first call raises UserError with what would fit where there is too little memory.

    Later calls need no more than the first and are passed through. With several processes the first call compiles the
    step, which is not done again, before any of them runs it: a step that is too large for one is refused on all.
    `resumed`: the run's folder takes no other settings, and the advice says so.
    """
    step = make(config.batch.accumulate)
    where = f", {run_folder.ELSEWHERE}" if resumed else ""
    called = False

    def call(state: TrainState, batch: Batch, rng: Key[Array, ""]) -> tuple[TrainState, Report]:
        nonlocal called
        if called:
            return step(state, batch, rng)
        called = True
        several = jax.process_count() > 1
        trial = _Trial(make, state, batch, rng, _all_have_room if several else _runs)
        if several and not _all_have_room(step, state, batch, rng):
            raise UserError(_advice(trial, config, devices) + where)
        try:
            return jax.block_until_ready(step(state, batch, rng))
        except jax.errors.JaxRuntimeError as error:
            if not exhausted(error):
                raise
        # Not inside the handler: the error holds on to arrays.
        if several:
            # Others may be in the middle of the step, and would not take part in a search.
            raise UserError(f"{_problem(batch)}; {_untried(config, devices)}{where}")
        raise UserError(_advice(trial, config, devices) + where)

    return call


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What a smaller step is tried on; of state and batch only the shapes, as a donated state may be gone."""

    make: Callable[[int], parallel.Step]
    state: TrainState
    batch: Batch
    rng: Key[Array, ""]
    passes: Callable[..., bool]

    def fits(self, times: int, accumulate: int) -> bool:
        """Whether a step passes with the batch cut down so many times, on zeros."""

        def zeros(x: Any) -> np.ndarray:
            return np.zeros(x.shape, x.dtype)

        def part(x: Any) -> np.ndarray:
            return np.zeros((x.shape[0] // times, *x.shape[1:]), x.dtype)

        state, batch = jax.tree.map(zeros, self.state), jax.tree.map(part, self.batch)
        return self.passes(self.make(accumulate), state, batch, self.rng)


def _runs(step: Step, state: TrainState, batch: Batch, rng: Key[Array, ""]) -> bool:
    try:
        jax.block_until_ready(step(state, batch, rng))
    except jax.errors.JaxRuntimeError as error:
        if not exhausted(error):
            raise
        return False
    return True


def _all_have_room(step: parallel.Step, state: TrainState, batch: Batch, rng: Key[Array, ""]) -> bool:
    """Whether no process knows from compiling a step that it cannot run it; all processes must call it.

    Nothing is run: a step waits for all processes, and for ever for one that has run out of memory.
    """
    with hosts.together("compile the step"):
        here = _has_room(step, state, batch, rng)
    return bool(hosts.gather(np.asarray(here)).all())


def _has_room(step: parallel.Step, state: TrainState, batch: Batch, rng: Key[Array, ""]) -> bool:
    """False when a step cannot be compiled for want of memory (TPU), or needs more than a device has left (GPU)."""
    try:
        placed = step.place(state, batch)
        compiled = step.mapped.lower(*placed, rng).compile()
    except jax.errors.JaxRuntimeError as error:
        if not exhausted(error):
            raise
        return False
    device = jax.local_devices()[0]  # the one that --cache=device fills
    needed, free = compiled.memory_analysis(), free_bytes(device)
    if needed is None or free is None:  # not every platform tells
        return True
    held = needed.argument_size_in_bytes + needed.output_size_in_bytes - needed.alias_size_in_bytes
    return held + needed.temp_size_in_bytes - _bytes_on(device, placed) <= free


def _bytes_on(device: jax.Device, tree: Any) -> int:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    return sum(shard.data.nbytes for x in arrays for shard in x.addressable_shards if shard.device == device)


def judged_at_once(config: settings.Train, views: int) -> int:
    """Views of whole instants that validation embeds at a time: no more than an update, which is known to fit."""
    blocks = settings.blocks_of(config)
    update = settings.labelled_size(config) + (0 if blocks is None else 2 * blocks.size)
    limit = min(256, update // (jax.process_count() * config.batch.accumulate))
    return max(views, limit // views * views)


def _problem(batch: Batch) -> str:
    size = " and ".join(f"{len(part.sample)} {name}" for name, part in batch.parts.items())
    whose = "the batch" if jax.process_count() == 1 else "a host's part of the batch"
    return f"out of device memory with {size} samples in {whose}"


def _advice(trial: _Trial, config: settings.Train, devices: int) -> str:
    problem = _problem(trial.batch)
    hosts.say(f"{problem}; looking for what fits")
    smaller, times = config, 1
    while (next_smaller := halved(smaller, devices)) is not None:
        smaller, times = next_smaller, 2 * times
        if trial.fits(times, config.batch.accumulate):
            parts = times * config.batch.accumulate
            whole = f", or the whole batch with --accumulate={parts}"
            can = _can_accumulate(config, devices, parts) and trial.fits(1, parts)
            return f"{problem}; what fits is {_flags(smaller, config)}{whole if can else ''}"
    tried = f", nor does {_flags(smaller, config)} fit" if times > 1 else ""
    return f"{problem}{tried}; {_smaller_network(config)}"


def _smaller_network(config: settings.Train) -> str:
    return f"lower {'--stream_size' if config.data.stream else '--image_size'} or --width, or use --precision=bfloat16"


def _untried(config: settings.Train, devices: int) -> str:
    """The next smaller steps of this method, in words."""
    smaller = halved(config, devices)
    remedies = [] if smaller is None else [_flags(smaller, config)]
    if _can_accumulate(config, devices, 2 * config.batch.accumulate):
        remedies.append(f"--accumulate={2 * config.batch.accumulate}")
    return f"try {' or '.join(remedies)}" if remedies else _smaller_network(config)


def _flags(config: settings.Train, before: settings.Train) -> str:
    there, here = options.values(before), options.values(config)
    return " ".join(f"--{name}={value}" for name, value in here.items() if value != there[name])


def _can_accumulate(config: settings.Train, devices: int, parts: int) -> bool:
    return _can_be_shared(options.replace(config, accumulate=parts), devices)


def _can_be_shared(config: settings.Train, devices: int) -> bool:
    try:
        settings.check_devices(config, devices)
    except UserError:
        return False
    return True
