"""A finite set of takes beside the endless stream, rendered when it is asked for: labels, and people to judge on.

As many and as long as the takes of `synthetic_multiview/studio`, so that "the labels of S1" are as many in a stream.
"""

import dataclasses
from collections.abc import Iterator
from itertools import product

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from datasets.synthetic_multiview import motion, scene, stream
from datasets.tuples.records import SequenceRow

POSES_AT_ONCE = 1600


@dataclasses.dataclass(frozen=True)
class Takes:
    """Every action of every subject, `takes` times, `instants` records each, seen by all `cameras`.

    Attributes:
      subjects: numbers of people.
      first: number of the first sequence; far from those of other sets, so that no motion is seen twice.
      seed: decides people, room, rig and motion.
      size: side of the pictures, pixels.
      gap: seconds between records.
      rooms: what has a room, rig, light and clothes of its own.
    """

    subjects: tuple[int, ...]
    first: int
    seed: int
    size: int
    takes: int = 2
    instants: int = 400
    gap: float = 0.1
    cameras: int = 4
    rooms: scene.Rooms = "shared"

    def __len__(self) -> int:
        return len(self.subjects) * len(motion.ACTIONS) * self.takes * self.instants

    @property
    def table(self) -> tuple[SequenceRow, ...]:
        """The sequence table, as a prepared set has one."""
        acts = product(self.subjects, motion.ACTIONS, range(self.takes))
        return tuple(
            SequenceRow(
                f"S{subject}", action, str(take + 1), subject, i * self.instants, self.instants, self.gap
            )
            for i, (subject, action, take) in enumerate(acts)
        )

    def pictures(self, records: Int[np.ndarray, " n"], views: Int[np.ndarray, "n v"]) -> stream.StreamBatch:
        """Records, each in its own choice of views."""
        return stream.pictures_at(self.seed, self._moments(records, views), self._config)

    def poses(self, records: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n c 17 3"]:
        """Poses of records in every camera's frame, millimetres."""
        views = np.tile(np.arange(self.cameras), (POSES_AT_ONCE, 1))
        poses = [
            stream.poses_at(self.seed, self._moments(part, views), self._config)[:count]
            for part, count in _parts(records, POSES_AT_ONCE)
        ]
        return np.concatenate([np.zeros((0, self.cameras, 17, 3), np.float32), *map(np.asarray, poses)])

    @property
    def _config(self) -> stream.StreamConfig:
        return stream.StreamConfig(
            subjects=self.subjects, size=self.size, cameras=self.cameras, rooms=self.rooms
        )

    def _moments(self, records: Int[np.ndarray, " n"], views: Int[np.ndarray, "n v"]) -> stream.Moments:
        row, index = np.divmod(records, self.instants)
        subject, act = np.divmod(row, len(motion.ACTIONS) * self.takes)

        def whole(values: np.ndarray) -> jnp.ndarray:
            return jnp.asarray(values, jnp.int32)

        return stream.Moments(
            subject=whole(np.asarray(self.subjects)[subject]),
            action=whole(act // self.takes),
            group=whole(np.asarray(self.subjects)[subject]),
            sequence=whole(self.first + row),
            time=jnp.asarray(index * self.gap, jnp.float32),
            views=whole(views),
        )


def _parts(records: Int[np.ndarray, " n"], size: int) -> Iterator[tuple[Int[np.ndarray, " s"], int]]:
    """Records in parts of one size, the last one filled up with its own first; and how many of a part count."""
    for first in range(0, len(records), size):
        part = records[first : first + size]
        yield np.pad(part, (0, size - len(part)), constant_values=part[0]), len(part)
