"""Where a training run's batches come from: a prepared data set, or a stream rendered on the accelerator."""

import dataclasses
from collections.abc import Generator, Iterator
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from datasets import pipeline, sampling
from launch import settings
from mcss_jax import train_step

Batches = Generator[tuple[int, Any], None, None]


class Source(Protocol):
    """What the training loop asks of its data."""

    image_size: int
    card: dict[str, Any]
    labelled_poses: Float[np.ndarray, "n 17 3"]

    def batches(self, first: int, last: int, waiting: pipeline.Waiting) -> Batches:
        """(step, batch) for steps first .. last - 1; `waiting` adds up the seconds the loop waits."""

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        """Views of validation people and their largest batch; None when there are none."""

    def skipped(self) -> pipeline.Skipped:
        """Records masked so far."""


class Prepared:
    """A prepared data set.

    Raises FileNotFoundError or ValueError when it is missing or too small for the batch, or for a bad
    `--labelled`.
    """

    def __init__(self, config: settings.Train) -> None:
        self._config = config
        self._split = pipeline.open_split(
            config.data_dir, config.dataset, config.train_split, config.image_size
        )
        labels = sampling.parse_labelled(config.labelled, self._split.table)
        self._labelled = sampling.labelled_records(
            self._split.table, labels, config.label_sampling, config.seed
        )
        self._blocks = settings.blocks_of(config)
        self._labelled_size = 0 if config.labelled == "none" else config.labelled_batch
        if config.method == "baseline" and not len(self._labelled):
            raise ValueError(
                f"--method=baseline learns from labels alone, but --labelled={config.labelled} leaves none; "
                f"name subjects whose poses {config.dataset} holds"
            )
        sampling.check(
            self._split.table, self._split.views, self._blocks, len(self._labelled), self._labelled_size
        )
        self._loader = pipeline.Loader(self._split, self._labelled, config.decode_threads)
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
            "labelled": config.labelled,
            "label_sampling": config.label_sampling,
            "labelled_subjects": [subject for subject, _ in labels.fractions],
            "labelled_instants": len(self._labelled),
            "unlabelled_instants": 0 if self._blocks is None else self._split.records,
            "unlabelled_subjects": []
            if self._blocks is None
            else sorted({row.subject for row in self._split.table}),
        }

    def _open_validation(self) -> pipeline.Split | None:
        if not self._config.validation_split or not self._config.validate_every:
            return None
        try:
            split = pipeline.open_split(
                self._config.data_dir,
                self._config.dataset,
                self._config.validation_split,
                self._config.image_size,
            )
        except ValueError as error:
            raise ValueError(f"{error} (set --validation_split, or leave it empty)") from error
        if not all(row.has_pose for row in split.table):
            raise ValueError(
                f"split {split.name} has instants without poses and cannot judge a run; set "
                "--validation_split= (empty)"
            )
        return split

    def _read_labelled_poses(self) -> Float[np.ndarray, "n 17 3"]:
        """Root-relative poses in each view's camera, of labelled records only."""
        found = []
        for index in self._labelled:
            try:
                record = self._split[int(index)]
            except Exception:  # noqa: S112 - a damaged record is counted by the loader when it comes up
                continue
            pose = record["pose"][record["view_valid"]]
            found.append((pose - pose[:, :1])[np.isfinite(pose).all(axis=(1, 2))])
        return np.concatenate(found) if found else np.zeros((0, 17, 3), np.float32)

    def batches(self, first: int, last: int, waiting: pipeline.Waiting) -> Batches:
        def make(step: int) -> pipeline.HostBatch:
            plan = sampling.plan(
                self._split.table,
                self._split.views,
                seed=self._config.seed,
                step=step,
                blocks=self._blocks,
                labelled=self._labelled,
                labelled_size=self._labelled_size,
            )
            return self._loader(plan)

        return pipeline.read_ahead(make, range(first, last), waiting=waiting)

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        if self._validation is None:
            return None
        views = self._validation.views
        size = max(views, 256 // views * views)
        records = np.arange(0, self._validation.records, self._config.validation_stride)
        return pipeline.iterate_views(self._validation, size, records), size

    def skipped(self) -> pipeline.Skipped:
        return self._loader.skipped


class Streamed:
    """Synthetic people rendered step by step: no TFDS, no disk. Subjects as in `synthetic_multiview/studio`.

    Labels are the poses of the labelled subjects' own stream, so fractions have no meaning here. Raises
    ValueError for them, for `--label_sampling=chunk` and for `--mix_groups`.
    """

    TRAINING, VALIDATION = (1, 2, 3, 4, 5), (6,)
    # A stream's seed decides its people, so its parts share it and count their instants from far apart.
    FIRST_LABELLED, FIRST_VALIDATION = 1 << 28, 1 << 29

    def __init__(self, config: settings.Train) -> None:
        from datasets.synthetic_multiview import stream

        if config.mix_groups:
            raise ValueError("--mix_groups has no meaning with --stream: its blocks are made, not drawn")
        if config.label_sampling != "uniform":
            raise ValueError(
                f"--label_sampling={config.label_sampling} has no meaning with --stream: it labels whole subjects"
            )
        self._stream, self._config = stream, config
        self._labelled = self._subjects(config.labelled)
        self._blocks = settings.blocks_of(config)
        self.image_size = config.stream_size
        self.labelled_poses = self._some_poses()
        self.card = {
            "dataset": f"synthetic_multiview stream, {config.stream_size} px",
            "fingerprint": f"stream-{config.stream_size}-{config.seed}",
            "image_size": config.stream_size,
            "views": 4,
            "boxes": "mask",
            "labelled": config.labelled,
            "label_sampling": config.label_sampling,
            "labelled_subjects": [f"S{subject}" for subject in self._labelled],
            "labelled_instants": "endless",
            "unlabelled_instants": 0 if self._blocks is None else "endless",
            "unlabelled_subjects": [] if self._blocks is None else [f"S{s}" for s in self.TRAINING],
        }

    def _subjects(self, text: str) -> tuple[int, ...]:
        names = {f"S{subject}": subject for subject in self.TRAINING}
        if text == "none":
            return ()
        if text == "all":
            return self.TRAINING
        found = [name.strip() for name in text.split(",")]
        for name in found:
            if name not in names:
                raise ValueError(
                    f"--labelled names {name!r}; with --stream it takes whole subjects: {', '.join(names)}, "
                    "all or none"
                )
            if found.count(name) > 1:
                raise ValueError(f"--labelled names subject {name!r} twice in {text!r}")
        return tuple(names[name] for name in found)

    def _single_views(
        self, subjects: tuple[int, ...], first: int, step: int, count: int, size: int | None = None
    ) -> Any:
        """Batch `step` of `count` independent instants, one view each, numbered from about `first`."""
        config = self._stream.StreamConfig(
            subjects=subjects,
            groups=count,
            sequences=1,
            instants=1,
            views=1,
            size=size or self._config.stream_size,
        )
        return self._stream.stream_batch(self._config.seed, first // count + step, config)

    def _some_poses(self) -> Float[np.ndarray, "n 17 3"]:
        if not self._labelled:
            return np.zeros((0, 17, 3), np.float32)
        # The pictures are not looked at: as small as can be.
        batch = self._single_views(self._labelled, self.FIRST_LABELLED, 0, 1024, size=8)
        pose = np.asarray(batch.pose[:, 0])
        return pose - pose[:, :1]

    def _make(self, step: int) -> train_step.Batch:
        config, out = self._config, {}
        if self._labelled and config.labelled_batch:
            b = self._single_views(self._labelled, self.FIRST_LABELLED, step, config.labelled_batch)
            out["labelled"] = {
                "images": b.images[:, 0],
                "pose": b.pose[:, 0],
                "intrinsics": b.intrinsics[:, 0],
                "box": b.box[:, 0],
                "valid": jnp.ones(b.pose.shape[0], bool),
                "sample": jnp.arange(b.pose.shape[0], dtype=jnp.int32),
            }
        if self._blocks is not None:
            wanted = self._stream.StreamConfig(
                subjects=self.TRAINING,
                groups=self._blocks.blocks,
                sequences=self._blocks.sequences,
                instants=self._blocks.instants,
                views=2,
                size=config.stream_size,
                gap=self._blocks.min_gap,
            )
            b = self._stream.stream_batch(config.seed, step, wanted)
            out["unlabelled"] = {
                "images": b.images,
                # One subject is one group, whichever block it stands in: clothes and room are the same.
                "group": b.subject,
                "sequence": b.sequence,
                "time": b.time,
                "valid": jnp.ones(b.time.shape[0], bool),
                "sample": jnp.arange(b.time.shape[0], dtype=jnp.int32),
                "pose": jnp.where(
                    jnp.isin(b.subject, jnp.asarray(self._labelled, jnp.int32))[:, None, None],
                    b.pose[:, 0],
                    jnp.nan,
                ),
            }
        return out

    def batches(self, first: int, last: int, waiting: pipeline.Waiting) -> Batches:
        for step in range(first, last):
            yield step, self._make(step)

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        if not self._config.validate_every:
            return None
        size, batches = 128, 4

        def views() -> Iterator[pipeline.Views]:
            for step in range(batches):
                b = self._single_views(self.VALIDATION, self.FIRST_VALIDATION, step, size)
                yield pipeline.Views(
                    images=np.asarray(b.images[:, 0]),
                    record=step * size + np.arange(size),
                    camera=np.asarray(b.camera[:, 0]),
                    sequence=np.asarray(b.sequence),
                    time=np.asarray(b.time),
                    pose=np.asarray(b.pose[:, 0]),
                    intrinsics=np.asarray(b.intrinsics[:, 0]),
                    box=np.asarray(b.box[:, 0]),
                )

        return views(), size

    def skipped(self) -> pipeline.Skipped:
        return pipeline.Skipped()


def open_source(config: settings.Train) -> Source:
    """The source that `--stream` or `--dataset` names."""
    return Streamed(config) if config.stream else Prepared(config)


@dataclasses.dataclass(frozen=True)
class Means:
    """Constant predictors from the labelled poses: mean canonical pose and scale, mean camera-frame pose."""

    statistics: train_step.PoseStatistics
    in_camera: Float[np.ndarray, "17 3"]


def means(labelled_poses: Float[np.ndarray, "n 17 3"]) -> Means:
    """Of root-relative camera-frame poses; zeros when there are none."""
    statistics = train_step.pose_statistics(jnp.asarray(labelled_poses))
    in_camera = labelled_poses.mean(0) if len(labelled_poses) else np.zeros((17, 3), np.float32)
    return Means(statistics, in_camera)
