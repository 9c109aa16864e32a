"""Who performs what in each sequence: the generated actions, or the files of a motion archive."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jaxtyping import Float, Int

from datasets.synthetic_multiview import motion, motion_files, retarget
from datasets.synthetic_multiview.anatomy import Body, Person

# People and sequences of an archive are numbered from here on: none of them is one of the generated sets' people.
_FIRST_PERSON, _FIRST_SEQUENCE = 1000, 1_000_000


@dataclasses.dataclass(frozen=True)
class Performance:
    """A person who moves, record by record, and the frames of the source that these records are."""

    body: Body
    frames: Int[np.ndarray, " i"]


@dataclasses.dataclass(frozen=True)
class Act:
    """One sequence: what it is called, the numbers that its draws come from, and the motion of any person in it."""

    subject: str
    action: str
    subaction: str
    person: int
    sequence: int
    perform: Callable[[Person], Performance]


def generated(subject: int, action: int, take: int, seed: int, times: Float[np.ndarray, " i"]) -> Act:
    """A take of one of `motion.ACTIONS`."""
    number = (subject * len(motion.ACTIONS) + action) * 100 + take

    def perform(person: Person) -> Performance:
        draws = _exact(motion.motion_draws(seed, number))
        return Performance(motion.pose(action, draws, times, person, np), np.arange(len(times)))

    return Act(f"S{subject}", motion.ACTIONS[action], str(take + 1), subject, number, perform)


def captured(archive: motion_files.Archive, split: str, seed: int) -> list[Act]:
    """The files of a split."""
    people = {name: _FIRST_PERSON + i for i, name in enumerate(archive.subjects)}
    return [
        Act(
            subject=file.subject,
            action=file.action,
            subaction=file.subaction or "1",
            person=people[file.subject],
            sequence=_FIRST_SEQUENCE + i,
            perform=partial(_play, archive, file, _FIRST_SEQUENCE + i, seed),
        )
        for i, file in enumerate(archive.files)
        if file.split == split
    ]


def _play(
    archive: motion_files.Archive, file: motion_files.MotionFile, number: int, seed: int, person: Person
) -> Performance:
    # Files of one capture often face one way; that must not tell a rig's cameras apart.
    heading = 360 * float(_exact(motion.motion_draws(seed, number))[1])
    excerpt = motion_files.read(archive, file, heading)
    return Performance(retarget.body(excerpt.moves, person), excerpt.frames)


def _exact(draws: jax.Array) -> Float[np.ndarray, " draws"]:
    return np.asarray(draws, np.float64)
