"""A folder of BVH files as a motion archive: who moves in which file, which split they belong to, what is read of it.

A folder directly below the archive's is a subject, and so is a file directly in it. If the folders there are called
`train`, `validation` and `test`, they say the split, and what is in them are the subjects.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from datasets.synthetic_multiview import bvh, joint_names, retarget
from mcss_jax.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class MotionFile:
    """One file: its path, its name below the archive's folder, what it counts as, and how many records it makes."""

    path: Path
    name: str
    split: str
    subject: str
    action: str  # the file's name without ending
    subaction: str  # the folders between the subject's and the file, mostly none
    digest: str = ""
    instants: int = 0


@dataclasses.dataclass(frozen=True)
class Archive:
    """All files, split by split and subject by subject, and how they are read.

    Attributes:
      files: in the order of their records.
      seconds_per_record: spacing of the records.
      up_axis: the files' vertical; `auto`: of each file the one along which its person stands.
      joint_map: joint names by role, before the names known anyway.
    """

    files: tuple[MotionFile, ...]
    seconds_per_record: float
    up_axis: Literal["auto", "y", "z"]
    joint_map: dict[str, str]

    @property
    def specification(self) -> dict[str, Any]:
        """What decides the motion, as JSON values."""
        files = {file.name: [file.digest, file.split, file.subject] for file in self.files}
        return {"files": files, "up_axis": self.up_axis, "joint_map": self.joint_map}

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(file.subject for file in self.files))


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """The records of one file: their frames in it, and what the person does in them."""

    frames: Int[np.ndarray, " i"]
    moves: retarget.Moves


def scan(
    folder: str | Path,
    seconds_per_record: float,
    up_axis: Literal["auto", "y", "z"] = "auto",
    joint_map: dict[str, str] | None = None,
    on_file: Callable[[], object] = lambda: None,
) -> Archive:
    """Finds and reads every BVH file below `folder`, so that a broken one is reported before anything is made.

    `on_file` is called after each. Raises UserError when there is none, and for the first
    that cannot be used.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    paths = [path for path in folder.rglob("*") if path.suffix.lower() == ".bvh" and path.name[0] != "."]
    if not paths:
        raise UserError(f"{folder} holds no .bvh file")
    archive = Archive((), seconds_per_record, up_axis, joint_map or {})
    scanned = []
    for file in _motion_files(folder, paths):
        data = file.path.read_bytes()
        count = len(_excerpt(archive, file, data, 0.0).frames)
        scanned.append(dataclasses.replace(file, digest=_digest(data), instants=count))
        on_file()
    return dataclasses.replace(archive, files=tuple(scanned))


def read(archive: Archive, file: MotionFile, heading: float) -> Excerpt:
    """The motion of one file of an archive, turned about the vertical by `heading` degrees.

    Raises UserError for a file that is not the one that was scanned, OSError for one that cannot be read.
    """
    data = file.path.read_bytes()
    if _digest(data) != file.digest:
        raise UserError(f"{file.path} was changed after it was first read; prepare the set again")
    return _excerpt(archive, file, data, heading)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def instants(clip: bvh.Clip, seconds_per_record: float) -> Int[np.ndarray, " i"]:
    """The frames nearest to records that are `seconds_per_record` apart.

    Raises UserError, in one sentence without the file's name, when a clip has too few frames a second.
    """
    # Not even to be counted: a damaged file may speak of years a frame.
    slow = len(clip.values) > 1 and clip.frame_time > 2 * seconds_per_record
    last = 0.0 if slow else (len(clip.values) - 1) * clip.frame_time
    times = np.arange(int(last / seconds_per_record + 1e-6) + 1) * seconds_per_record
    frames = np.rint(times / clip.frame_time).astype(np.int64)
    if slow or (np.diff(frames) == 0).any():
        raise UserError(
            f"has a frame every {clip.frame_time:g} s; one every {seconds_per_record:g} s or more often was expected"
        )
    return frames


def _excerpt(archive: Archive, file: MotionFile, data: bytes, heading: float) -> Excerpt:
    try:
        clip = bvh.parse(data)
        roles = joint_names.find_roles(clip.joints, archive.joint_map)
        frames = instants(clip, archive.seconds_per_record)
        placed = bvh.forward_kinematics(clip.joints, clip.values[frames])
        up = {"y": 1, "z": 2}.get(archive.up_axis) or retarget.up_axis(placed, roles)
        return Excerpt(frames, retarget.moves(retarget.upright(placed, up, heading), roles))
    except UserError as error:
        raise UserError(f"{file.path} {error}") from error


def _motion_files(folder: Path, paths: list[Path]) -> list[MotionFile]:
    """The files in order of split, subject and name, with what their folders say.

    Raises UserError for folders that say a split of some files only, or two of one subject.
    """
    names = sorted(path.relative_to(folder) for path in paths)
    has_split = [len(name.parts) > 1 and name.parts[0] in SPLITS for name in names]
    if any(has_split) and not all(has_split):
        raise UserError(
            f"{folder} holds {names[has_split.index(False)]} beside a folder {names[has_split.index(True)].parts[0]}; "
            f"files either all in {', '.join(SPLITS)}, or none, were expected"
        )
    files = []
    for name in names:
        who, *between = (name.parts[1:] if any(has_split) else name.parts)[:-1] or (name.stem,)
        split = name.parts[0] if any(has_split) else ""
        files.append(MotionFile(folder / name, name.as_posix(), split, who, name.stem, "/".join(between)))
    if not any(has_split):
        splits = _splits(sorted({file.subject for file in files}))
        files = [dataclasses.replace(file, split=splits[file.subject]) for file in files]
    split_of: dict[str, str] = {}
    for file in files:
        if split_of.setdefault(file.subject, file.split) != file.split:
            raise UserError(
                f"{folder} holds subject {file.subject} in {split_of[file.subject]} and in {file.split}; one split a "
                "subject was expected"
            )
    return sorted(files, key=lambda file: (SPLITS.index(file.split), file.subject, file.name))


def _splits(subjects: list[str]) -> dict[str, str]:
    """The last fifth is for testing, the tenth before it for validation; of three subjects or more, one at least."""
    some = int(len(subjects) >= 3)
    test, validation = max(len(subjects) // 5, some), max(len(subjects) // 10, some)
    train = len(subjects) - test - validation
    names = ["train"] * train + ["validation"] * validation + ["test"] * test
    return dict(zip(subjects, names, strict=True))
