"""The annotations: `annot.mat` of a training sequence, `annot_data.mat` of a test sequence.

Arrays come out in the order of the 17 joints of `mcss_jax.skeleton`. Source:
docs/data_formats.md, MPI-INF-3DHP.
"""

import dataclasses
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import scipy.io
from jaxtyping import Bool, Float

from datasets.mpi_inf_3dhp.joints import ANNOTATED, FROM_ANNOTATED, FROM_TEST_SET, TEST_SET
from mcss_jax.errors import UserError

Annotation = Literal["univ_annot3", "annot3"]
"""Which 3D annotation is taken for the pose: scaled to a common height (the official evaluation's), or as measured."""

CAMERAS = 14
ACTIVITIES = (
    "Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports", "Miscellaneous",
)  # fmt: skip
"""Of the test set, by number from 1."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Annotations:
    """What is annotated in v cameras and f frames.

    Attributes:
      annot2: pixels.
      annot3: millimetres, in each camera's frame; it projects onto `annot2`.
      univ_annot3: the same, scaled about the root to the height that all sequences share; it does not.
      left_out: how many frames more there were, beyond those that the videos have.
    """

    annot2: Float[np.ndarray, "v f 17 2"]
    annot3: Float[np.ndarray, "v f 17 3"]
    univ_annot3: Float[np.ndarray, "v f 17 3"]
    left_out: int

    def pose(self, annotation: Annotation) -> Float[np.ndarray, "v f 17 3"]:
        """The chosen 3D annotation."""
        return self.annot3 if annotation == "annot3" else self.univ_annot3


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleViewAnnotations(Annotations):
    """Of a test sequence, v = 1.

    Attributes:
      valid_frame: whether the official evaluation counts the frame.
      activity: one of `ACTIVITIES`; may be empty where the frame does not count.
    """

    valid_frame: Bool[np.ndarray, " f"]
    activity: list[str]


def read_training(path: Path, name: str, cameras: tuple[int, ...], limit: int) -> Annotations:
    """Reads `annot.mat` (MATLAB v5). As many frames as its field `frames` has entries: arrays may be longer.

    Args:
      name: of the file, for messages.
      cameras: the v wanted ones, 0 to 13.
      limit: how many frames the videos have; `frames` may be as long as the arrays.

    Raises:
      UserError: not a MATLAB v5 file, cut short, without a field, or with a field of another shape.
    """
    if h5py.is_hdf5(path):
        raise UserError(
            f"{name}: is a MATLAB v7.3 (HDF5) file; v5, as it is distributed, was expected: download it again"
        )
    entries = int(_v5_field(path, name, "frames").size)
    if not entries:
        raise UserError(f"{name}: `frames` is empty; a number for every frame was expected")
    frames = min(entries, limit)
    fields = {}
    for field in ("annot2", "annot3", "univ_annot3"):
        # One at a time: each is up to 120 MB, of which half the cameras and joints are wanted.
        cells = _v5_field(path, name, field).ravel()
        if cells.dtype != object or len(cells) != CAMERAS:
            raise UserError(
                f"{name}: `{field}` has {len(cells)} entries of type {cells.dtype}; {CAMERAS} cells were expected"
            )
        size = 2 if field == "annot2" else 3
        fields[field] = np.stack(
            [_joints(cells[k], frames, size, f"{name}: `{field}`, camera {k}") for k in cameras]
        )
    return Annotations(**fields, left_out=entries - frames)


def _v5_field(path: Path, name: str, field: str) -> np.ndarray:
    try:
        content = scipy.io.loadmat(path, variable_names=[field])
    except Exception as error:  # a damaged file leads SciPy's reader to nearly any of them
        raise UserError(
            f"{name}: is not a readable MATLAB v5 file ({type(error).__name__}: {error}); it is damaged or cut "
            "short, download it again"
        ) from error
    if field not in content:
        raise UserError(
            f"{name}: has no field `{field}`; it is cut short, or not the annotation of a sequence"
        )
    return np.asarray(content[field])


def _joints(cell: np.ndarray, frames: int, size: int, what: str) -> Float[np.ndarray, "f 17 k"]:
    columns, cell = len(ANNOTATED) * size, np.asarray(cell)
    if cell.dtype.kind not in "fiu":
        raise UserError(f"{what}: holds {cell.dtype}; numbers were expected")
    if cell.ndim != 2 or cell.shape[0] < frames or cell.shape[1] != columns:
        raise UserError(f"{what}: has shape {cell.shape}; ({frames} or more, {columns}) was expected")
    return cell[:frames].reshape(frames, len(ANNOTATED), size)[:, FROM_ANNOTATED].astype(np.float64)


def read_test(path: Path, name: str) -> SingleViewAnnotations:
    """Reads `annot_data.mat` (MATLAB v7.3, which is HDF5).

    Args:
      name: of the file, for messages.

    Raises:
      UserError: not an HDF5 file, cut short, without a field, a field of another shape (one saved again with
        MATLAB's order of axes, say), a frame that counts but has no known activity.
    """
    if not h5py.is_hdf5(path):
        raise UserError(
            f"{name}: is not a MATLAB v7.3 (HDF5) file; it is damaged, or was saved in another version: "
            "download it again"
        )
    names = ("annot2", "annot3", "univ_annot3", "valid_frame", "activity_annotation")
    try:
        with h5py.File(path) as file:
            content = {field: np.asarray(file[field], np.float64) for field in names if field in file}
    except (OSError, RuntimeError, ValueError, TypeError, LookupError) as error:
        raise UserError(f"{name}: cannot be read to its end ({error}); download it again") from error
    absent = [field for field in names if field not in content]
    if absent:
        raise UserError(f"{name}: has no field `{absent[0]}`; it is not the annotation of a test sequence")
    frames = len(content["annot2"])
    arrays = {}
    for field, size in (("annot2", 2), ("annot3", 3), ("univ_annot3", 3)):
        shape = content[field].shape
        if shape != (frames, 1, len(TEST_SET), size):
            raise UserError(
                f"{name}: `{field}` has shape {shape}; (frames, 1, {len(TEST_SET)}, {size}) was expected"
            )
        arrays[field] = content[field].transpose(1, 0, 2, 3)[:, :, FROM_TEST_SET].astype(np.float64)
    for field in ("valid_frame", "activity_annotation"):
        if content[field].size != frames:
            raise UserError(f"{name}: `{field}` has {content[field].size} entries; {frames} were expected")
    valid = content["valid_frame"].ravel() == 1
    activity = [_activity(number) for number in content["activity_annotation"].ravel().tolist()]
    nameless = [frame for frame in np.flatnonzero(valid) if not activity[frame]]
    if nameless:
        raise UserError(
            f"{name}: frame {nameless[0]} counts but has no activity; a number from 1 to {len(ACTIVITIES)} was "
            "expected in `activity_annotation`"
        )
    return SingleViewAnnotations(**arrays, left_out=0, valid_frame=valid, activity=activity)


def _activity(number: float) -> str:
    return ACTIVITIES[int(number) - 1] if number in range(1, len(ACTIVITIES) + 1) else ""
