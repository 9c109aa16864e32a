"""What `launch.predict` is given: pictures, a video, or the videos of one scene, and the boxes that belong to it."""

import collections
import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datasets.footage import boxes, video
from datasets.multiview_video import manifest
from launch.retrieval.query_pictures import ENDINGS
from mcss_jax.errors import UserError

WHOLE, STATIC = "whole", "static"
EXPECTED = (
    f"a picture ({', '.join(ENDINGS)}), a folder of pictures, a video ({', '.join(video.EXTENSIONS)}), or a folder "
    f"or {manifest.MANIFEST} with the videos of one scene was expected"
)


@dataclasses.dataclass(frozen=True)
class Camera:
    """What is predicted in one go: a video, or pictures.

    Attributes:
      files: one video, or pictures by name.
      boxes: `whole`, `static`, or the track of a CSV file (frames: of the video, or numbers of the pictures).
      offset: seconds, added to the video's own times.
      rate: frames per second; 0 for pictures.
      frames: pictures, or what the video's header promises.
    """

    name: str
    files: tuple[Path, ...]
    boxes: str | boxes.Track
    offset: float = 0.0
    rate: float = 0.0
    frames: int = 0

    @property
    def is_video(self) -> bool:
        return self.rate > 0


@dataclasses.dataclass(frozen=True)
class Scene:
    """One or several cameras that saw the same person, and what could not be read or is to be looked at."""

    name: str
    cameras: tuple[Camera, ...]
    notes: tuple[str, ...] = ()


def open_scene(source: str | Path, chosen: str = "") -> Scene:
    """Looks at what there is; of videos the headers are read.

    Args:
      chosen: `whole`, `static` or a CSV file of boxes; by default the boxes.csv beside pictures or videos, else `whole`
        for pictures and `static` for videos.

    Raises:
      UserError: the source, or the file of boxes, is not there, or something else; no video can be read; boxes that do
        not belong to it; names that no result could carry.
    """
    source = Path(source).expanduser()
    check_utf8("--boxes", [chosen])
    with warnings.catch_warnings(record=True) as caught:  # by the reader of boxes
        warnings.simplefilter("always", UserWarning)
        scene = _opened(source, chosen)
    scene = dataclasses.replace(scene, notes=(*scene.notes, *(str(warning.message) for warning in caught)))
    check_utf8("--source", [str(source)])
    check_utf8("--source", [scene.name, *(file.name for camera in scene.cameras for file in camera.files)])
    for camera in scene.cameras:
        if camera.is_video and (not camera.name or "/" in camera.name or "\0" in camera.name):
            raise UserError(
                f"{source} has a camera named {camera.name!r}; a name that can be part of a file's was expected (for "
                "overlay_NAME.mp4), not empty and without / and NUL"
            )
    return scene


def check_utf8(flag: str, names: Sequence[str]) -> None:
    """Raises UserError naming the first of the names that are not UTF-8: no table or page could hold them."""
    foreign = [os.fsencode(name) for name in names if not _is_utf8(name)]
    if foreign:
        shown = foreign[0].decode("utf-8", "backslashreplace")
        more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise UserError(
            f"{flag}: {shown}{more} cannot be written to tables and pages, not being UTF-8; rename it"
        )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _opened(source: Path, chosen: str) -> Scene:
    if not source.exists():
        raise UserError(f"{source}: there is no such file or folder; {EXPECTED}")
    pictures, videos = _contents(source)
    if pictures and videos:
        raise UserError(
            f"{source} holds pictures ({pictures[0].name}, ...) and videos ({videos[0].name}, ...); give one kind"
        )
    if pictures:
        return _of_pictures(source, pictures, chosen)
    is_manifest = source.name.endswith(".toml") or (source / manifest.MANIFEST).is_file()
    if is_manifest or (source.is_dir() and len(videos) != 1):
        return _of_session(source, chosen)
    beside = _beside(source)
    camera = manifest.Camera(videos[0].stem, videos[0])
    return _of_videos(_name(source), (camera,), chosen, str(beside) if beside.is_file() else STATIC)


def _name(source: Path) -> str:
    return source.stem if source.is_file() else source.resolve().name


def _beside(source: Path) -> Path:
    """Where the boxes of a file or folder would lie."""
    return (source.parent if source.is_file() else source) / "boxes.csv"


