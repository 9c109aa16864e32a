"""Human3.6M's pose files (NASA CDF 3) and person masks (MATLAB 7.3, which is HDF5)."""

from pathlib import Path

import cdflib
import h5py
import numpy as np
from jaxtyping import Float, Int

from mcss_jax.errors import UserError

JOINTS = 32
JOINTS17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
"""Which of the 32 joints are those of `mcss_jax.skeleton` (docs/data_formats.md#human36m-joints)."""


def read_pose(path: Path, name: str) -> Float[np.ndarray, "f 32 3"]:
    """Joints of every frame, millimetres (docs/data_formats.md#human36m-pose-files).

    Args:
        path: a file of `D3_Positions` (world) or `D3_Positions_mono` (the camera's frame).
        name: what error messages call it.

    Raises:
        UserError: not a CDF file, no variable `Pose`, another shape than (1, frames, 96), a number that is not
            finite.
    """
    try:
        file = cdflib.CDF(path)
        info = file.cdf_info()
        held = [*info.rVariables, *info.zVariables]
        pose = np.asarray(file.varget("Pose"), np.float64) if "Pose" in held else None
    except Exception as error:  # cdflib promises no kind of error for a damaged file
        raise UserError(
            f"{name} is not a readable CDF file ({error}); it is damaged or of another kind, download it again"
        ) from error
    if pose is None:
        raise UserError(
            f"{name} holds no variable Pose (it holds: {', '.join(held) or 'none'}); joints were expected"
        )
    if pose.ndim != 3 or pose.shape[0] != 1 or pose.shape[1] == 0 or pose.shape[2] != JOINTS * 3:
        raise UserError(
            f"{name}: Pose has shape {pose.shape}; (1, frames, 96) was expected, 32 joints in three dimensions"
        )
    if not np.isfinite(pose).all():
        frame = int(np.argmin(np.isfinite(pose[0]).all(axis=-1)))
        raise UserError(f"{name}: the pose of frame {frame} is not finite; download the file again")
    return pose.reshape(-1, JOINTS, 3)


def read_mask_boxes(path: Path, frame: Int[np.ndarray, " n"], name: str) -> Float[np.ndarray, "n 4"]:
    """Boxes of the person, x0, y0, x1, y1 at pixel edges; NaN where a mask is empty (docs/data_formats.md).

    Args:
        path: a file of `ground_truth_bb`; only the masks of `frame` are read.
        frame: indices of frames.
        name: what error messages call it.

    Raises:
        UserError: not a MATLAB 7.3 file, no `Masks`, fewer than the frames need, or a mask that is no picture.
    """
    try:
        with h5py.File(path) as file:
            masks = file.get("Masks")
            if not _is_column_of_references(masks):
                raise UserError(f"{name} holds no column of references Masks; person masks were expected")
            if len(frame) and len(masks) <= frame.max():
                raise UserError(
                    f"{name} holds {len(masks)} masks; one for frame {frame.max()} was expected too"
                )
            references = masks[:, 0]
            boxes = [_box(file[references[n]] if references[n] else None, int(n), name) for n in frame]
            return np.array(boxes).reshape(-1, 4)
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, LookupError) as error:
        raise UserError(
            f"{name} is not a readable MATLAB 7.3 file ({error}); it is damaged or of another kind, download it again"
        ) from error


def _is_column_of_references(node: h5py.Dataset | h5py.Group | None) -> bool:
    if not isinstance(node, h5py.Dataset) or node.ndim != 2 or node.shape[1] != 1:
        return False
    return h5py.check_ref_dtype(node.dtype) is h5py.Reference


def _box(mask: h5py.Dataset | h5py.Group | None, frame: int, name: str) -> Float[np.ndarray, "4"]:
    """Of one mask, which MATLAB stores with the picture's columns first."""
    if isinstance(mask, h5py.Dataset) and mask.attrs.get("MATLAB_empty"):
        return np.full(4, np.nan)
    if not isinstance(mask, h5py.Dataset) or mask.ndim != 2:
        raise UserError(
            f"{name}: the mask of frame {frame} is no picture; one of rows and columns was expected"
        )
    filled = mask[()] != 0
    x, y = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not len(x):
        return np.full(4, np.nan)
    return np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], np.float64)
