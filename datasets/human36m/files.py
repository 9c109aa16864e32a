"""Where Human3.6M's files lie: found by pattern, since everybody's archives and folders are named otherwise.

docs/data_formats.md. Paths are those of `originals.File`, in which archives count as folders.
"""

import dataclasses
import enum
import re
from collections.abc import Iterable

from datasets.distributions.originals import File

METADATA = "metadata.xml"


class Kind(enum.Enum):
    """The kinds of files that are read, with the folders they lie in."""

    VIDEO = "Videos"
    POSES = "D3_Positions"
    MONO = "D3_Positions_mono"
    MASKS = "ground_truth_bb"


SUFFIX = {Kind.VIDEO: ".mp4", Kind.POSES: ".cdf", Kind.MONO: ".cdf", Kind.MASKS: ".mat"}
_FOLDERS = {
    **{kind.value: kind for kind in Kind},
    "Poses_D3_Positions": Kind.POSES,  # as the download scripts of h36m-fetch name them
    "Poses_D3_Positions_mono": Kind.MONO,
}
# S2, S3, S4 and S10 come without poses; actions called _ALL are the miscellaneous takes.
_UNUSED_SUBJECTS = ("S2", "S3", "S4", "S10")
_UNUSED_PREFIX = "_ALL"


@dataclasses.dataclass(frozen=True)
class Place:
    """What a file is: kind, subject (`S1`), prefix of its take and camera; poses in the world have none."""

    kind: Kind
    subject: str
    prefix: str
    camera: str = ""

    @property
    def name(self) -> str:
        """How it is called when it is missing: `S5/Directions 2.54138969.mp4`."""
        camera = f".{self.camera}" if self.camera else ""
        return f"{self.subject}/{self.prefix}{camera}{SUFFIX[self.kind]}"


@dataclasses.dataclass(frozen=True)
class SortedFiles:
    """Files by what they are.

    Attributes:
      places: the file to read for each place.
      metadata: every `metadata.xml`, the one to read first.
      unexpected: paths of files that lie among Human3.6M's, or look like them, without being one of them.
      warnings: sentences about files that claim one place and differ in size.
    """

    places: dict[Place, File]
    metadata: tuple[File, ...]
    unexpected: tuple[str, ...]
    warnings: tuple[str, ...]


def sort_files(files: Iterable[File]) -> SortedFiles:
    """Tells by its path what each file is. Of several in one place a loose one is taken."""
    claims: dict[Place, list[File]] = {}
    metadata, unexpected = [], []
    for file in sorted(files, key=lambda file: (bool(file.archive), file)):
        place = place_of(file.path)
        if place is not None:
            claims.setdefault(place, []).append(file)
        elif file.path.split("/")[-1] == METADATA:
            metadata.append(file)
        elif not _is_unused(file.path):
            unexpected.append(file.path)
    warnings = [
        _warning(several) for several in [*claims.values(), metadata] if len({f.size for f in several}) > 1
    ]
    return SortedFiles(
        places={place: several[0] for place, several in claims.items()},
        metadata=tuple(metadata),
        unexpected=tuple(unexpected),
        warnings=tuple(warnings),
    )


def place_of(path: str) -> Place | None:
    """What the file at `path` is; nothing when it is not one that may be read."""
    *folders, name = path.split("/")
    subject = _subject(folders)
    kind = _FOLDERS.get(folders[-1]) if folders else None
    if subject is None or kind is None or not name.endswith(SUFFIX[kind]):
        return None
    stem = name.removesuffix(SUFFIX[kind])
    if kind is Kind.POSES:
        return Place(kind, subject, stem)
    prefix, dot, camera = stem.rpartition(".")
    return Place(kind, subject, prefix, camera) if dot else None


def is_unused(place: Place) -> bool:
    """Whether a place belongs to Human3.6M without being needed."""
    return place.subject in _UNUSED_SUBJECTS or place.prefix.split(" ")[0] == _UNUSED_PREFIX


def _is_unused(path: str) -> bool:
    """Other kinds of files below a subject's folder (angles, silhouettes, features), and what is no data."""
    *folders, name = path.split("/")
    if _subject(folders) is None:
        return not name.endswith((".mp4", ".cdf"))
    return folders[-1] not in _FOLDERS and _subject(folders[-1:]) is None


def _subject(folders: list[str]) -> str | None:
    """The innermost folder that is called as a subject: archives of one may be named by another number."""
    return next((f.upper() for f in reversed(folders) if re.fullmatch(r"[Ss]\d{1,2}", f)), None)


def _warning(several: list[File]) -> str:
    used, *others = several
    other = next(file for file in others if file.size != used.size)
    return (
        f"{used.path} ({used.size} bytes) is used; {other.path} has {other.size} bytes: one may be incomplete"
    )