def _contents(source: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and videos of a source, by name."""
    if source.is_dir():
        files = [
            path for path in sorted(source.iterdir()) if not path.name.startswith(".") and path.is_file()
        ]
    else:
        files = [source]
    pictures = [path for path in files if path.suffix.lower() in ENDINGS]
    videos = [path for path in files if path.suffix.lower() in video.EXTENSIONS]
    if source.is_file() and not pictures and not videos and source.suffix != ".toml":
        raise UserError(f"{source} is neither a picture nor a video; {EXPECTED}")
    return pictures, videos


def _of_pictures(source: Path, files: list[Path], chosen: str) -> Scene:
    if chosen == STATIC:
        raise UserError(
            f"--boxes={STATIC} finds the person who moves in a video, but {source} holds pictures; "
            f"give --boxes={WHOLE} "
            "for crops, or a CSV file"
        )
    person_boxes: str | boxes.Track = WHOLE
    if chosen not in ("", WHOLE):
        person_boxes = _track_of_pictures(Path(chosen), files)
    elif not chosen and _beside(source).is_file():
        person_boxes = _track_beside(_beside(source), files)
    name = _name(source)
    return Scene(name, (Camera(name, tuple(files), person_boxes, frames=len(files)),))


def _track_beside(csv: Path, files: list[Path]) -> boxes.Track:
    """The boxes of some, or all, of the pictures that lie beside a CSV file; its numbers count all that lie there."""
    there = sorted({*_contents(csv.parent)[0], *files})
    track = _track_of_pictures(csv, there)
    number = {there.index(file): i for i, file in enumerate(files)}
    rows = [row for row, frame in enumerate(track.frame.tolist()) if frame in number]
    return boxes.Track(np.array([number[int(n)] for n in track.frame[rows]], np.int64), track.box[rows])


def _track_of_pictures(csv: Path, files: list[Path]) -> boxes.Track:
    """The box of every picture that has one; rows name the file, or give its number by name from 0 as the frame."""
    stems: dict[str, list[int]] = collections.defaultdict(list)
    for i, path in enumerate(files):
        stems[path.stem].append(i)
    numbers = stems | {path.name: [i] for i, path in enumerate(files)}
    box_of: dict[int, np.ndarray] = {}
    for name, track in boxes.read_csv(csv).items():
        if name and name not in numbers:
            raise UserError(
                f"{csv} has a box for {name}, which is not among the {len(files)} pictures; mend it, or give other "
                "--boxes"
            )
        if name and len(numbers[name]) > 1:
            several = " or ".join(files[i].name for i in numbers[name])
            raise UserError(f"{csv} has a box for {name}, which may be {several}; give the whole name")
        if not name and track.frame.max() >= len(files):
            raise UserError(
                f"{csv} has a box for picture {track.frame.max()}; there are {len(files)}, from 0; mend it, or give "
                "other --boxes"
            )
        numbered = numbers[name] if name else track.frame.tolist()
        box_of |= dict(zip(numbered, track.box, strict=not name))
    order = sorted(box_of)
    return boxes.Track(np.array(order), np.stack([box_of[i] for i in order]))


def _of_session(source: Path, chosen: str) -> Scene:
    if source.is_dir() and not (source / manifest.MANIFEST).is_file():
        folders = [source, *(path for path in source.iterdir() if path.is_dir())]
        if not any(_contents(folder)[1] for folder in folders):
            raise UserError(f"{source} holds no pictures and no videos; {EXPECTED}")
    sessions = manifest.load(source)
    if len(sessions) > 1:
        names = ", ".join(session.name for session in sessions)
        raise UserError(f"{source} holds {len(sessions)} scenes ({names}); give one of them")
    session = sessions[0]
    return _of_videos(session.name, session.cameras, chosen, str(session.boxes) if session.boxes else STATIC)


def _of_videos(name: str, cameras: tuple[manifest.Camera, ...], chosen: str, beside: str) -> Scene:
    """Cameras whose header can be read; the others are named. Raises UserError when there is none.

    Boxes are those `chosen`, else those that the manifest names for a camera, else those `beside` the videos.
    """
    boxes_of = {camera.name: chosen or str(camera.boxes or "") or beside for camera in cameras}
    tracks: dict[str, boxes.Track] = {}
    for csv in dict.fromkeys(boxes_of.values()):
        if csv not in (WHOLE, STATIC):
            # Beside a single video there may be those of its whole scene.
            others = len(cameras) == 1 and csv == beside
            tracks |= _tracks_of_videos(
                Path(csv), tuple(c for c in cameras if boxes_of[c.name] == csv), others
            )
    readable, notes = [], []
    for camera in cameras:
        try:
            info = video.probe(camera.file)
        except UserError as error:
            notes.append(str(error))
            continue
        person_boxes: str | boxes.Track = tracks.get(camera.name, boxes_of[camera.name])
        readable.append(
            Camera(camera.name, (camera.file,), person_boxes, camera.offset, info.frame_rate, info.frames)
        )
    if not readable:
        raise UserError(" ".join(notes))
    return Scene(name, tuple(readable), tuple(notes))


def _tracks_of_videos(
    csv: Path, cameras: tuple[manifest.Camera, ...], others: bool
) -> dict[str, boxes.Track]:
    """The track of every camera; rows name it, or its file, and need not where there is only one.

    Raises UserError for a camera without any, and, unless `others` may be there, for rows of another.
    """
    names = {camera.file.name: camera.name for camera in cameras} | {c.name: c.name for c in cameras}
    if len(cameras) == 1:
        names[""] = cameras[0].name
    read = boxes.read_csv(csv)
    tracks = {names[name]: track for name, track in read.items() if name in names}
    lacking = [camera.name for camera in cameras if camera.name not in tracks]
    if lacking or (len(tracks) < len(read) and not others):
        raise UserError(
            f"{csv} has boxes for {', '.join(name or 'no named camera' for name in read)}; those of "
            f"{', '.join(camera.name for camera in cameras)} were expected"
        )
    return tracks
