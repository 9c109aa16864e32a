"""A distribution of two cameras and a few frames, for what all distributions have in common."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from datasets.distributions import originals, takes
from datasets.distributions.builder import DistributionBuilder
from mcss_jax.errors import UserError
from tests.datasets import videos

SIZE, RATE = (96, 72), 25
CAMERAS = ("left", "right")


def film(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a person who walks across, and their box in each."""
    x = np.linspace(20, 76, count)
    centre = np.stack([x, np.full(count, 40.0)], axis=1)
    body = (16, 44)
    pictures = videos.scene(np.arange(count) / RATE, centre, SIZE, body, seed=seed)
    half = np.array(body) / 2
    return pictures, np.concatenate([centre - half, centre + half], axis=1)


@dataclasses.dataclass(frozen=True)
class SmallTake(takes.Take):
    """Every second frame; boxes from the finder unless `known`. `trouble` is raised when it is read."""

    frames: int = 0
    known: bool = False
    trouble: str = ""

    def read(self, locate: takes.Locate) -> takes.Footage:
        if self.trouble == "died":
            os._exit(9)
        if self.trouble:
            raise UserError(self.trouble)
        frame = np.arange(0, self.frames, 2)
        pose = np.arange(17 * 3, dtype=np.float32).reshape(17, 3) + frame[:, None, None]
        views = tuple(
            takes.View(
                camera=camera,
                pictures=tuple(locate(file) for file in self.files.get(camera, ())),
                intrinsics=np.array([[100.0, 0, 48], [0, 100, 36], [0, 0, 1]]) / 3,
                extrinsics=np.eye(3, 4) * (v + 1) / 3,
                distortion=np.full(5, 0.1 * v),
                pose=pose + 1000 * v,
                box=film(self.frames)[1][frame] if self.known else None,
                box_source="joints" if self.known else "static",
                frames=self.frames,
            )
            for v, camera in enumerate(CAMERAS)
        )
        return takes.Footage(views, frame, frame / RATE, 2 / RATE, float(RATE), notes=(f"read {self.name}",))


def write(folder: Path, names: Sequence[str], frames: int = 12) -> None:
    """`NAME/left.avi` and `NAME/right.avi` for every name."""
    for n, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for v, camera in enumerate(CAMERAS):
            videos.write(folder / name / f"{camera}.avi", film(frames, 10 * n + v)[0], RATE)


def inventory(files: Sequence[originals.File], frames: int = 12, known: bool = False) -> takes.Inventory:
    """A take for every folder that holds videos, wherever it lies; names beginning with t are for testing."""
    files_of_take: dict[str, dict[str, tuple[originals.File, ...]]] = {}
    for file in files:
        name, camera = file.path.split("/")[-2:]
        files_of_take.setdefault(name, {})[camera.removesuffix(".avi")] = (file,)
    made = [
        SmallTake(
            split="test" if name.startswith("t") else "train",
            subject=name,
            action="walking",
            subaction="",
            group=n,
            name=name,
            files=videos_of,
            source_frames=2 * frames,
            kept_frames=frames // 2,
            frames=frames,
            known=known,
            defect="odd" if name == "b" else "",
        )
        for n, (name, videos_of) in enumerate(sorted(files_of_take.items()))
    ]
    missing = tuple(
        takes.Missing(f"{take.name}/{camera}.avi", "made by the test")
        for take in made
        for camera in CAMERAS
        if camera not in take.files
    )
    columns = {(t.name, c): (int(c in t.files), 1) for t in made for c in CAMERAS}
    return takes.Inventory(tuple(sorted(made, key=lambda t: t.split == "test")), columns, missing)


class Builder(DistributionBuilder):
    """Of `write`'s files."""

    name = "small"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": ""}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="few", version=VERSION)]
    description = "For tests."
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Make it with small.write."

    views = property(lambda self: len(CAMERAS))
    split_names = property(lambda self: tuple(dict.fromkeys(t.split for t in self.inventory.takes)))

    def take_inventory(self, files: Sequence[originals.File]) -> takes.Inventory:
        return inventory(files, known=self._boxes == "joints")


def loose(folder: Path) -> tuple[originals.File, ...]:
    """All files below a folder."""
    return tuple(
        originals.File(
            path=path.relative_to(folder).as_posix(),
            size=path.stat().st_size,
            archive="",
            members=(),
            source=str(folder),
            modified=path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
