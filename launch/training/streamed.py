"""Synthetic people rendered step by step on the accelerator: no TFDS, no disk."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from datasets.synthetic_multiview import people, stream
from datasets.synthetic_multiview.streamed_takes import Takes
from datasets.tuples import pipeline, sampling
from datasets.tuples.records import SequenceRow
from launch.runs import settings
from launch.training import labelled, memory
from mcss_jax.errors import UserError
from mcss_jax.pairs import Instants
from mcss_jax.training.batch import Batch, Labelled, Unlabelled

# Where people share a room, those of `synthetic_multiview/studio`; where each has their own, those of `sessions`.
PEOPLE: dict[settings.StreamRooms, people.Splits] = {"shared": people.STUDIO, "person": people.SESSIONS}
# A stream's seed decides its people, so its parts share it and number their sequences from far apart.
FIRST_LABELLED = 1 << 28
FIRST_JUDGED = {"validation": 1 << 29, "test": 3 << 28}
# Seconds between the instants of a sequence where no negative gap asks for more: those of `studio`'s records.
LEAST_GAP = 0.1
# Pictures rendered at a time for those who judge.
JUDGED_AT_ONCE = 128

# What tells the fingerprints of streams apart whose people have rooms of their own.
ROOMS_SUFFIX: dict[settings.StreamRooms, str] = {"shared": "", "person": "-person"}

Judge = Literal["validation", "test"]


def labelled_takes(config: settings.Train) -> Takes:
    """The takes that labels can be had of."""
    return _takes(config, "train", FIRST_LABELLED)


def judged_takes(config: settings.Train, judge: Judge) -> Takes:
    """The takes of the people who judge a run with this seed, none of whom it is trained on."""
    return _takes(config, judge, FIRST_JUDGED[judge])


def _takes(config: settings.Train, split: str, first: int) -> Takes:
    rooms = config.data.stream_rooms
    return Takes(PEOPLE[rooms][split], first, config.run.seed, config.data.stream_size, rooms=rooms)


def unlabelled_people(config: settings.Train) -> tuple[int, ...]:
    """The training people that unlabelled sequences are of. Raises UserError for a bad `--unlabelled`."""
    text = config.data.unlabelled
    if ":" in text:
        raise UserError(
            f"--unlabelled={text}: a stream has no end, and no fraction of it can be had; name people alone"
        )
    table = labelled_takes(config).table
    return tuple(sorted({row.group for row in sampling.unlabelled_table(text, table)}))


def views_of(
    takes: Takes, records: Int[np.ndarray, " n"], size: int = JUDGED_AT_ONCE
) -> Iterator[pipeline.Views]:
    """All views of records, rendered, in batches of at most `size` pictures, or of one record."""
    at_once = max(1, size // takes.cameras)
    for first in range(0, len(records), at_once):
        part = records[first : first + at_once]
        every = np.tile(np.arange(takes.cameras), (len(part), 1))
        b = takes.pictures(part, every)

        def flat(x: Any) -> np.ndarray:
            return np.asarray(x).reshape(-1, *x.shape[2:])

        yield pipeline.Views(
            images=flat(b.images),
            record=np.repeat(part, takes.cameras),
            camera=flat(b.camera),
            sequence=np.repeat(np.asarray(b.sequence), takes.cameras),
            time=np.repeat(np.asarray(b.time), takes.cameras),
            pose=flat(b.pose),
            intrinsics=flat(b.intrinsics),
            box=flat(b.box),
        )


class Streamed:
    """Labels are a finite set of takes, as many as `studio` has; unlabelled sequences never come again.

    Raises UserError for a bad `--labelled` and for too few labels for a batch.
    """

    def __init__(self, config: settings.Train) -> None:
        self._config = config
        self._takes = labelled_takes(config)
        labels, self._labelled = labelled.choose(config, self._takes.table, self._takes.cameras, "the stream")
        self._labelled_subjects = jnp.asarray([int(name[1:]) for name, _ in labels.fractions], jnp.int32)
        self._blocks = settings.blocks_of(config)
        self._people = () if self._blocks is None else unlabelled_people(config)
        self.image_size = config.data.stream_size
        self.labelled_poses = self._labelled_poses()
        self.card: dict[str, Any] = {
            "dataset": f"synthetic_multiview stream, {config.data.stream_size} px",
            # 2: labels are finite.
            "fingerprint": f"stream2-{config.data.stream_size}-{config.run.seed}"
            + ROOMS_SUFFIX[config.data.stream_rooms],
            "image_size": config.data.stream_size,
            "views": self._takes.cameras,
            "boxes": "mask",
            "labelled": config.data.labelled,
            "label_sampling": config.data.label_sampling,
            "labelled_subjects": [name for name, _ in labels.fractions],
            "labelled_instants": len(self._labelled),
            "unlabelled_instants": 0 if self._blocks is None else "endless",
            "unlabelled_subjects": [f"S{s}" for s in self._people],
        }

    def _labelled_poses(self) -> Float[np.ndarray, "n 17 3"]:
        pose = self._takes.poses(self._labelled).reshape(-1, 17, 3)
        return pose - pose[:, :1]

    def _labelled_part(self, step: int) -> Labelled:
        size = self._config.batch.labelled_batch
        plan = sampling.plan(
            self._takes.table,
            self._takes.cameras,
            seed=self._config.run.seed,
            step=step,
            blocks=None,
            labelled=self._labelled,
            labelled_size=size,
        )
        plan = sampling.share(plan, jax.process_index(), jax.process_count())
        b = self._takes.pictures(plan.labelled, plan.labelled_views[:, :1])
        return Labelled(
            images=b.images[:, 0],
            pose=b.pose[:, 0],
            intrinsics=b.intrinsics[:, 0],
            box=b.box[:, 0],
            valid=jnp.ones(len(plan.labelled), bool),
            sample=plan.first_labelled + jnp.arange(len(plan.labelled), dtype=jnp.int32),
        )

    def _unlabelled_part(self, step: int, blocks: sampling.Blocks) -> Unlabelled:
        host, hosts = jax.process_index(), jax.process_count()
        config = self._stream(blocks)
        b = stream.stream_batch(self._config.run.seed, step, config, host, hosts)
        count = len(b.subject)
        # A second view that is the first one again is told apart by augmentation.
        images = b.images if blocks.positives == "views" else jnp.repeat(b.images, 2, axis=1)
        # Poses are those of other motions than the labelled takes', but of people whose labels may be used.
        has_label = jnp.isin(b.subject, self._labelled_subjects)
        return Unlabelled(
            images=images,
            # One subject is one group, whichever block it stands in: clothes and room are the same.
            group=b.subject,
            sequence=b.sequence,
            time=b.time,
            valid=jnp.ones(count, bool),
            sample=host * count + jnp.arange(count, dtype=jnp.int32),
            pose=jnp.where(has_label[:, None, None], b.pose[:, 0], jnp.nan),
        )

    def _stream(self, blocks: sampling.Blocks) -> stream.StreamConfig:
        data = self._config.data
        return stream_of(blocks, data.stream_size, self._people, data.stream_rooms)

    def instants(self, step: int) -> Instants:
        if self._blocks is None:
            nobody = jnp.zeros(0, jnp.int32)
            return Instants(nobody, nobody, jnp.zeros(0), jnp.zeros(0, bool))
        moments = stream.moments_of(self._config.run.seed, step, self._stream(self._blocks))
        # One subject is one group, whichever block it stands in: clothes and room are the same.
        return Instants(moments.subject, moments.sequence, moments.time, jnp.ones(len(moments.subject), bool))

    def recorded(self) -> Sequence[SequenceRow]:
        return ()

    def batches(
        self, first: int, last: int, waiting: pipeline.Waiting
    ) -> Generator[tuple[int, Batch], None, None]:
        for step in range(first, last):
            labelled = self._labelled_part(step) if settings.labelled_size(self._config) else None
            unlabelled = None if self._blocks is None else self._unlabelled_part(step, self._blocks)
            yield step, Batch(labelled, unlabelled)

    def validation(self) -> tuple[Iterator[pipeline.Views], int] | None:
        if not self._config.run.validate_every:
            return None
        takes = judged_takes(self._config, "validation")
        records = np.arange(0, len(takes), self._config.run.validation_stride)
        size = min(JUDGED_AT_ONCE, memory.judged_at_once(self._config, takes.cameras))
        return views_of(takes, records, size), size

    def skipped(self) -> pipeline.Skipped:
        return pipeline.Skipped()


def stream_of(
    blocks: sampling.Blocks, size: int, subjects: tuple[int, ...], rooms: settings.StreamRooms = "shared"
) -> stream.StreamConfig:
    """The stream that yields such blocks of these people; mixed ones are instants that share no sequence."""
    mixed = blocks.mix_groups
    return stream.StreamConfig(
        subjects=subjects,
        groups=blocks.size if mixed else blocks.blocks,
        sequences=1 if mixed else blocks.sequences,
        instants=1 if mixed else blocks.instants,
        views=2 if blocks.positives == "views" else 1,
        size=size,
        gap=max(blocks.min_gap, LEAST_GAP),
        rooms=rooms,
    )
