"""What is said of a run while it trains: its figures now and then, and what looks wrong, once."""

import dataclasses
import math
import time
import warnings

import jax

from datasets.tuples import pipeline
from launch.evaluation import inference
from launch.runs import hosts, metric_log, run_folder, settings
from launch.training import sources
from mcss_jax.errors import UserError
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Report

# Embeddings whose summed variance is below this are one point: the metric loss has collapsed.
COLLAPSED = 1e-3
VALIDATION = ("mpjpe", "n_mpjpe", "pa_mpjpe", "mpjpe_canonical")


@dataclasses.dataclass
class _Interval:
    """What happened since the last look."""

    start: float = dataclasses.field(default_factory=time.perf_counter)
    images: int = 0
    updates: int = 0
    # On the device, so that no update waits to be read: few batches hold labels that tell, and one alone says little.
    false_negatives: list[jax.Array] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Journal:
    """Looks at the reports of updates: all processes at the same ones; process 0 writes them down.

    `first`: the step that the run goes on from, 0 at its beginning.
    `waiting`: the seconds that the loop waits for batches; counted from one look to the next.
    `log`: None on the processes that do not write.
    """

    config: settings.Train
    source: sources.Source
    waiting: pipeline.Waiting
    embed: inference.Embed
    log: metric_log.MetricLog | None
    first: int
    _interval: _Interval = dataclasses.field(default_factory=_Interval)
    _warned: set[str] = dataclasses.field(default_factory=set)

    def count(self, batch: Batch) -> None:
        """Notes that an update has begun on this process's part of a batch."""
        self._interval.images += batch.pictures
        self._interval.updates += 1

    def keep(self, report: Report) -> None:
        """Keeps of an update's report what the next look gives the mean of."""
        if "false_negatives" in report:
            self._interval.false_negatives.append(report["false_negatives"])

    def look(self, step: int, report: Report, state: TrainState, *, validate: bool) -> None:
        """Writes down what update `step` reported, with the figures of validation people where wanted.

        Raises UserError when loss or gradient are not finite, OSError on the process that cannot write.
        """
        values = {name: float(value) for name, value in report.items()}
        _check_finite(values, step - self._interval.updates, step, saved=self._saved_before(step))
        shown = {f"train/{name}": value for name, value in values.items() if not math.isnan(value)}
        shown |= self._false_negatives() | self._speed()
        if validate:
            with hosts.together("validate"):
                shown |= self._validate(state)
        with hosts.together("write the log"):
            if self.log is not None:
                self.log.write(step, shown)
        if values["embedding_variance"] < COLLAPSED and self.config.method == "mcss" and hosts.first():
            self._warn_once(
                "collapse",
                "the embeddings have collapsed to one point (variance "
                f"{values['embedding_variance']:.1e} at step {step}); raise --temperature_start or lower --margin",
            )
        if values.get("anchors_with_negative") == 0.0 and self.config.method == "mcss" and hosts.first():
            self._warn_once(
                "negatives",
                f"no unlabelled instant in the batch of step {step} has a negative, so that it teaches nothing; record "
                "each person for longer, or lower --min_negative_gap",
            )
        self._interval, self.waiting.seconds = _Interval(), 0.0

    def warn_of_damage(self) -> None:
        """Says once that records of this process's share cannot be read."""
        if self.source.skipped().records:
            self._warn_once("damage", f"damaged records are masked: {self.source.skipped().reason}")

    def _saved_before(self, step: int) -> bool:
        """Whether there is a checkpoint of an earlier step, written or being written."""
        return self.first > 0 or step > self.config.run.save_every

    def _speed(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._interval.start
        return {
            "images_per_second": self._interval.images * jax.process_count() / seconds,
            "input_wait_ms": 1e3 * self.waiting.seconds / self._interval.updates,
        }

    def _false_negatives(self) -> dict[str, float]:
        """The mean over the updates since the last look that could tell; nothing where none could."""
        shares = [float(share) for share in self._interval.false_negatives]
        known = [share for share in shares if not math.isnan(share)]
        return {"train/false_negatives": sum(known) / len(known)} if known else {}

    def _validate(self, state: TrainState) -> dict[str, float]:
        validation = self.source.validation()
        if validation is None:
            return {}
        views, size = validation
        figures = inference.pose_figures(inference.predict(state, views, size=size, embed=self.embed))
        return {f"validation/{name}": figures[name] for name in VALIDATION}

    def _warn_once(self, kind: str, text: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, stacklevel=3)


def _check_finite(report: dict[str, float], previous: int, step: int, *, saved: bool) -> None:
    if not math.isfinite(report["loss"]) or not math.isfinite(report["gradient_norm"]):
        before = "the last checkpoint is from before" if saved else "nothing was saved"
        where = f" {run_folder.ELSEWHERE}" if saved else ""
        raise UserError(
            f"the loss or its gradient became non-finite between updates {previous} and {step} (loss "
            f"{report['loss']}, gradient norm {report['gradient_norm']}); {before}. Lower "
            f"--learning_rate or --clip_norm{where}"
        )
