"""The files of an original distribution, as they lie on a user's disk: loose, or in archives."""

import dataclasses


@dataclasses.dataclass(frozen=True, order=True)
class File:
    """One file below `--source`, loose or a member of an archive (which may itself lie in an archive).

    Attributes:
      path: where it lies below the source, with `/`; archives count as folders, so a member of `a/S1.tgz` is
        `a/S1.tgz/S1/Videos/x.mp4`. Patterns are matched against this.
      size: bytes, unpacked.
      archive: the path below the source of the (outermost) archive that it lies in; empty for a loose file.
      members: the names inside, one for each archive around it; empty for a loose file.
      source: the source's own path.
      modified: time of last change of the loose file or outermost archive, nanoseconds.
    """

    path: str
    size: int
    archive: str
    members: tuple[str, ...]
    source: str
    modified: int
