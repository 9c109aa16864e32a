"""Where a training run's batches come from: a prepared data set, or a stream rendered on the accelerator."""

import dataclasses
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from datasets.tuples import pipeline, sampling
from datasets.tuples.records import SequenceRow
from launch.runs import settings
from launch.training import cached, labelled, memory, streamed
from mcss_jax.errors import UserError
from mcss_jax.pairs import Instants
from mcss_jax.training.state import PoseStatistics, pose_statistics

Batches = Generator[tuple[int, Any], None, None]


class Source(Protocol):
    """What the training loop asks of its data."""

    image_size: int
    card: dict[str, Any]
    labelled_poses: Float[np.ndarray, "n 17 3"]

    def batches(self, first: int, last: int, waiting: pipeline.Waiting) -> Batches:
        """(step, batch) for steps first .. last - 1; `waiting` adds up the seconds the loop waits."""

    def instants(self, step: int) -> Instants:
        """What the temporal rule knows of the unlabelled instants of a step, of all hosts; none without such a part."""

    def recorded(self) -> Sequence[SequenceRow]:
        """The sequences that unlabelled instants are drawn from; nothing where they have no end, or none is drawn."""

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        """Views of validation people and their largest batch; None when there are none."""

    def skipped(self) -> pipeline.Skipped:
        """Records masked so far."""


class Prepared:
    """A prepared data set.

    Raises UserError when it is missing or too small for the batch, or for a bad
    `--labelled`.
    """

    def __init__(self, config: settings.Train) -> None:
        self._config = config
        data = config.data
        self._split = pipeline.open_split(
            data.data_dir, data.dataset, data.train_split, data.image_size, pipeline.FOR_TRAINING
        )
        labels, self._labelled = labelled.choose(
            config, self._split.table, self._split.views, config.data.dataset
        )
        self._blocks = settings.blocks_of(config)
        self._unlabelled = (
            () if self._blocks is None else labelled.unlabelled_table(config, self._split.table)
        )
        loader = cached.Loader if config.data.cache == "device" else pipeline.Loader
        self._loader = loader(self._split, self._labelled, config.run.decode_threads)
        self._validation = self._open_validation()
        self.image_size = self._split.image_size
        self.labelled_poses = self._read_labelled_poses()
        self.card = {
            "dataset": self._split.name,
            "fingerprint": self._split.fingerprint,
            "image_size": self.image_size,
            "views": self._split.views,
            "boxes": self._split.box_source,
            "specification": self._split.specification,
            "labelled": config.data.labelled,
            "label_sampling": config.data.label_sampling,
            "labelled_subjects": [subject for subject, _ in labels.fractions],
            "labelled_instants": len(self._labelled),
            "unlabelled_instants": sum(row.length for row in self._unlabelled),
            "unlabelled_subjects": sorted({row.subject for row in self._unlabelled}),
            "unlabelled_seconds": round(
                sum(row.length * row.seconds_per_record for row in self._unlabelled), 3
            ),
        }

    def _open_validation(self) -> pipeline.Split | None:
        if not self._config.data.validation_split or not self._config.run.validate_every:
            return None
        try:
            split = pipeline.open_split(
                self._config.data.data_dir,
                self._config.data.dataset,
                self._config.data.validation_split,
                self._config.data.image_size,
            )
        except UserError as error:
            raise UserError(f"{error} (set --validation_split, or leave it empty)") from error
        if not all(row.has_pose for row in split.table):
            raise UserError(
                f"split {split.name} has instants without poses and cannot judge a run; set "
                "--validation_split= (empty)"
            )
        return split

    def _read_labelled_poses(self) -> Float[np.ndarray, "n 17 3"]:
        """Root-relative poses in each view's camera, of labelled records only."""
        poses = []
        for index in self._labelled:
            try:
                record = self._split[int(index)]
            except UserError:  # a damaged record is counted by the loader when it comes up
                continue
            pose = record["pose"][record["view_valid"]]
            poses.append((pose - pose[:, :1])[np.isfinite(pose).all(axis=(1, 2))])
        return np.concatenate(poses) if poses else np.zeros((0, 17, 3), np.float32)

    def batches(self, first: int, last: int, waiting: pipeline.Waiting) -> Batches:
        def make(step: int) -> Any:
            plan = self._plan(step)
            return self._loader(sampling.share(plan, jax.process_index(), jax.process_count()))

        return pipeline.read_ahead(make, range(first, last), waiting=waiting)

    def _plan(self, step: int) -> sampling.Plan:
        return sampling.plan(
            self._unlabelled,
            self._split.views,
            seed=self._config.run.seed,
            step=step,
            blocks=self._blocks,
            labelled=self._labelled,
            labelled_size=settings.labelled_size(self._config),
        )

    def instants(self, step: int) -> Instants:
        records = self._plan(step).unlabelled
        place = np.searchsorted([row.first for row in self._unlabelled], records, side="right") - 1
        rows = [self._unlabelled[i] for i in place]
        time = [(at - row.first) * row.seconds_per_record for at, row in zip(records, rows, strict=True)]
        return Instants(
            jnp.asarray([row.group for row in rows], jnp.int32),
            jnp.asarray(place, jnp.int32),
            jnp.asarray(time, jnp.float32),
            jnp.ones(len(rows), bool),
        )

    def recorded(self) -> Sequence[SequenceRow]:
        return self._unlabelled

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        if self._validation is None:
            return None
        size = memory.judged_at_once(self._config, self._validation.views)
        records = np.arange(0, self._validation.records, self._config.run.validation_stride)
        threads = self._config.run.decode_threads
        return pipeline.iterate_views(self._validation, size, records, threads=threads), size

    def skipped(self) -> pipeline.Skipped:
        return self._loader.skipped


def open_source(config: settings.Train) -> Source:
    """The source that `--stream` or `--dataset` names."""
    return streamed.Streamed(config) if config.data.stream else Prepared(config)


@dataclasses.dataclass(frozen=True)
class Means:
    """Constant predictors from the labelled poses: mean canonical pose and scale, mean camera-frame pose."""

    statistics: PoseStatistics
    in_camera: Float[np.ndarray, "17 3"]


def means(labelled_poses: Float[np.ndarray, "n 17 3"]) -> Means:
    """Of root-relative camera-frame poses; zeros when there are none."""
    statistics = pose_statistics(jnp.asarray(labelled_poses))
    in_camera = labelled_poses.mean(0) if len(labelled_poses) else np.zeros((17, 3), np.float32)
    return Means(statistics, in_camera)
