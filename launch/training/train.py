"""Trains a run to its end, or from its newest checkpoint on."""

import contextlib
import dataclasses
import functools
import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from datasets.tuples import block_numbers, pipeline
from launch.cli import cpu, progress
from launch.runs import folder_lock, hosts, metric_log, run_folder, settings, stopping
from launch.training import batch_numbers, journal, memory, negatives, sources, warm_start
from mcss_jax import streams
from mcss_jax.errors import UserError
from mcss_jax.storage import checkpoint
from mcss_jax.training import parallel
from mcss_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a call of `train` did: the run's folder, the step it reached, whether that is the last one.

    `preempted`: it was a scheduler's signal that stopped it, not the user; `stopped`: a signal came to this process
    (SIGTERM aside where there are several, which JAX takes), be it during the last update.
    """

    folder: Path
    step: int
    finished: bool
    state: TrainState
    preempted: bool = False
    stopped: bool = False


def _begin(config: settings.Train) -> tuple[sources.Source, dict[str, Any], TrainState]:
    """Data, the run's card and the state before the first update; no folder is touched.

    Raises UserError and OSError for data and networks that cannot be used, or are not the same on all processes.
    """
    with hosts.together("begin"):
        source = sources.open_source(config)
        few = negatives.check(config, source)
        if few and hosts.first():
            warnings.warn(few, stacklevel=2)
        statistics = sources.means(source.labelled_poses)
        state, origin = warm_start.first_state(config, source.image_size, statistics.statistics)
    hosts.compare({"the data's fingerprint": source.card["fingerprint"]})
    mean = {"mean_in_camera": np.asarray(statistics.in_camera).tolist()}
    return source, source.card | mean | origin, state


def _claim(
    config: settings.Train, card: dict[str, Any], stop: stopping.Stop, stack: contextlib.ExitStack
) -> bool:
    """Has the run's folder written to by process 0 alone and locked until `stack` ends; False when told to stop first.

    Raises UserError when it is another run's or when processes see different folders, and when it is in use.
    """
    folder = Path(config.run.workdir).expanduser()
    if not stack.enter_context(folder_lock.held(folder, stop)):
        return False
    with hosts.together("use --workdir"):
        if hosts.first():
            run_folder.claim(config, card)
    hosts.compare_folder(folder, "--workdir")
    return True


def _restored(
    checkpoints: checkpoint.Checkpoints, state: TrainState, fingerprint: str
) -> tuple[TrainState, int]:
    """State and step to go on from: the newest whole checkpoint, the same one on all processes, or `state` and 0.

    Raises UserError when it is of other data, or differs between processes.
    """
    restored = None
    with hosts.together("read the newest checkpoint"):
        if hosts.first() and checkpoints.latest() is not None:
            restored = checkpoints.restore(state)
            if restored.position["fingerprint"] != fingerprint:
                raise UserError(
                    f"{checkpoints.directory} holds checkpoints of data with fingerprint "
                    f"{restored.position['fingerprint']}; the data now have {fingerprint}"
                )
    step = int(hosts.gather(np.asarray(restored.step if restored else 0))[0])
    with hosts.together("read the checkpoint of process 0"):
        if step and restored is None:
            restored = checkpoints.restore(state, step)
    state = restored.state if restored else state
    hosts.compare_state(state)
    return state, step


def _open_log(folder: Path, first: int, stack: contextlib.ExitStack) -> metric_log.MetricLog | None:
    """The run's log from step `first` on, on the process that writes it, closed when `stack` ends."""
    with hosts.together("open the log"):
        if not hosts.first():
            return None
        if not first:
            _begin_anew(folder)
        return stack.enter_context(metric_log.MetricLog(folder, resumed_from=first))


def _begin_anew(folder: Path) -> None:
    """Removes the mark of an end that is yet to come, and keeps the log of a start that left no checkpoint."""
    finished = folder / run_folder.FINISHED
    if finished.exists():
        finished.unlink()
        progress.say(f"{folder} was finished but has no checkpoint; training begins again")
    log = folder / metric_log.JSONL
    if not log.exists() or not log.stat().st_size:
        return
    names = (log.with_name(f"{log.name}.before{n}") for n in itertools.count(1))
    kept = next(name for name in names if not name.exists())
    log.rename(kept)
    progress.say(f"an earlier start in {folder} left no checkpoint; its log is kept as {kept.name}")


