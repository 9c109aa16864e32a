"""TFDS builder for the user's own synchronised recordings: no calibration, no labels needed. README.md has
the formats.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, UInt8
from PIL import Image
from tqdm import tqdm

from datasets.footage import boxes, video
from datasets.footage.contact_sheet import contact_sheet
from datasets.multiview_video.inspection import CameraReport, SessionReport, inspect
from datasets.tuples.tuple_builder import (
    Instant,
    Recording,
    TupleBuilder,
    encode_jpeg,
    unknown_camera,
    unknown_pose,
    view_bytes,
)
from mcss_jax.errors import UserError

SHEET_INSTANTS, SHEET_HEIGHT = 7, 320


class Builder(TupleBuilder):
    """Builder of one source: `Builder(source=..., data_dir=...)`, then `download_and_prepare()`.

    Every file is looked through once when the builder is made (`reports` holds what was found: clocks, boxes,
    offsets), so that bad input is refused before anything is written; the second pass cuts the crops.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    description = "Synchronised recordings of one person by several still cameras, as crops of the person."

    def __init__(
        self,
        *,
        source: str | Path,
        fps: float | int | str = 10.0,
        size: int = 256,
        margin: float = 0.1,
        max_offset: float = 5.0,
        name: str | None = None,
        progress: bool = True,
        reports: tuple[SessionReport, ...] | None = None,
        **kwargs: Any,
    ) -> None:
        """Look through the source.

        Args:
            source: folder of one session, folder of such folders, or a manifest (`manifest.load`).
            fps: tuples per second, or `native` (the rate of the slowest camera).
            size: side of the crops, pixels.
            margin: what is added to the person's box at every side, as a share of its longer side.
            max_offset: how far offsets between cameras are looked for, seconds.
            name: of the configuration, a folder name under `data_dir`; default: the source's own.
            progress: show progress bars.
            reports: what `inspect` gave for the same source and fps, when it has been called already.
            **kwargs: TFDS's own (`data_dir`).

        Raises:
            UserError: as `inspect`; a size or margin out of range.
        """
        if size < 16:
            raise UserError(f"size is {size}; crops of at least 16 pixels were expected.")
        if not 0 <= margin <= 2:
            raise UserError(f"margin is {margin}; a share of the box's longer side, 0 to 2, was expected.")
        self._size, self._margin, self._progress, self._fps = size, margin, progress, fps
        self.reports = inspect(source, fps, max_offset, progress) if reports is None else reports
        self._thumbnails: dict[tuple[str, int], dict[int, np.ndarray]] = {}
        config = tfds.core.BuilderConfig(name=name or config_name(source), version=self.VERSION)
        super().__init__(config=config, **kwargs)

    @property
    def views(self) -> int:
        """The most cameras that any session has; the others are filled up with invalid views."""
        return max(len(report.cameras) for report in self.reports)

    @property
    def split_names(self) -> tuple[str, ...]:
        """`train` unless the manifest says otherwise, in order of first mention."""
        return tuple(dict.fromkeys(report.session.split for report in self.reports))

    @property
    def specification(self) -> dict[str, Any]:
        """Options, and files by name, size, offset and origin of boxes: never where they lie."""
        return {
            "fps": self._fps,
            "size": self._size,
            "margin": self._margin,
            "sessions": {
                report.session.name: {
                    "labels": report.labels is not None,
                    "files": [
                        [c.camera.file.name, c.camera.file.stat().st_size, c.camera.offset, c.box_source]
                        for c in report.cameras
                    ],
                }
                for report in self.reports
            },
        }

    def sequences(self, split: str) -> int:
        return sum(report.session.split == split for report in self.reports)

    def expected_bytes(self, split: str) -> int:
        ticks = sum(len(report.ticks) for report in self.reports if report.session.split == split)
        return ticks * self.views * view_bytes(self._size)

    def recordings(self, split: str) -> Iterator[Recording]:
        """The sessions of a split. Groups are numbered over all splits, so that a number means one thing."""
        groups = list(dict.fromkeys(report.session.group for report in self.reports))
        for report in self.reports:
            session = report.session
            if session.split == split:
                yield Recording(
                    subject=session.subject,
                    action=session.action,
                    subaction=session.subaction,
                    group=groups.index(session.group),
                    seconds_per_record=1.0 / report.fps,
                    instants=self._instants(report),
                )

    def contact_sheet(self, report: SessionReport) -> Image.Image:
        """Some instants of every camera with the box that was chosen; from the cutting pass when it has
        run.
        """
        shown = _shown(report)
        pictures = []
        for v, camera in enumerate(report.cameras):
            kept = self._thumbnails.get((report.session.name, v))
            if kept is None:
                kept = _read_thumbnails(camera.camera.file, {int(report.frame[v, k]) for k in shown})
            pictures.append(kept)
        drawn = np.full((len(report.cameras), len(shown), 4), np.nan)
        for v, camera in enumerate(report.cameras):
            for column, k in enumerate(shown):
                n = int(report.frame[v, k])
                if report.valid[v, k] and n in pictures[v]:
                    drawn[v, column] = (
                        self._crop_box(camera, n) * pictures[v][n].shape[0] / camera.info.height
                    )
        return contact_sheet(
            [camera.camera.name for camera in report.cameras],
            report.ticks[shown] - report.ticks[0],
            lambda v, column: pictures[v].get(int(report.frame[v, shown[column]])),
            drawn,
            title=f"{report.session.name}: what is cut out",
            notes=[f"{camera.box_method}, {camera.box_confidence:.2f}" for camera in report.cameras],
            tile=260,
        )

    def _crop_box(self, camera: CameraReport, frame: int) -> Float[np.ndarray, "4"]:
        return boxes.square(camera.box[frame], self._margin)

    def _instants(self, report: SessionReport) -> Iterator[Instant]:
        views, spare = len(report.cameras), self.views - len(report.cameras)
        sources = "+".join(sorted({camera.box_source for camera in report.cameras}))
        calibration, poses = unknown_camera(self.views), None
        if report.labels is not None:
            poses = report.labels.at(report.ticks)
            for key in calibration:
                calibration[key][:views] = getattr(report.labels, key)
        names = [camera.camera.name for camera in report.cameras] + [""] * spare
        cutters = [self._crops(report, v) for v in range(views)]
        ticks = tqdm(
            report.ticks, unit="instant", desc=report.session.name, disable=not self._progress, leave=False
        )
        for k, (tick, *crops) in enumerate(zip(ticks, *cutters, strict=True)):
            pose, box = unknown_pose(self.views), np.full((self.views, 4), np.nan)
            if poses is not None:
                pose[:views] = poses[:, k]
            for v, camera in enumerate(report.cameras):
                if report.valid[v, k]:
                    box[v] = self._crop_box(camera, int(report.frame[v, k]))
            yield Instant(
                images=[*crops, *[b""] * spare],
                view_valid=np.concatenate([report.valid[:, k], np.zeros(spare, bool)]),
                camera=names,
                pose=pose,
                box=box,
                box_source=sources,
                frame=int(report.frame[0, k]),
                time=float(tick - report.ticks[0]),
                **calibration,
            )

    def _crops(self, report: SessionReport, v: int) -> Iterator[bytes]:
        """JPEG of the person at every tick, `b""` where the view is invalid; one pass over the file."""
        camera = report.cameras[v]
        frames = report.frame[v][report.valid[v]]
        needed = frozenset(frames.tolist())
        shown = {int(report.frame[v, k]) for k in _shown(report)}
        kept = self._thumbnails.setdefault((report.session.name, v), {})
        stream = video.frames(camera.camera.file, keep=lambda i, _: i in needed)
        present, jpeg = -1, b""
        for frame, valid in zip(report.frame[v], report.valid[v], strict=True):
            if not valid:
                yield b""
                continue
            if frame != present:
                # Ticks ascend, so do frames: the next picture kept is the one.
                _, picture = next(stream)
                present = frame
                jpeg = encode_jpeg(boxes.crop_resize(picture, self._crop_box(camera, int(frame)), self._size))
                if int(frame) in shown:
                    kept[int(frame)] = _thumbnail(picture)
            yield jpeg


def config_name(source: str | Path) -> str:
    """A folder name for a source: its own, or its folder's when it is a manifest, in plain characters."""
    path = Path(source).resolve()
    stem = path.parent.name if path.suffix == ".toml" else path.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", stem).strip("_.") or "recordings"


def _shown(report: SessionReport) -> Int[np.ndarray, " c"]:
    return np.unique(np.linspace(0, len(report.ticks) - 1, SHEET_INSTANTS).round().astype(int))


def _read_thumbnails(file: Path, frames: set[int]) -> dict[int, UInt8[np.ndarray, "_ _ 3"]]:
    stream = video.frames(file, keep=lambda index, _: index in frames)
    return {n: _thumbnail(picture) for n, (_, picture) in zip(sorted(frames), stream, strict=True)}


def _thumbnail(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "a b 3"]:
    height = min(SHEET_HEIGHT, picture.shape[0])
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(
        Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    )
