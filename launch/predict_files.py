"""What `launch.predict` leaves in its folder, and what is said of it there."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from launch import run_folder
from launch.predict_instants import Instants
from launch.predict_run import Views
from launch.predict_sources import Camera
from mcss_jax import skeleton

PREDICTIONS, TABLE, INSTANTS, PAGE, README = (
    "predictions.npz", "predictions.csv", "instants.csv", "viewer.html", "README.txt",
)  # fmt: skip
FILM = "overlay_{}.mp4"
AXES = "xyz"

FIELDS = """predictions.npz (NumPy, no pickles); n views, one of each camera and frame with somebody in it:
  camera      which of camera_names
  frame       index in the camera's video, or of the picture; from 0
  file_name   name of the picture or video
  time        seconds on the scene's clock; NaN for pictures
  square      the crop that the network saw: x0, y0, x1, y1, pixels of the frame
  canonical   [n, 17, 3] mm: the pose in the body's own frame (x from the right to the left hip, y up the spine, z out
              of the chest), from the hip, joints as in joint_names
  in_camera   [n, 17, 3] mm: the pose from the hip, in the frame of a virtual camera that looks through the middle of
              the crop (x right, y down, z away from it). The real camera's own frame would take its intrinsics; how
              far away the person is, and where, is not predicted.
  rotation    [n, 3, 3]: in_camera = canonical @ rotation.T
  embedding   [n, d], of length one
  overlay     [n, 17, 2] pixels of the frame: in_camera placed and scaled by the crop, to be drawn; not predicted
predictions.csv: the same without rotation, embedding and overlay, one row a view.
"""
FUSED_FIELDS = """Several cameras: t instants, in predictions.npz and, without the embedding, in instants.csv:
  instant_time       seconds on the scene's clock
  instant_view       [t, cameras]: which of the n views; -1 where a camera has none
  instant_canonical  [t, 17, 3] mm: mean of the views' canonical poses
  instant_embedding  [t, d]: mean of the views' embeddings, scaled to length one
  instant_spread     mm: mean distance of the views' joints from those of the mean pose, nothing aligned first; NaN
                     for a single view. Large where the views contradict each other: a confidence without labels. It
                     says nothing of an error that all views share.
"""


@contextlib.contextmanager
def staged(output: Path, overwrite: bool) -> Iterator[Path]:
    """A folder inside `output` to write to; at the end its files take their places, and earlier results go.

    Raises FileExistsError when `output` holds anything and is not to be overwritten, OSError when it cannot be written.
    """
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"--output={output} is a file; name a folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise FileExistsError(f"--output={output} is not empty; give --overwrite, or another folder")
    was_there = output.exists()
    output.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".predicting-", dir=output) as name:
            yield Path(name)
            for path in [output / name for name in (PREDICTIONS, TABLE, INSTANTS, PAGE, README)]:
                path.unlink(missing_ok=True)
            for path in output.glob(FILM.format("*")):
                path.unlink()
            for path in Path(name).iterdir():
                path.replace(output / path.name)
    except BaseException:
        if not was_there:
            with contextlib.suppress(OSError):
                output.rmdir()
        raise


def save(
    folder: Path, cameras: Sequence[Camera], views: Sequence[Views], instants: Instants | None, about: str
) -> None:
    """Writes predictions and tables; `about` is the first part of the read-me."""
    _save_arrays(folder / PREDICTIONS, cameras, views, instants)
    _save_table(folder / TABLE, cameras, views)
    if instants is not None:
        _save_instants(folder / INSTANTS, instants)
    fields = FIELDS if instants is None else f"{FIELDS}\n{FUSED_FIELDS}"
    run_folder.write_text(folder / README, f"{about}\n\n{fields}")


def file_names(camera: Camera, views: Views) -> list[str]:
    """The file of every view."""
    if camera.is_video:
        return [camera.files[0].name] * len(views)
    return [camera.files[index].name for index in views.index]


def _save_arrays(
    path: Path, cameras: Sequence[Camera], views: Sequence[Views], instants: Instants | None
) -> None:
    first_row = np.cumsum([0, *map(len, views)])[:-1]
    arrays: dict[str, Any] = {
        "joint_names": np.array(skeleton.JOINTS),
        "camera_names": np.array([camera.name for camera in cameras]),
        "camera": np.repeat(np.arange(len(views)), [len(v) for v in views]),
        "frame": np.concatenate([v.index for v in views]),
        "file_name": np.array(
            [name for c, v in zip(cameras, views, strict=True) for name in file_names(c, v)]
        ),
        "time": np.concatenate([v.time for v in views]),
        "square": np.concatenate([v.square for v in views]),
        "overlay": np.concatenate([v.joints for v in views]),
    }
    for name in ("canonical", "in_camera", "rotation", "embedding"):
        arrays[name] = np.concatenate([getattr(v.out, name) for v in views])
    if instants is not None:
        arrays |= {
            "instant_time": instants.time,
            "instant_view": np.where(instants.row >= 0, instants.row + first_row[None], -1),
            "instant_canonical": instants.canonical,
            "instant_embedding": instants.embedding,
            "instant_spread": instants.spread,
        }
    np.savez_compressed(path, **arrays)


def _columns(kind: str) -> list[str]:
    return [f"{kind}_{joint}_{axis}_mm" for joint in skeleton.JOINTS for axis in AXES]


def _quoted(text: str) -> str:
    """A name as a CSV cell."""
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _save_table(path: Path, cameras: Sequence[Camera], views: Sequence[Views]) -> None:
    head = ["camera", "file", "frame", "time_s", "x0", "y0", "x1", "y1"]
    head += [*_columns("canonical"), *_columns("in_camera")]
    numbers = ",".join(["%.2f"] * 4 + ["%.1f"] * (len(head) - 8))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(head) + "\n")
        for camera, of_camera in zip(cameras, views, strict=True):
            poses = [of_camera.out.canonical, of_camera.out.in_camera]
            rows = np.concatenate(
                [of_camera.square, *(pose.reshape(len(of_camera), -1) for pose in poses)], axis=1
            )
            names = map(_quoted, file_names(camera, of_camera))
            for name, index, time, row in zip(names, of_camera.index, of_camera.time, rows, strict=True):
                seconds = f"{time:.4f}" if camera.is_video else ""
                file.write(
                    f"{_quoted(camera.name)},{name},{index},{seconds},{numbers % tuple(row.tolist())}\n"
                )


def _save_instants(path: Path, instants: Instants) -> None:
    head = ["time_s", "views", "spread_mm", *_columns("canonical")]
    numbers = ",".join(["%.1f"] * (len(head) - 3))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(head) + "\n")
        poses = instants.canonical.reshape(len(instants), -1)
        counts = (instants.row >= 0).sum(axis=1)
        for time, count, spread, pose in zip(instants.time, counts, instants.spread, poses, strict=True):
            said = f"{spread:.1f}" if np.isfinite(spread) else ""
            file.write(f"{time:.4f},{count},{said},{numbers % tuple(pose.tolist())}\n")
