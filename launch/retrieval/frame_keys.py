"""Pr-VIPE's published frame keys: which views queries and gallery are restricted to.

One key a line (docs/data_formats.md#pr-vipe-protocol-and-frame-keys):

    S11:Directions 1:54138969:000020    Human3.6M: subject, name of the take's files, camera, frame
    S1:Seq1:V0:C0:003370                MPI-INF-3DHP: subject, sequence, video, camera, frame

Human3.6M's file names say neither action nor sub-action (docs/data_formats.md); the owners' metadata.xml does.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from datasets.human36m import metadata as h36m
from datasets.tuples import pipeline
from datasets.tuples.records import frame_numbers
from launch.evaluation import inference, protocols
from mcss_jax.errors import UserError

_HUMAN36M = re.compile(r"(?P<subject>S\d+):(?P<take>[^:]+):(?P<camera>\d{8}):(?P<frame>\d+)")
_MPI_INF_3DHP = re.compile(r"(?P<subject>S\d+):(?P<take>Seq\d+):V(?P<camera>\d+):C(?P=camera):(?P<frame>\d+)")
_SHOWN = 3  # keys that a message names

Take = tuple[str, str, str]
"""Subject, action and sub-action, as the sequence table has them."""


@dataclasses.dataclass(frozen=True)
class FrameKey:
    """One view of one instant. `take` is a file name (Human3.6M) or a folder (MPI-INF-3DHP), `text` the line."""

    text: str
    subject: str
    take: str
    camera: str
    frame: int
    is_human36m: bool


class Place(NamedTuple):
    """A key, the record it names, and the number of its view there."""

    key: FrameKey
    record: int
    view: int


@dataclasses.dataclass(frozen=True)
class Located:
    """Keys found in a split, and by reason those that it lacks."""

    places: tuple[Place, ...]
    lacking: dict[str, tuple[str, ...]]

    @property
    def records(self) -> Int[np.ndarray, " n"]:
        """Records that hold a view that a key names, ascending."""
        return np.unique(np.asarray([place.record for place in self.places], np.int64))

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras of the views that keys name."""
        return tuple(dict.fromkeys(place.key.camera for place in self.places))


def read(files: Iterable[str | Path]) -> list[FrameKey]:
    """The keys of several files, each once, in order.

    Raises UserError for a missing file, and for one that is not text or has a malformed line.
    """
    keys: dict[str, FrameKey] = {}
    for path in map(Path, files):
        if not path.is_file():
            raise UserError(f"there is no file of frame keys {path}; --frame_keys names it")
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not a text file ({error}); expected one frame key a line") from error
        for number, line in enumerate(map(str.strip, lines), 1):
            if line:
                keys[line] = _parse(line, f"{path}, line {number}")
    if not keys:
        raise UserError("the files of --frame_keys hold no key")
    return list(keys.values())


def _parse(line: str, where: str) -> FrameKey:
    match = _HUMAN36M.fullmatch(line) or _MPI_INF_3DHP.fullmatch(line)
    if match is None:
        raise UserError(
            f"{where}: {line[:80]!r} is no frame key; expected SUBJECT:FILE:CAMERA:FRAME (S11:Directions "
            "1:54138969:000020) or SUBJECT:SEQUENCE:VIDEO:CAMERA:FRAME (S1:Seq1:V0:C0:003370)"
        )
    return FrameKey(
        line, match["subject"], match["take"], match["camera"], int(match["frame"]), match.re is _HUMAN36M
    )


def takes_by_file(metadata: str) -> dict[tuple[str, str], Take]:
    """Takes of Human3.6M by subject and name of their files, from the file `metadata.xml`.

    Raises UserError when it is missing or malformed.
    """
    path = Path(metadata).expanduser()
    if not path.is_file():
        raise UserError(f"there is no file {path}; --metadata names Human3.6M's metadata.xml")
    parsed = h36m.parse(path.read_bytes(), str(path))
    return {
        (subject, take.prefix): (subject, parsed.action_names[take.action], str(take.subaction))
        for subject, takes in parsed.sequences.items()
        for take in takes
    }


