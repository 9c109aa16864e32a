"""Which recordings there are: a folder per session with one file per camera, or a TOML manifest that names
them.

A source is one of
- a folder of videos: one session, its cameras named after the files;
- a folder of such folders: one session each, in order of name;
- a `manifest.toml`, or a folder that holds one (README.md shows it whole).

In the first two, `boxes.csv` and `labels.npz` beside the videos are used.
"""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from datasets import npz
from datasets.footage import video
from mcss_jax.errors import UserError
from mcss_jax.skeleton import NUM_JOINTS

MANIFEST = "manifest.toml"
SESSION_KEYS = ("name", "subject", "action", "subaction", "group", "split", "boxes", "labels", "camera")
CAMERA_KEYS = ("name", "file", "offset", "boxes")
SPLIT = re.compile(r"\w[\w-]{0,59}")  # part of the names of files, and of what TFDS makes splits of
LARGEST_OFFSET = 1e9  # seconds, some thirty years
LABEL_KEYS = ("pose", "time", "intrinsics", "extrinsics", "distortion")


@dataclasses.dataclass(frozen=True)
class Camera:
    """One file. `offset` (seconds) is added to the file's own times to give the session's clock."""

    name: str
    file: Path
    offset: float = 0.0
    boxes: Path | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """One continuous recording by several cameras. `group`: same person, clothes and room; each session its
    own.
    """

    name: str
    cameras: tuple[Camera, ...]
    subject: str
    action: str
    subaction: str
    group: str
    split: str
    boxes: Path | None = None
    labels: Path | None = None


@dataclasses.dataclass(frozen=True)
class Labels:
    """3D labels of a session: poses in each camera's frame, millimetres, on the session's clock; absent
    numbers NaN.
    """

    time: Float[np.ndarray, " t"]
    pose: Float[np.ndarray, "v t 17 3"]
    intrinsics: Float[np.ndarray, "v 3 3"]
    extrinsics: Float[np.ndarray, "v 3 4"]
    distortion: Float[np.ndarray, "v 5"]

    def at(self, times: Float[np.ndarray, " k"]) -> Float[np.ndarray, "v k 17 3"]:
        """Poses at other times, linear between two labels; NaN outside the labelled span."""
        place = np.interp(times, self.time, np.arange(len(self.time)), left=np.nan, right=np.nan)
        is_labelled = np.isfinite(place)
        low = np.where(is_labelled, np.floor(place), 0).astype(int)
        high = np.minimum(low + 1, len(self.time) - 1)
        part = np.where(is_labelled, place - low, 0.0)[None, :, None, None]
        # An exact hit must not inherit a neighbour's NaN.
        pose = np.where(
            part > 0, (1 - part) * self.pose[:, low] + part * self.pose[:, high], self.pose[:, low]
        )
        return np.where(is_labelled[None, :, None, None], pose, np.nan).astype(np.float32)


def load(source: str | Path) -> tuple[Session, ...]:
    """The sessions of a source, in a fixed order; files are checked for existence, not opened.

    Raises:
        UserError: the source, or a file that the manifest names, does not exist; no videos; a session with one camera;
            a manifest that is not TOML or has unknown or missing keys; two sessions, or two cameras of one, with the
            same name.
    """
    source = Path(source)
    if not source.exists():
        raise UserError(f"{source}: no such folder; a folder of recordings or a {MANIFEST} was expected.")
    if source.is_file():
        sessions = _from_manifest(source)
    elif (source / MANIFEST).is_file():
        sessions = _from_manifest(source / MANIFEST)
    else:
        sessions = _from_folders(source)
    for session in sessions:
        if len(session.cameras) < 2:
            files = ", ".join(camera.file.name for camera in session.cameras) or "none"
            raise UserError(
                f"{source}: session {session.name} has {len(session.cameras)} camera ({files}); at least "
                "two files "
                "that show the same moments were expected."
            )
        _unique(source, f"cameras of session {session.name}", [camera.name for camera in session.cameras])
    _unique(source, "sessions", [session.name for session in sessions])
    return sessions


def load_labels(path: Path, views: int) -> Labels:
    """Read the 3D labels of a session from .npz (README.md documents the keys). Nothing is ever unpickled.

    Raises:
        UserError: not an .npz file, unknown or missing keys, object arrays, wrong shapes, times that do not
            ascend, or world poses without the extrinsics that would bring them into each camera's frame.
    """
    try:
        arrays = npz.read(path)
    except (OSError, *npz.UNREADABLE) as error:
        raise UserError(f"{path}: is not an .npz file of plain numbers ({error}).") from error
    if not {"pose", "time"} <= set(arrays) <= set(LABEL_KEYS):
        raise UserError(
            f"{path}: holds {sorted(arrays)}; pose and time were expected, and optionally "
            f"{', '.join(LABEL_KEYS[2:])}."
        )
    for key, array in arrays.items():
        if not np.issubdtype(array.dtype, np.number) or np.issubdtype(array.dtype, np.complexfloating):
            raise UserError(f"{path}: {key} holds {array.dtype}; numbers were expected.")
    time, pose = arrays["time"].astype(float), arrays["pose"].astype(float)
    count = time.size
    shapes: dict[str, list[tuple[int, ...]]] = {
        "time": [(count,)],
        "pose": [(count, NUM_JOINTS, 3), (views, count, NUM_JOINTS, 3)],
        "intrinsics": [(views, 3, 3)],
        "extrinsics": [(views, 3, 4)],
        "distortion": [(views, 5)],
    }
    for key, array in arrays.items():
        if array.shape not in shapes[key] or count == 0:
            shapes_expected = " or ".join(str(shape) for shape in shapes[key])
            raise UserError(
                f"{path}: {key} has the shape {array.shape}; {shapes_expected} was expected, with {views} cameras."
            )
    if not np.all(np.diff(time) > 0) or not np.isfinite(time).all():
        raise UserError(
            f"{path}: time does not ascend; seconds on the session's clock were expected, one per pose."
        )
    extrinsics = arrays.get("extrinsics", np.full((views, 3, 4), np.nan)).astype(float)
    if pose.ndim == 3:
        if "extrinsics" not in arrays:
            raise UserError(
                f"{path}: pose is in world coordinates {pose.shape} but there are no extrinsics; add "
                "extrinsics "
                f"({views}, 3, 4), or give poses per camera ({views}, {count}, {NUM_JOINTS}, 3)."
            )
        pose = np.einsum("vij,tkj->vtki", extrinsics[..., :3], pose) + extrinsics[:, None, None, :, 3]
    return Labels(
        time=time,
        pose=pose,
        intrinsics=arrays.get("intrinsics", np.full((views, 3, 3), np.nan)).astype(float),
        extrinsics=extrinsics,
        distortion=arrays.get("distortion", np.full((views, 5), np.nan)).astype(float),
    )


