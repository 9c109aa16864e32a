"""What the builders of original distributions share: takes planned from file names, and what their files say.

A distribution is planned from the names of its files alone (`Inventory`, made of `Take`s); a take is read
(`Take.read` gives `Footage`: everything but the pictures) only when its turn comes, in whichever process
that is.
"""

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from datasets.distributions.originals import File

Locate = Callable[[File], Path]
"""Gives the path under which a file's content lies, loose or unpacked."""

BoxSource = Literal["auto", "mask", "static", "joints"]
"""Where person boxes come from: the data set's masks, the static-camera finder, or projected joints (labels!).

`auto` takes masks where there are some and looks for the person elsewhere.
"""


@dataclasses.dataclass(frozen=True)
class View:
    """One camera of a take. n kept frames; a view without pictures has an empty `pictures`.

    Attributes:
      camera: its name.
      pictures: one video, or the pictures of all frames in their order.
      intrinsics, extrinsics, distortion: as in `tuple_builder.Instant`, float64.
      pose: joints in the camera's frame, millimetres; NaN where there are none.
      box: the person in the kept frames, x0, y0, x1, y1 in pixels of the original frame, before the margin;
        NaN where the person is not seen; None: the static-camera finder is to look for them.
      box_source: `mask`, `joints` or `static`.
      short_by: how many frames its pictures may lack at the end, by the table of known defects; as many as
        there are for a file that is known to be unreadable.
      frames: how many frames it must hold, less `short_by`.
    """

    camera: str
    pictures: tuple[Path, ...]
    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]
    distortion: Float[np.ndarray, "5"]
    pose: Float[np.ndarray, "n 17 3"]
    box: Float[np.ndarray, "n 4"] | None
    box_source: Literal["mask", "static", "joints"]
    frames: int
    short_by: int = 0


@dataclasses.dataclass(frozen=True)
class Footage:
    """What a take's files say, apart from the pictures themselves.

    Attributes:
      views: V cameras, the same number for all takes of a set.
      frame: indices of the kept frames in the original videos, ascending.
      time: seconds since frame 0.
      seconds_per_record: their usual spacing.
      frame_rate: of the videos, frames per second.
      extra: the builder's own features (`TupleBuilder.extra_features`), n values each.
      notes: sentences that whoever prepares the set should read.
      defect: in place of the take's own, where reading it told more.
    """

    views: tuple[View, ...]
    frame: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    seconds_per_record: float
    frame_rate: float
    extra: dict[str, list[Any]] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    defect: str | None = None


@dataclasses.dataclass(frozen=True)
class Take:
    """One continuous sequence, planned from file names. Data sets subclass it with what their `read` needs.

    Attributes:
      name: unique in the set, for people and for file names: letters, digits, spaces, `_`, `-`, `.`.
      files: what it reads, by role.
      source_frames, kept_frames: about how many pictures will be decoded (over all views), and instants kept.
      defect: what is known to be wrong with it; goes into the sequence table.
    """

    split: str
    subject: str
    action: str
    subaction: str
    group: int
    name: str
    files: dict[str, tuple[File, ...]]
    source_frames: int
    kept_frames: int
    defect: str = ""

    @property
    def archived(self) -> frozenset[File]:
        """Its files that lie in archives."""
        return frozenset(file for several in self.files.values() for file in several if file.archive)

    @property
    def archives(self) -> frozenset[str]:
        """The archives that it needs something of."""
        return frozenset(file.archive for file in self.archived)

    def read(self, locate: Locate) -> Footage:
        """Reads poses, cameras and boxes.

        Raises UserError in one sentence that names the file, what was found and what was expected.
        """
        raise NotImplementedError


def by_archive(takes: Iterable[Take]) -> dict[str, list[File]]:
    """All that any of the takes needs of each archive, sorted: an archive is gone through once for all of them."""
    files: dict[str, list[File]] = {}
    for file in sorted({file for take in takes for file in take.archived}):
        files.setdefault(file.archive, []).append(file)
    return files


@dataclasses.dataclass(frozen=True)
class Missing:
    """A file that should be there: its name, as `--allow_missing` takes it, and where it comes from.

    An archive that cannot be read may hold what is needed: then `hint` says what is wrong with it.
    """

    name: str
    hint: str
    unreadable: bool = False


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What a source holds of a distribution.

    Attributes:
      takes: what can be prepared, in storing order (split by split).
      counts: (files found, files expected) by row and column, for a table: subjects and cameras, say.
      missing: what is not there; preparing stops unless it is allowed to be.
      defects: sentences about known defects in what is there.
      unexpected: files that belong to nothing known here.
      warnings: sentences about what looks wrong but need not be.
    """

    takes: tuple[Take, ...]
    counts: dict[tuple[str, str], tuple[int, int]]
    missing: tuple[Missing, ...] = ()
    defects: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
