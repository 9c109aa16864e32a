"""One look through every file of a source before anything is written: clocks, boxes, offsets, what to warn
of.
"""

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from datasets.footage import boxes, static_camera, sync, video
from datasets.multiview_video import manifest
from mcss_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class CameraReport:
    """What one file holds. Times and boxes are one per frame; times on the session's clock (offset added)."""

    camera: manifest.Camera
    info: video.VideoInfo
    times: Float[np.ndarray, " f"]
    box: Float[np.ndarray, "f 4"]
    box_source: str
    box_confidence: float
    box_method: str
    offset: sync.Offset


@dataclasses.dataclass(frozen=True)
class SessionReport:
    """One session, ready to be cut: `frame[v, k]` is the frame of camera v at tick k where `valid[v, k]`."""

    session: manifest.Session
    cameras: tuple[CameraReport, ...]
    fps: float
    ticks: Float[np.ndarray, " t"]
    frame: Int[np.ndarray, "v t"]
    valid: Bool[np.ndarray, "v t"]
    labels: manifest.Labels | None
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"session {self.session.name}: {len(self.cameras)} cameras, {len(self.ticks)} instants at "
            f"{self.fps:g} per second, {len(self.ticks) / self.fps:.1f} s"
            + (", 3D labels" if self.labels is not None else "")
        ]
        for report in self.cameras:
            info, applied = report.info, report.camera.offset
            lines.append(
                f"  {report.camera.name}: {info.codec} {info.width}x{info.height}, {info.frame_rate:g} fps, "
                f"{len(report.times)} frames; boxes {report.box_method} ({report.box_confidence:.2f}); "
                "estimated offset "
                f"{report.offset.seconds:+.3f} s (confidence {report.offset.confidence:.2f})"
                + (f", beyond the given {applied:+.3f} s" if applied else "")
            )
        return "\n".join(lines)


def inspect(
    source: str | Path,
    fps: float | int | str = 10.0,
    max_offset: float = 5.0,
    progress: bool = True,
) -> tuple[SessionReport, ...]:
    """Decode every file once at reduced size; nothing is written.

    Args:
        source: see `manifest`.
        fps: tuples per second, or `native`: the rate of each session's slowest camera.
        max_offset: offsets between cameras are looked for this far, seconds.
        progress: show progress bars.

    Raises:
        UserError: as `manifest.load`, `video.survey`, `boxes.read_csv`,
            `manifest.load_labels`; an fps that is neither a positive number nor `native`; cameras that share
            no moment; boxes for unknown cameras.
    """
    if fps != "native" and not (isinstance(fps, (int, float)) and 0 < fps < float("inf")):
        raise UserError(f"fps is {fps!r}; a positive number of tuples per second, or 'native', was expected.")
    if not 0 <= max_offset < float("inf"):
        raise UserError(f"max_offset is {max_offset}; a number of seconds, 0 or more, was expected.")
    sessions = manifest.load(source)
    # Headers first: a missing or broken file is reported at once, not after an hour of decoding.
    infos = [video.probe(camera.file) for session in sessions for camera in session.cameras]
    with _bar(sum(info.frames for info in infos), progress) as advance:
        return tuple(_session(session, fps, max_offset, advance) for session in sessions)


@contextmanager
def _bar(total: int, shown: bool) -> Iterator[Callable[[int], object]]:
    with tqdm(total=total or None, unit="frame", desc="looking through the videos", disable=not shown) as bar:
        yield bar.update