def train(config: settings.Train) -> Trained:
    """Trains as `config` says, from the newest checkpoint of the run's folder when there is one.

    Every process of a run calls it: each reads its own share of every batch, all compute the same validation, and
    process 0 alone writes.

    Raises UserError and OSError with one clear sentence for settings and data that cannot be used.
    """
    # First of all: a process that stops at a check which others pass would leave them waiting.
    hosts.compare_settings(config)
    settings.check(config)
    devices = parallel.choose_devices(config.devices.count)
    with hosts.together("open the data"):
        config = batch_numbers.settled(config, len(devices))
    hosts.compare({f"--{name}": str(getattr(config.batch, name)) for name in block_numbers.NAMES})
    settings.check_devices(config, len(devices))
    here = parallel.local(devices)
    if jax.process_count() > 1:
        each = f"{len(here)} device{'s' if len(here) > 1 else ''}"
        hosts.say(f"training on {each} of each of {jax.process_count()} processes")
    cpu.say_if_unmeasured()
    source, card, state = _begin(config)
    make = functools.partial(
        parallel.mapped_step, settings.method_of(config), config.devices.parallel, devices
    )
    rng = streams.stream(config.run.seed, "augment")
    last = min(config.optimiser.steps, config.run.stop_after or config.optimiser.steps)
    position = {"fingerprint": card["fingerprint"], "seed": config.run.seed}
    waiting = pipeline.Waiting()
    folder = Path(config.run.workdir).expanduser()

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(stopping.Stop().watching())
        if not _claim(config, card, stop, stack):
            hosts.say(f"stopped while waiting for {folder}; nothing was done")
            return Trained(folder, 0, False, state, stop.preempted, stop.received)
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(folder / run_folder.CHECKPOINTS, keep=config.run.keep)
        )
        state, first = _restored(checkpoints, state, card["fingerprint"])
        state, done = parallel.replicate(state), first
        step = memory.explained(make, config, len(devices), resumed=first > 0)
        if first:
            hosts.say(f"resuming {folder} at step {first} of {config.optimiser.steps}")
        log = _open_log(folder, first, stack)
        bar = stack.enter_context(
            hosts.bar(config.optimiser.steps, f"train {folder.name}", "step", initial=first)
        )
        batches = stack.enter_context(contextlib.closing(source.batches(first, last, waiting)))
        every = config.run.validate_every
        notes = journal.Journal(config, source, waiting, parallel.pmap_embed(here), log, first)

        for number, batch in batches:
            notes.count(batch)
            state, report = step(state, batch, rng)
            notes.keep(report)
            done = number + 1
            bar.update()
            stopping_now = stop.wanted()
            saving = done % config.run.save_every == 0 or done == last or stopping_now
            validating = every and (done % every == 0 or done == config.optimiser.steps)
            # What is saved has been looked at, so that no checkpoint holds a state that is not finite.
            if saving or validating or done % config.run.log_every == 0 or done == first + 1:
                notes.look(done, report, state, validate=bool(validating))
            notes.warn_of_damage()
            if saving:
                with hosts.together("save"):
                    if hosts.first():
                        checkpoints.save(done, state, position)
            if stopping_now:
                break
        with hosts.together("save"):
            checkpoints.wait()
            if done >= config.optimiser.steps and hosts.first():
                run_folder.write_text(folder / run_folder.FINISHED, json.dumps({"step": done}) + "\n")
    _say_the_end(config, folder, done, source.skipped())
    return Trained(folder, done, done >= config.optimiser.steps, state, stop.preempted, stop.received)


def _say_the_end(config: settings.Train, folder: Path, done: int, skipped: pipeline.Skipped) -> None:
    """Says where an unfinished run goes on, and, on every process, what of its own share could not be read."""
    if done < config.optimiser.steps:
        hosts.say(
            f"stopped after step {done} of {config.optimiser.steps}; saved in {folder}. The same command resumes."
        )
    if skipped.records:
        progress.say(f"masked {skipped.records} damaged records; the first: {skipped.reason}")
