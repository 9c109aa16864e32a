"""Trains an encoder and regressor on multi-view tuples: the supervised baseline, MCSS, or a control.

    python -m launch.train --flagfile=launch/experiments/demo_mcss.flags --workdir=runs/mcss

The same command again resumes at the right step with the right batch. Ctrl-C saves and says where.
"""

import contextlib
import dataclasses
import json
import math
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from datasets import pipeline
from launch import flags, inference, metric_log, progress, run_folder, settings, sources
from mcss_jax import checkpoint, parallel
from mcss_jax.train_step import TrainState

# Embeddings whose summed variance is below this are one point: the metric loss has collapsed.
COLLAPSED = 1e-3


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a call of `train` did: the run's folder, the step it reached, whether that is the last one."""

    folder: Path
    step: int
    finished: bool
    state: TrainState


class _Stop:
    """Makes the first Ctrl-C or SIGTERM a wish to stop after this update; a second one is obeyed at once."""

    def __init__(self) -> None:
        self.wanted = False

    def _handle(self, number: int, _frame: Any) -> None:
        self.wanted = True
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)

    @contextlib.contextmanager
    def watching(self) -> Iterator["_Stop"]:
        try:
            before = {name: signal.signal(name, self._handle) for name in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: signals are somebody else's
            yield self
            return
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


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


def train(config: settings.Train) -> Trained:
    """Trains as `config` says, from the newest checkpoint of the run's folder when there is one.

    Raises ValueError and OSError with one clear sentence for settings and data that cannot be used.
    """
    settings.check(config)
    settings.check_devices(config, jax.local_device_count())
    source = sources.open_source(config)
    statistics = sources.means(source.labelled_poses)
    card = {**source.card, "mean_in_camera": np.asarray(statistics.in_camera).tolist()}
    # Before the folder is touched: what no network can be made for shall leave nothing behind.
    state = run_folder.initial_state(config, source.image_size, statistics.statistics)
    folder = run_folder.claim(config, card)
    step = parallel.pmap_step()
    embed = parallel.pmap_embed()
    rng = jax.random.key(config.seed + 1)
    last = min(config.steps, config.stop_after or config.steps)
    waiting = pipeline.Waiting()

    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            checkpoint.Checkpoints(folder / run_folder.CHECKPOINTS, keep=config.keep)
        )
        first = 0
        if checkpoints.latest() is not None:
            state, position, first = checkpoints.restore(state)
            if position["fingerprint"] != card["fingerprint"]:
                raise ValueError(f"{folder} holds checkpoints of other data than {config.dataset}")
            progress.say(f"resuming {folder} at step {first} of {config.steps}")
        position = {"fingerprint": card["fingerprint"], "seed": config.seed}
        state = parallel.replicate(state)
        log = stack.enter_context(metric_log.MetricLog(folder, resumed_from=first if first else None))
        stop = stack.enter_context(_Stop().watching())
        bar = stack.enter_context(progress.bar(config.steps, f"train {folder.name}", "step", initial=first))
        batches = stack.enter_context(contextlib.closing(source.batches(first, last, waiting)))
        interval, done, warned = _Interval(), first, set()

        def warn_once(name: str, text: str) -> None:
            if name not in warned:
                warned.add(name)
                warnings.warn(text, stacklevel=3)

        for number, batch in batches:
            interval.images += _images_in(batch)
            interval.updates += 1
            state, report = step(state, batch, rng)
            done = number + 1
            bar.update()
            stopping = stop.wanted
            saving = done % config.save_every == 0 or done == last or stopping
            validating = config.validate_every and (done % config.validate_every == 0 or done == config.steps)
            # What is saved has been looked at, so that no checkpoint holds a state that is not finite.
            if saving or validating or done % config.log_every == 0 or done == first + 1:
                values = {name: float(value) for name, value in report.items()}
                _check_finite(values, done - interval.updates, done)
                seconds = time.perf_counter() - interval.start
                shown = {f"train/{name}": value for name, value in values.items() if not math.isnan(value)}
                shown["images_per_second"] = interval.images / seconds
                shown["input_wait_ms"] = 1e3 * waiting.seconds / interval.updates
                if validating:
                    shown |= _validate(source, state, embed)
                log.write(done, shown)
                if values["embedding_variance"] < COLLAPSED and config.method == "mcss":
                    warn_once(
                        "collapse",
                        "the embeddings have collapsed to one point (variance "
                        f"{values['embedding_variance']:.1e} at step {done}); raise --temperature_start or "
                        "lower --margin",
                    )
                interval, waiting.seconds = _Interval(), 0.0
            if source.skipped().records:
                warn_once("skipped", f"damaged records are masked: {source.skipped().reason}")
            if saving:
                checkpoints.save(done, state, position)
            if stopping:
                break
        checkpoints.wait()
    if done < config.steps:
        progress.say(
            f"stopped after step {done} of {config.steps}; saved in {folder}. The same command resumes."
        )
    if source.skipped().records:
        progress.say(
            f"masked {source.skipped().records} damaged records; the first: {source.skipped().reason}"
        )
    return Trained(folder, done, done >= config.steps, state)


def main(config: settings.Train) -> None:
    """Trains and names the folder."""
    trained = train(config)
    if trained.finished:
        (trained.folder / "finished.json").write_text(json.dumps({"step": trained.step}) + "\n")
        progress.say(f"finished {trained.step} steps; the run is in {trained.folder}")


if __name__ == "__main__":
    flags.run(settings.Train, "launch.train", __doc__ or "", main)