def _from_folders(source: Path) -> tuple[Session, ...]:
    own = _videos(source)
    inner = [folder for folder in sorted(source.iterdir()) if folder.is_dir() and _videos(folder)]
    if own and inner:
        raise UserError(
            f"{source}: holds videos ({own[0].name}, ...) and folders of videos ({inner[0].name}, ...); "
            "either one "
            f"session's files or one folder per session was expected (or a {MANIFEST})."
        )
    if not own and not inner:
        kinds = ", ".join(video.EXTENSIONS)
        raise UserError(f"{source}: holds no videos ({kinds}), no folders of videos and no {MANIFEST}.")
    return tuple(_from_folder(folder) for folder in ([source] if own else inner))


def _videos(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix.lower() in video.EXTENSIONS and not path.name.startswith(".")
    ]


def _from_folder(folder: Path) -> Session:
    boxes, labels = folder / "boxes.csv", folder / "labels.npz"
    name = folder.resolve().name
    return Session(
        name=name,
        cameras=tuple(Camera(path.stem, path) for path in _videos(folder)),
        subject=name,
        action="unknown",
        subaction="",
        group=name,
        split="train",
        boxes=boxes if boxes.exists() else None,
        labels=labels if labels.exists() else None,
    )


def _from_manifest(path: Path) -> tuple[Session, ...]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: is not a TOML file ({error}).") from error
    entries = content.get("session")
    if set(content) != {"session"} or not isinstance(entries, list) or not entries:
        raise UserError(f"{path}: holds {sorted(content)}; one [[session]] table per recording was expected.")
    return tuple(_session(path, entry) for entry in entries)


def _session(path: Path, entry: Any) -> Session:
    _keys(path, "[[session]]", entry, SESSION_KEYS, ("name", "camera"))
    name = entry["name"]
    if not isinstance(entry["camera"], list):
        raise UserError(f"{path}: session {name} must list its files as [[session.camera]] tables.")
    cameras = []
    for camera in entry["camera"]:
        _keys(path, f"[[session.camera]] of {name}", camera, CAMERA_KEYS, ("file",))
        offset = camera.get("offset", 0.0)
        if (
            not isinstance(offset, (int, float))
            or isinstance(offset, bool)
            or not abs(offset) < LARGEST_OFFSET
        ):
            raise UserError(
                f"{path}: offset = {offset!r} of {camera['file']}; a number of seconds was expected."
            )
        file = _file(path, camera["file"])
        cameras.append(
            Camera(str(camera.get("name", file.stem)), file, float(offset), _optional(path, camera, "boxes"))
        )
    split = str(entry.get("split", "train"))
    if not SPLIT.fullmatch(split) or split == "all":
        raise UserError(
            f"{path}: split = {split!r} of {name}; a word of letters, digits, '_' and '-' was expected, other than all."
        )
    subject = str(entry.get("subject", name))
    return Session(
        name=str(name),
        cameras=tuple(cameras),
        subject=subject,
        action=str(entry.get("action", "unknown")),
        subaction=str(entry.get("subaction", "")),
        group=str(entry.get("group", name)),
        split=split,
        boxes=_optional(path, entry, "boxes"),
        labels=_optional(path, entry, "labels"),
    )


def _keys(path: Path, where: str, entry: Any, accepted: tuple[str, ...], needed: tuple[str, ...]) -> None:
    if not isinstance(entry, dict):
        raise UserError(f"{path}: {where} is {entry!r}; a table was expected.")
    if not set(needed) <= set(entry) <= set(accepted):
        raise UserError(
            f"{path}: {where} has the keys {', '.join(entry)}; {', '.join(needed)} must be there, "
            f"and known are {', '.join(accepted)}."
        )


def _file(manifest: Path, name: Any) -> Path:
    if not isinstance(name, str):
        raise UserError(f"{manifest}: names a file {name!r}; text was expected.")
    path = manifest.parent / name
    if not path.is_file():
        raise UserError(f"{manifest}: names {name}, but there is no file {path}.")
    return path


def _optional(manifest: Path, entry: dict[str, Any], key: str) -> Path | None:
    return _file(manifest, entry[key]) if key in entry else None


def _unique(source: Path, what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{source}: the {what} must have different names; {', '.join(twice)} occurs twice.")