def locate(split: pipeline.Split, keys: Iterable[FrameKey], metadata: str = "") -> Located:
    """The records and views that keys name, without reading more than a record of each sequence.

    Args:
      metadata: path of Human3.6M's metadata.xml, needed for its keys.

    Raises UserError when Human3.6M's keys come without `metadata`, or the split has none of the keys, and as
    `takes_by_file` does.
    """
    keys = list(keys)
    if any(key.is_human36m for key in keys) and not metadata:
        raise UserError(
            "frame keys of Human3.6M name files, and which action a file is only metadata.xml of the owners' code "
            "tells; give its path with --metadata"
        )
    by_file = takes_by_file(metadata) if metadata else {}
    sequences = _sequences(split)
    places = []
    lacking: dict[str, list[str]] = {}
    for key in keys:
        take = by_file.get((key.subject, key.take)) if key.is_human36m else (key.subject, key.take, "")
        sequence = sequences.get(take) if take else None
        if sequence is None:
            lacking.setdefault("no such sequence", []).append(key.text)
        elif key.camera not in sequence.views:
            lacking.setdefault("no such camera", []).append(key.text)
        elif key.frame not in sequence.records:
            lacking.setdefault("frame not stored", []).append(key.text)
        else:
            places.append(Place(key, sequence.records[key.frame], sequence.views[key.camera]))
    located = Located(tuple(places), {reason: tuple(texts) for reason, texts in lacking.items()})
    if not places:
        raise UserError(f"{split.name} has none of the frame keys: {_counts(located.lacking)}")
    return located


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """Where the frames and cameras of a sequence are: record by frame number, view by camera."""

    records: dict[int, int]
    views: dict[str, int]


def _sequences(split: pipeline.Split) -> Mapping[Take, _Sequence]:
    sequences = {}
    for row in split.table:
        if row.length:
            numbers = range(row.first, row.first + row.length)
            cameras = [name.decode() for name in split[row.first]["camera"]]
            sequences[row.subject, row.action, row.subaction] = _Sequence(
                records=dict(zip(frame_numbers(row).tolist(), numbers, strict=True)),
                views={name: view for view, name in enumerate(cameras) if name},
            )
    return sequences


def within(located: Located, split: pipeline.Split, choice: protocols.Choice) -> Located:
    """The keys in sequences and cameras of an evaluation's choice. Raises UserError when none is left."""
    sequences = frozenset(split.sequence_of[choice.records].tolist())
    kept = tuple(
        place
        for place in located.places
        if int(split.sequence_of[place.record]) in sequences
        and (not choice.cameras or place.key.camera in choice.cameras)
    )
    if not kept:
        raise UserError(
            "--cameras, --damaged and --exclude leave none of the frame keys; leave one of them out"
        )
    return dataclasses.replace(located, places=kept)


def view_indices(views: inference.Views, located: Located) -> Int[np.ndarray, " n"]:
    """Which of the predicted views the keys name, ascending. Raises UserError when there are none."""
    at = _index(views)
    indices = sorted(at[p.record, p.view] for p in located.places if (p.record, p.view) in at)
    if not indices:
        raise UserError("none of the frame keys names a valid view")
    return np.asarray(indices, np.int64)


def lacking_text(located: Located, views: inference.Views) -> str:
    """How many keys are lacking, why, and the first few of each reason.

    A record may have a view that is not valid, or be marked as not valid by its data set: such views are not among
    the predicted ones, and lacking too.
    """
    at = _index(views)
    invalid = tuple(p.key.text for p in located.places if (p.record, p.view) not in at)
    return _counts(located.lacking | ({"view not valid": invalid} if invalid else {}))


def _index(views: inference.Views) -> dict[tuple[int, int], int]:
    """The predicted views by record and number of the view."""
    names = zip(views.record.tolist(), views.camera.tolist(), strict=True)
    return {name: index for index, name in enumerate(names)}


def _counts(lacking: Mapping[str, Sequence[str]]) -> str:
    return (
        "; ".join(
            f"{len(texts):,} lacking, {reason} ({', '.join(texts[:_SHOWN])}{', ...' if len(texts) > _SHOWN else ''})"
            for reason, texts in lacking.items()
        )
        or "none lacking"
    )