def _session(
    session: manifest.Session, fps: float | int | str, max_offset: float, advance: Callable[[int], object]
) -> SessionReport:
    notes: list[str] = []
    labels = manifest.load_labels(session.labels, len(session.cameras)) if session.labels else None
    tracks = _given_boxes(session)
    looked = [_camera(camera, tracks.get(camera.name), notes, advance) for camera in session.cameras]
    moved = sync.offsets([c.times for c, _ in looked], [energy for _, energy in looked], max_offset)
    cameras = tuple(dataclasses.replace(c, offset=o) for (c, _), o in zip(looked, moved, strict=True))
    slowest = min(cameras, key=lambda c: c.info.frame_rate)
    notes += sync.clear_offsets(
        session.name,
        [c.camera.name for c in cameras],
        moved,
        [c.camera.offset for c in cameras],
        1.0 / slowest.info.frame_rate,
    )
    rate = slowest.info.frame_rate if fps == "native" else float(fps)
    if rate > slowest.info.frame_rate * 1.001:
        notes.append(
            f"{session.name}: {rate:g} tuples per second were asked for, but {slowest.camera.name} has "
            f"{slowest.info.frame_rate:g} frames per second; that rate is used."
        )
        rate = slowest.info.frame_rate
    begin, end = max(c.times[0] for c in cameras), min(c.times[-1] for c in cameras)
    if end < begin:
        spans = ", ".join(f"{c.camera.name} {c.times[0]:.2f} to {c.times[-1]:.2f} s" for c in cameras)
        raise UserError(f"{session.name}: the cameras share no moment ({spans}); check the offsets.")
    longest = max(c.times[-1] - c.times[0] for c in cameras)
    if longest - (end - begin) > max(2.0 / slowest.info.frame_rate, 0.1):
        spans = ", ".join(f"{c.camera.name} {c.times[-1] - c.times[0]:.2f} s" for c in cameras)
        notes.append(
            f"{session.name}: the cameras differ in length ({spans}); the {end - begin:.2f} s that all of "
            "them saw are used."
        )
    ticks = begin + np.arange(int((end - begin) * rate + 1e-6) + 1) / rate
    frame = np.stack([video.nearest_frames(c.times, ticks) for c in cameras])
    valid = np.stack([_valid(c, ticks, row) for c, row in zip(cameras, frame, strict=True)])
    for sentence in notes:
        warnings.warn(sentence, stacklevel=4)
    return SessionReport(session, cameras, rate, ticks, frame, valid, labels, tuple(notes))


def _valid(report: CameraReport, ticks: Float[np.ndarray, " t"], frame: Int[np.ndarray, " t"]) -> np.ndarray:
    """A frame within half an interval of the tick, and a box in it."""
    near = np.abs(report.times[frame] - ticks) <= 0.5 / report.info.frame_rate + 1e-3
    return near & np.isfinite(report.box[frame]).all(-1)


def _given_boxes(session: manifest.Session) -> dict[str, boxes.Track]:
    """Boxes from CSV by camera name; a file may name cameras by their name or by their file's name."""
    tracks: dict[str, boxes.Track] = {}
    names = {camera.name: camera.name for camera in session.cameras}
    names |= {camera.file.name: camera.name for camera in session.cameras}
    if session.boxes:
        for name, track in boxes.read_csv(session.boxes).items():
            if name not in names:
                raise UserError(
                    f"{session.boxes}: has boxes for camera {name!r}; session {session.name} has "
                    f"{', '.join(camera.name for camera in session.cameras)}."
                )
            tracks[names[name]] = track
    for camera in session.cameras:
        if camera.boxes:
            tracks = boxes.read_csv(camera.boxes)
            own = [track for name, track in tracks.items() if name in ("", camera.name, camera.file.name)]
            if len(own) != 1:
                raise UserError(
                    f"{camera.boxes}: has boxes for {sorted(tracks)}; those of camera {camera.name} were "
                    "expected."
                )
            tracks[camera.name] = own[0]
    return tracks


def _camera(
    camera: manifest.Camera, track: boxes.Track | None, notes: list[str], advance: Callable[[int], object]
) -> tuple[CameraReport, Float[np.ndarray, " f"]]:
    look = video.survey(camera.file, progress=advance)
    if track is not None:
        if track.frame.min() < 0 or track.frame.max() >= len(look.times):
            raise UserError(
                f"{camera.file}: has frames 0 to {len(look.times) - 1}, but its boxes name frames "
                f"{track.frame.min()} to {track.frame.max()}."
            )
        box = boxes.interpolate(look.times[track.frame], track.box, look.times)
        source, method, confidence = "csv", "csv", float(np.isfinite(box).all(-1).mean())
    else:
        person = boxes.find_static(look.film, look.times[look.film_index], look.times, look.scale)
        box, method, confidence = person.box, person.method, person.confidence
        source = "frame" if method == "frame" else "static"
        if confidence < static_camera.UNSURE:
            notes.append(
                f"{camera.file}: the person was not found for sure (confidence {confidence:.2f}: "
                + ("nothing moves, the whole picture is used" if method == "frame" else "much else moves")
                + "); look at the contact sheet, and give boxes as CSV if they are wrong."
            )
    report = CameraReport(
        camera, look.info, look.times + camera.offset, box, source, confidence, method, sync.Offset(0.0, 0.0)
    )
    return report, look.energy
