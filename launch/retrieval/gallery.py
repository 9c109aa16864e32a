"""A searched gallery as a file: embeddings, poses and where each view comes from, with the network that made them.

A NumPy archive without pickled objects: reading one runs no code.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from datasets import npz
from datasets.tuples import pipeline
from datasets.tuples.records import frame_numbers
from launch.evaluation import inference, protocols
from mcss_jax.errors import UserError
from mcss_jax.skeleton import NUM_JOINTS
from mcss_jax.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Gallery:
    """n views that can be retrieved.

    Attributes:
      embedding: of unit length.
      pose: true canonical poses, millimetres; NaN where there are none.
      record, view: place in the prepared split.
      sequence, camera: names.
      frame: number in the original video.
      time: seconds since the start of the sequence.
      split: prepared set, version and split.
      fingerprint: of the prepared set.
      network: `identity` of the network that made the embeddings.
    """

    embedding: Float[np.ndarray, "n d"]
    pose: Float[np.ndarray, "n 17 3"]
    record: Int[np.ndarray, " n"]
    view: Int[np.ndarray, " n"]
    sequence: np.ndarray
    camera: np.ndarray
    frame: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    split: str
    fingerprint: str
    network: str

    def __len__(self) -> int:
        return len(self.embedding)

    def name(self, index: int) -> str:
        """Where a view comes from, in words."""
        return f"{self.sequence[index]}, camera {self.camera[index]}, frame {self.frame[index]}"


# Dimensions and kinds of numbers of the columns, as they are in a file.
COLUMNS = {
    "embedding": (2, "f"),
    "pose": (3, "f"),
    "time": (1, "f"),
    **dict.fromkeys(("record", "view", "frame"), (1, "iu")),
    **dict.fromkeys(("sequence", "camera"), (1, "U")),
}


def identity(state: TrainState) -> str:
    """Identifies a network by its weights and statistics: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    named_arrays = sorted(state.collections.items())
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        (state.params, *(arrays for _, arrays in named_arrays))
    ):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def of_views(split: pipeline.Split, views: inference.Views, network: str) -> Gallery:
    """The gallery of a split's predicted views; `network` is the `identity` of what predicted them."""
    frame = np.zeros(split.records, np.int64)
    cameras = {}
    for sequence in np.unique(views.sequence).tolist():
        row = split.table[sequence]
        frame[row.first : row.first + row.length] = frame_numbers(row)
        cameras[sequence] = [name.decode() for name in split[row.first]["camera"]]
    names = np.asarray([protocols.sequence_name(row) for row in split.table])
    places = zip(views.sequence.tolist(), views.camera.tolist(), strict=True)
    return Gallery(
        embedding=views.embedding,
        pose=views.true_canonical,
        record=views.record,
        view=views.camera,
        sequence=names[views.sequence],
        camera=np.asarray([cameras[sequence][view] for sequence, view in places]),
        frame=frame[views.record],
        time=views.time,
        split=split.name,
        fingerprint=split.fingerprint,
        network=network,
    )


def save(gallery: Gallery, path: str | Path) -> Path:
    """Writes a gallery, complete or not at all. Raises UserError for another ending than .npz."""
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise UserError(f"--save_gallery={path}; a gallery is a NumPy archive, its name ends in .npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            np.savez(file, **_columns(gallery))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _columns(gallery: Gallery) -> dict[str, Any]:
    return {field.name: getattr(gallery, field.name) for field in dataclasses.fields(Gallery)}


def load(path: str | Path, network: str) -> Gallery:
    """Reads a gallery that the network of this `identity` made.

    Raises UserError when there is none, or the file is no gallery, or another network's.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"there is no gallery {path}; save one with --save_gallery={path}")
    try:
        stored: dict[str, Any] = npz.read(path, [field.name for field in dataclasses.fields(Gallery)])
        words: dict[str, Any] = {k: str(stored.pop(k)) for k in ("split", "fingerprint", "network")}
    except (OSError, *npz.UNREADABLE) as error:
        raise UserError(
            f"{path} is not a gallery ({error}); save one with python -m launch.retrieve --save_gallery={path}"
        ) from error
    for name, (dimensions, kinds) in COLUMNS.items():
        column = np.asarray(stored[name])
        if column.ndim != dimensions or column.dtype.kind not in kinds:
            raise UserError(
                f"{path} is not a gallery: its {name} is {column.dtype}{list(column.shape)}; save it again"
            )
    if stored["pose"].shape[1:] != (NUM_JOINTS, 3) or not np.isfinite(stored["embedding"]).all():
        raise UserError(f"{path} is not a gallery of finite embeddings and poses of 17 joints; save it again")
    if len({len(np.atleast_1d(column)) for column in stored.values()}) != 1:
        raise UserError(f"{path} is not a gallery: its columns differ in length; save it again")
    if words["network"] != network:
        raise UserError(
            f"{path} was made by another checkpoint (network {words['network']}, this run's is {network}); distances "
            "between embeddings of two networks mean nothing: save the gallery again, or name its run and step"
        )
    return Gallery(**stored, **words)
