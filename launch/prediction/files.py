"""What `launch.predict` writes to its folder, and the description beside it."""

import contextlib
import csv
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from datasets import npz
from launch.prediction.camera_views import Views
from launch.prediction.instants import Instants
from launch.prediction.sources import Camera, check_utf8
from launch.runs import locks, run_folder, staging
from mcss_jax import skeleton
from mcss_jax.errors import UserError

PREDICTIONS, TABLE, INSTANTS, PAGE, README = (
    "predictions.npz", "predictions.csv", "instants.csv", "viewer.html", "README.txt",
)  # fmt: skip
FILM = "overlay_{}.mp4"
STAGING = ".predicting"
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
predictions.csv: the same, one row a view, without rotation and overlay. Its columns: camera (by name), file (the
  file_name), frame, time_s (the time; empty for pictures), x0, y0, x1, y1 (the square), canonical_JOINT_AXIS_mm,
  in_camera_JOINT_AXIS_mm, embedding_0, embedding_1, ...
"""
FUSED_FIELDS = """Several cameras: t instants, in predictions.npz:
  instant_time       seconds on the scene's clock
  instant_view       [t, cameras]: which of the n views; -1 where a camera has none
  instant_canonical  [t, 17, 3] mm: mean of the views' canonical poses
  instant_embedding  [t, d]: mean of the views' embeddings, scaled to length one
  instant_spread     mm: mean distance of the views' joints from those of the mean pose, nothing aligned first; NaN
                     for a single view. Large where the views contradict each other: a confidence without labels. It
                     says nothing of an error that all views share.
instants.csv: the same, one row an instant. Its columns: time_s, views (how many), spread_mm (empty for a single view),
  canonical_JOINT_AXIS_mm, embedding_0, embedding_1, ...
"""


def check_place(output: Path, source: Path, cameras: Sequence[Camera], has_films: bool) -> None:
    """Raises UserError for an output among what is predicted: results could take the place of recordings."""
    place, inputs = output.resolve(), [file for camera in cameras for file in camera.files]
    # A link lies in one folder, and what it names in another.
    folders = {folder for file in inputs for folder in (file.parent.resolve(), file.resolve().parent)}
    folders.add(source.resolve() if source.is_dir() else source.resolve().parent)
    if any(folder.is_relative_to(place) for folder in folders):
        raise UserError(f"--output={output} holds what is predicted; name a folder of its own")
    if has_films and source.is_dir() and place.is_relative_to(source.resolve()):
        raise UserError(
            f"--output={output} lies in {source}, where its videos would be taken for recordings the next time; name "
            "a folder elsewhere"
        )


@contextlib.contextmanager
def staged(output: Path, overwrite: bool) -> Iterator[Path]:
    """A folder inside `output` to write to; at the end its files take their places, and earlier results go.

    What a process that was killed left there is removed. Raises UserError when `output` holds anything and is not
    to be overwritten, when another process writes there, and for its name; OSError when it cannot be written.
    """
    check_utf8("--output", [str(output)])
    if output.exists() and not output.is_dir():
        raise UserError(f"--output={output} is a file; name a folder")
    made = [path for path in (output, *output.parents) if not path.exists()]
    try:
        with locks.held(output / STAGING, needed=False) as mine:
            if not mine:
                raise UserError(
                    f"another process writes to --output={output}; wait for it, or name another folder"
                )
            try:
                if not overwrite and {path.name for path in output.iterdir()} != {STAGING}:
                    raise UserError(f"--output={output} is not empty; give --overwrite, or another folder")
                fresh = output / STAGING / "results"
                shutil.rmtree(fresh, ignore_errors=True)
                fresh.mkdir()
                yield fresh
                _install(fresh, output)
            finally:
                shutil.rmtree(output / STAGING, ignore_errors=True)
    except BaseException:
        staging.prune(made)
        raise


def _install(fresh: Path, output: Path) -> None:
    """Moves the files of `fresh` to `output`, and removes earlier results that none of them replaced."""
    names = {path.name for path in fresh.iterdir()}
    earlier = {PREDICTIONS, TABLE, INSTANTS, PAGE, README, *_earlier_films(output)}
    with staging.uninterrupted():
        for name in names:
            (fresh / name).replace(output / name)
        for path in list(output.iterdir()):  # not by their names: an archive that is not ours may hold any
            if path.name in earlier - names:
                path.unlink()


def _earlier_films(output: Path) -> set[str]:
    """The names that the earlier predictions in a folder gave their films: others of the kind are not ours."""
    try:
        names = npz.read(output / PREDICTIONS, ["camera_names"])["camera_names"]
        return {FILM.format(name) for name in names.ravel()}
    # There is none, or none that can be read.
    except (OSError, *npz.UNREADABLE):
        return set()


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


def _pose_columns(kind: str) -> list[str]:
    return [f"{kind}_{joint}_{axis}_mm" for joint in skeleton.JOINTS for axis in AXES]


def _embedding_columns(embedding: Float[np.ndarray, "n d"]) -> list[str]:
    return [f"embedding_{i}" for i in range(embedding.shape[1])]


def _save_table(path: Path, cameras: Sequence[Camera], views: Sequence[Views]) -> None:
    names, square = ["camera", "file", "frame", "time_s"], ["x0", "y0", "x1", "y1"]
    poses = [*_pose_columns("canonical"), *_pose_columns("in_camera")]
    embedding = _embedding_columns(views[0].out.embedding)
    numbers = _formats((square, "%.2f"), (poses, "%.1f"), (embedding, "%.6f"))
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join([*names, *square, *poses, *embedding]) + "\n")
        for camera, predicted in zip(cameras, views, strict=True):
            rows = _side_by_side(
                predicted.square, predicted.out.canonical, predicted.out.in_camera, predicted.out.embedding
            )
            for name, index, time, row in zip(
                file_names(camera, predicted), predicted.index, predicted.time, rows, strict=True
            ):
                seconds = f"{time:.4f}" if camera.is_video else ""
                named = f"{_cell(camera.name)},{_cell(name)},{index},{seconds}"
                file.write(f"{named},{numbers % tuple(row.tolist())}\n")


def _save_instants(path: Path, instants: Instants) -> None:
    pose, embedding = _pose_columns("canonical"), _embedding_columns(instants.embedding)
    numbers = _formats((pose, "%.1f"), (embedding, "%.6f"))
    rows = _side_by_side(instants.canonical, instants.embedding)
    counts = (instants.row >= 0).sum(axis=1)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(["time_s", "views", "spread_mm", *pose, *embedding]) + "\n")
        for time, count, spread, row in zip(instants.time, counts, instants.spread, rows, strict=True):
            cell = f"{spread:.1f}" if np.isfinite(spread) else ""
            file.write(f"{time:.4f},{count},{cell},{numbers % tuple(row.tolist())}\n")


def _cell(text: str) -> str:
    """Text as a CSV file has it. Numbers need no quotes: through the writer, a table takes 1.7 times as long."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\n").writerow([text])
    return line.getvalue()[:-1]


def _formats(*columns: tuple[Sequence[str], str]) -> str:
    """The format of a row: each group of columns in its own."""
    return ",".join(form for names, form in columns for _ in names)


def _side_by_side(*arrays: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n c"]:
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
