"""Trains an encoder and regressor on multi-view tuples: the supervised baseline, MCSS, or a control.

    python -m launch.train --flagfile=launch/experiments/demo_mcss.flags --workdir=runs/mcss

The same command again resumes at the right step with the right batch. Ctrl-C saves and says where; so do SIGTERM and
SIGUSR1, after which the exit code is 75: to be started again. On several hosts the same command runs on each, all with
one --workdir that all can see; see "Devices and hosts".
"""

import contextlib
import dataclasses
import functools
import json
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from datasets import pipeline
from launch import (
    flags,
    hosts,
    inference,
    locks,
    memory,
    metric_log,
    progress,
    run_folder,
    settings,
    sources,
    stopping,
    warm_start,
)
from mcss_jax import checkpoint, parallel
from mcss_jax.train_step import TrainState

# Embeddings whose summed variance is below this are one point: the metric loss has collapsed.
COLLAPSED = 1e-3


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a call of `train` did: the run's folder, the step it reached, whether that is the last one.

    `preempted`: it was a scheduler's signal that stopped it, not the user; `stopped`: any signal came, be it during
    the last update.
    """

    folder: Path
    step: int
    finished: bool
    state: TrainState
    preempted: bool = False
    stopped: bool = False


@dataclasses.dataclass
class _Interval:
    """What happened since the last log line."""

    start: float = dataclasses.field(default_factory=time.perf_counter)
    images: int = 0
    updates: int = 0


def _images_in(batch: dict[str, dict[str, Any]]) -> int:
    return sum(int(np.prod(part["images"].shape[:-3])) for part in batch.values())


def _validate(source: sources.Source, state: TrainState, embed: inference.Embed) -> dict[str, float]:
    found = source.validation()
    if found is None:
        return {}
    views, size = found
    predicted = inference.predict(state, views, size=size, embed=embed)
    figures = inference.pose_figures(predicted)
    return {
        f"validation/{name}": figures[name] for name in ("mpjpe", "n_mpjpe", "pa_mpjpe", "mpjpe_canonical")
    }


def _check_finite(report: dict[str, float], previous: int, step: int) -> None:
    if not math.isfinite(report["loss"]) or not math.isfinite(report["gradient_norm"]):
        raise ValueError(
            f"the loss or its gradient became non-finite between updates {previous} and {step} (loss "
            f"{report['loss']}, gradient norm {report['gradient_norm']}); the last checkpoint is from "
            "before. Lower --learning_rate or --clip_norm"
        )


def _claim(config: settings.Train, card: dict[str, Any], stack: contextlib.ExitStack) -> Path:
    """The run's folder, written to by process 0 alone and locked until `stack` ends.

    Raises ValueError when it is another run's or when processes see different folders, OSError when it is in use.
    """
    with hosts.together("use --workdir"):
        if hosts.first():
            folder = Path(config.workdir).expanduser()
            if not stack.enter_context(locks.held(folder)):
                raise OSError(
                    f"another training is at work in {folder}; wait for it, stop it, or use another --workdir"
                )
            run_folder.claim(config, card)
    folder = Path(config.workdir).expanduser()
    with hosts.together("see --workdir"):
        if not (folder / run_folder.CONFIG).is_file():
            raise ValueError(
                f"--workdir={config.workdir} is not the folder that process 0 writes to; all processes of a run need "
                "one that they share"
            )
    return folder


def _restored(
    checkpoints: checkpoint.Checkpoints, state: TrainState, fingerprint: str
) -> tuple[TrainState, int]:
    """State and step to go on from: the newest whole checkpoint, the same one on all processes, or `state` and 0.

    Raises ValueError when it is of other data, or differs between processes.
    """
    found = None
    with hosts.together("read the newest checkpoint"):
        if hosts.first() and checkpoints.latest() is not None:
            found = checkpoints.restore(state)
            if found.position["fingerprint"] != fingerprint:
                raise ValueError(
                    f"{checkpoints.directory} holds checkpoints of data with fingerprint "
                    f"{found.position['fingerprint']}; the data now have {fingerprint}"
                )
    step = int(hosts.gather(np.asarray(found.step if found else 0))[0])
    with hosts.together("read the checkpoint of process 0"):
        if step and found is None:
            found = checkpoints.restore(state, step)
    state = found.state if found else state
    hosts.compare_state(state)
    return state, step


class _Warnings:
    """Says each kind of warning once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def once(self, kind: str, text: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(text, stacklevel=3)


def train(config: settings.Train) -> Trained:
    """Trains as `config` says, from the newest checkpoint of the run's folder when there is one.

    Every process of a run calls it: each reads its own share of every batch, all compute the same validation, and
    process 0 alone writes.

    Raises ValueError and OSError with one clear sentence for settings and data that cannot be used.
    """
    # First of all: a process that stops at a check which others pass would leave them waiting.
    hosts.compare_settings(config)
    settings.check(config)
    devices = parallel.choose_devices(config.devices)
    settings.check_devices(config, len(devices))
    with hosts.together("begin"):
        source = sources.open_source(config)
        statistics = sources.means(source.labelled_poses)
        card = {**source.card, "mean_in_camera": np.asarray(statistics.in_camera).tolist()}
        # Before the folder is touched: what no network can be made for shall leave nothing behind.
        state, origin = warm_start.first_state(config, source.image_size, statistics.statistics)
    hosts.compare({"the data's fingerprint": card["fingerprint"]})
    make = functools.partial(parallel.mapped_step, config.parallel, devices)
    step = memory.explained(make, config, len(devices))
    embed = parallel.pmap_embed(parallel.local(devices))
    rng = jax.random.key(config.seed + 1)
    last = min(config.steps, config.stop_after or config.steps)
    position = {"fingerprint": card["fingerprint"], "seed": config.seed}
    waiting = pipeline.Waiting()

    with contextlib.ExitStack() as stack:
        folder = _claim(config, card | origin, stack)
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(folder / run_folder.CHECKPOINTS, keep=config.keep)
        )
        state, first = _restored(checkpoints, state, card["fingerprint"])
        state = parallel.replicate(state)
        log = bar = None
        if hosts.first():
            if first:
                progress.say(f"resuming {folder} at step {first} of {config.steps}")
            log = stack.enter_context(metric_log.MetricLog(folder, resumed_from=first if first else None))
            bar = stack.enter_context(
                progress.bar(config.steps, f"train {folder.name}", "step", initial=first)
            )
        stop = stack.enter_context(stopping.Stop().watching())
        batches = stack.enter_context(contextlib.closing(source.batches(first, last, waiting)))
        interval, done, said = _Interval(), first, _Warnings()

        for number, batch in batches:
            interval.images += _images_in(batch)
            interval.updates += 1
            state, report = step(state, batch, rng)
            done = number + 1
            if bar is not None:
                bar.update()
            stopping_now = stop.wanted(done)
            saving = done % config.save_every == 0 or done == last or stopping_now
            validating = config.validate_every and (done % config.validate_every == 0 or done == config.steps)
            # What is saved has been looked at, so that no checkpoint holds a state that is not finite.
            if saving or validating or done % config.log_every == 0 or done == first + 1:
                values = {name: float(value) for name, value in report.items()}
                _check_finite(values, done - interval.updates, done)
                seconds = time.perf_counter() - interval.start
                shown = {f"train/{name}": value for name, value in values.items() if not math.isnan(value)}
                shown["images_per_second"] = interval.images * jax.process_count() / seconds
                shown["input_wait_ms"] = 1e3 * waiting.seconds / interval.updates
                if validating:
                    with hosts.together("validate"):
                        shown |= _validate(source, state, embed)
                if log is not None:
                    log.write(done, shown)
                if values["embedding_variance"] < COLLAPSED and config.method == "mcss":
                    said.once(
                        "collapse",
                        "the embeddings have collapsed to one point (variance "
                        f"{values['embedding_variance']:.1e} at step {done}); raise --temperature_start or "
                        "lower --margin",
                    )
                interval, waiting.seconds = _Interval(), 0.0
            if source.skipped().records:
                said.once("skipped", f"damaged records are masked: {source.skipped().reason}")
            if saving:
                with hosts.together("save"):
                    if hosts.first():
                        checkpoints.save(done, state, position)
            if stopping_now:
                break
        with hosts.together("save"):
            checkpoints.wait()
    if hosts.first() and done < config.steps:
        progress.say(
            f"stopped after step {done} of {config.steps}; saved in {folder}. The same command resumes."
        )
    if source.skipped().records:
        progress.say(
            f"masked {source.skipped().records} damaged records; the first: {source.skipped().reason}"
        )
    return Trained(folder, done, done >= config.steps, state, stop.preempted, stop.received)


def main(config: settings.Train) -> None:
    """Trains and names the folder; exits with `stopping.REQUEUE` when a scheduler's signal came before the end."""
    settings.check(config)
    hosts.initialise(config)
    trained = train(config)
    if trained.finished and hosts.first():
        (trained.folder / "finished.json").write_text(json.dumps({"step": trained.step}) + "\n")
        progress.say(f"finished {trained.step} steps; the run is in {trained.folder}")
    if trained.preempted and not trained.finished:
        sys.exit(stopping.REQUEUE)


if __name__ == "__main__":
    flags.run(settings.Train, "launch.train", __doc__ or "", main)
