"""Finished takes on disk, each in a folder of its own: what an interrupted preparation goes on from.

A folder appears complete or not at all. Its name tells what decided its content, so that what was made
otherwise, or of other files, is never taken for it; one whose files are not as they were written (after a power
failure, say) does not count as finished.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from datasets import npz
from datasets.distributions import cropping
from datasets.distributions.takes import Footage, Locate, Take
from mcss_jax.errors import UserError

UNFINISHED = ".part"
NUMBERS, TEXTS = "numbers.npz", "texts.json"


@dataclasses.dataclass(frozen=True)
class Cutting:
    """How takes are cut: side of the crops (pixels), margin about the person's box, the builder's version."""

    size: int
    margin: float
    version: str


def folder_of(take: Take, cutting: Cutting, stage: Path) -> Path:
    """Where a finished take lies: its name, and a digest of its plan (estimates apart), its files and how it is cut."""
    plan = dataclasses.asdict(dataclasses.replace(take, files={}, source_frames=0, kept_frames=0))
    # A file is known by its name, size and time of change, wherever the source was moved to.
    files = [
        [role, file.path, file.size, file.modified, file.members]
        for role, several in sorted(take.files.items())
        for file in several
    ]
    content = json.dumps([dataclasses.asdict(cutting), plan, files], sort_keys=True, default=repr)
    return stage / f"{take.name} {hashlib.sha256(content.encode()).hexdigest()[:12]}"


def stage(
    take: Take,
    cutting: Cutting,
    folder: Path,
    locate: Locate,
    advance: Callable[[int], object] = lambda n: None,
) -> Path:
    """Reads and cuts a take into `folder_of(...)`, unless it lies there already; that folder.

    Raises UserError and OSError in one sentence; nothing is left of a take that was not finished.
    """
    target = folder_of(take, cutting, folder)
    if is_finished(target):
        return target
    shutil.rmtree(target, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(suffix=UNFINISHED, dir=folder))
    try:
        footage = take.read(locate)
        _write(footage, cutting, made, advance, lambda text: with_archive_names(text, take, locate))
        made.rename(target)
    except UserError as error:
        raise UserError(with_archive_names(str(error), take, locate)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return target


def is_finished(folder: Path) -> bool:
    """Whether a take lies there whole: every file with the size that it was written with."""
    try:
        sizes = json.loads((folder / TEXTS).read_text(encoding="utf-8"))["sizes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, LookupError):
        return False


def with_archive_names(text: str, take: Take, locate: Locate) -> str:
    """The text with names of unpacked files replaced by those of the archives' members, which the user knows."""
    for file in take.archived:
        with contextlib.suppress(UserError):  # it was not unpacked
            path = locate(file)
            text = text.replace(str(path), file.path).replace(path.name, file.path)
    return text


def sweep(folder: Path) -> None:
    """Removes what a killed process left unfinished."""
    for path in folder.glob(f"*{UNFINISHED}"):
        shutil.rmtree(path, ignore_errors=True)


def _write(
    footage: Footage,
    cutting: Cutting,
    folder: Path,
    advance: Callable[[int], object],
    named: Callable[[str], str],
) -> None:
    crops = []
    for v, view in enumerate(footage.views):
        with (folder / f"view{v}").open("wb") as out:
            crops.append(
                cropping.cut(
                    view, footage.frame, footage.frame_rate, cutting.size, cutting.margin, out, advance
                )
            )
    np.savez(
        folder / NUMBERS,
        frame=footage.frame,
        time=footage.time,
        length=np.stack([crop.length for crop in crops]),
        box=np.stack([crop.box for crop in crops]).astype(np.float32),
        pose=np.stack([view.pose for view in footage.views]).astype(np.float32),
        intrinsics=np.stack([view.intrinsics for view in footage.views]),
        extrinsics=np.stack([view.extrinsics for view in footage.views]),
        distortion=np.stack([view.distortion for view in footage.views]),
    )
    used = [crop for crop, view in zip(crops, footage.views, strict=True) if view.pictures]
    texts = {
        "camera": [view.camera for view in footage.views],
        "box_source": "+".join(sorted({crop.source for crop in used})),
        "seconds_per_record": footage.seconds_per_record,
        "extra": footage.extra,
        "notes": [named(note) for note in [*footage.notes, *(n for crop in crops for n in crop.notes)]],
        "defect": footage.defect,
        "sizes": {path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    }
    (folder / TEXTS).write_text(json.dumps(texts), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


@dataclasses.dataclass(frozen=True)
class Staged:
    """A finished take, opened. V views of n kept frames; the arrays are those of `tuple_builder.Instant`."""

    folder: Path
    numbers: dict[str, np.ndarray]
    camera: list[str]
    box_source: str
    seconds_per_record: float
    extra: dict[str, list[bool | str]]
    notes: list[str]
    defect: str | None
    sizes: dict[str, int]

    def pictures(self) -> Iterator[list[bytes]]:
        """The V JPEG files of every kept frame in turn; empty where a view has none."""
        length = self.numbers["length"]
        streams = [(self.folder / f"view{v}").open("rb") for v in range(len(length))]
        try:
            for column in length.T:
                pictures = [stream.read(count) for stream, count in zip(streams, column, strict=True)]
                if [len(data) for data in pictures] != list(column):
                    raise UserError(f"{self.folder}: is damaged; remove it, and it is made again")
                yield pictures
        finally:
            for stream in streams:
                stream.close()

    @property
    def valid(self) -> Bool[np.ndarray, "v n"]:
        """Which views there are."""
        return self.numbers["length"] > 0

    @property
    def instants(self) -> int:
        """Instants up to the last that any view shows; what lies beyond its pictures is no part of a take."""
        shown = np.flatnonzero(self.valid.any(axis=0))
        return int(shown[-1]) + 1 if len(shown) else 0


def open_staged(folder: Path) -> Staged:
    """Opens a finished take. Raises UserError when it is damaged, OSError when there is none."""
    try:
        numbers = npz.read(folder / NUMBERS)
        texts = json.loads((folder / TEXTS).read_text(encoding="utf-8"))
        return Staged(folder=folder, numbers=numbers, **texts)
    except npz.UNREADABLE as error:
        raise UserError(f"{folder}: is damaged ({error}); remove it, and it is made again") from error
