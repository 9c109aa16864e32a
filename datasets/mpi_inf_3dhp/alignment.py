"""Whether cameras and annotations belong together, and cameras from annotations where no file gives them."""

import numpy as np
from jaxtyping import Float

from datasets.mpi_inf_3dhp.calibration import Camera
from mcss_jax import geometry
from mcss_jax.errors import UserError

# The annotations reproject within hundredths of a pixel, and all cameras give the same point in the world
# (docs/data_formats.md#mpi-inf-3dhp-annotations-and-frame-rates).
MOST_PIXELS, MOST_MILLIMETRES = 1.0, 10.0
# TS5 and TS6 are slightly distorted (docs/data_formats.md), which a fit without distortion leaves over.
MOST_FIT_PIXELS = 2.0
FRAMES_LOOKED_AT = 50


def fit_intrinsics(
    annot2: Float[np.ndarray, "f j 2"], annot3: Float[np.ndarray, "f j 3"], name: str
) -> Float[np.ndarray, "3 3"]:
    """The pinhole camera that takes `annot3` (millimetres, camera frame) to `annot2` (pixels).

    Least squares on each axis apart: u = f X / Z + c. Points behind the camera or not finite are left out.
    Source: docs/data_formats.md#mpi-inf-3dhp-test-set.

    Args:
      name: of the file, for messages.

    Raises:
      UserError: the points do not determine a camera, are off by more than 2 px in the median, or are mirrored:
        a focal length comes out negative.
    """
    pixels, points = annot2.reshape(-1, 2), annot3.reshape(-1, 3)
    usable = np.isfinite(pixels).all(-1) & np.isfinite(points).all(-1) & (points[:, 2] > 0)
    pixels, points = pixels[usable], points[usable]
    intrinsics = np.eye(3)
    for axis in range(2):
        slopes = np.stack([points[:, axis] / points[:, 2], np.ones(len(points))], -1)
        (focal, centre), _, rank, _ = np.linalg.lstsq(slopes, pixels[:, axis], rcond=None)
        if rank < 2:
            raise UserError(
                f"{name}: the {len(points)} annotated points before the camera do not determine its intrinsics"
            )
        intrinsics[axis, axis], intrinsics[axis, 2] = focal, centre
    error = _pixels_off(points, pixels, intrinsics)
    if error > MOST_FIT_PIXELS:
        raise UserError(
            f"{name}: no camera takes `annot3` to `annot2`: the best is off by {error:.1f} px in the median; at "
            f"most {MOST_FIT_PIXELS:g} were expected"
        )
    focal_lengths = intrinsics[0, 0], intrinsics[1, 1]
    if min(focal_lengths) <= 0:
        raise UserError(
            f"{name}: `annot2` is a mirror image of `annot3`: the focal lengths that take one to the other are "
            f"{focal_lengths[0]:.0f} and {focal_lengths[1]:.0f} px; positive ones were expected"
        )
    return intrinsics


def check_cameras(
    cameras: dict[str, Camera],
    annot2: Float[np.ndarray, "v f 17 2"],
    annot3: Float[np.ndarray, "v f 17 3"],
    name: str,
) -> None:
    """Looks at some frames: `annot3` must project onto `annot2`, and lie at one place in the world for all.

    Args:
      cameras: the v cameras by name.
      name: of the take, for messages.

    Raises:
      UserError: a camera is another one than the annotation's: the calibration is of another sequence.
    """
    some = np.unique(np.linspace(0, annot3.shape[1] - 1, FRAMES_LOOKED_AT).round().astype(int))
    worlds = []
    for v, (camera, model) in enumerate(cameras.items()):
        points, pixels = annot3[v, some].reshape(-1, 3), annot2[v, some].reshape(-1, 2)
        worlds.append(np.asarray(geometry.from_camera(points, model.extrinsics)))
        off = _pixels_off(points, pixels, model.intrinsics)
        if off > MOST_PIXELS:
            raise UserError(
                f"{name}, camera {camera}: `annot3` projected by camera.calibration is {off:.1f} px from `annot2` "
                f"in the median; at most {MOST_PIXELS:g} was expected: the two files are not of one sequence"
            )
        apart = _median_distance(worlds[v], worlds[0])
        if apart > MOST_MILLIMETRES:
            raise UserError(
                f"{name}, camera {camera}: `annot3` lies {apart:.0f} mm from where camera "
                f"{next(iter(cameras))} has it in the world; at most {MOST_MILLIMETRES:g} were expected: "
                "camera.calibration is not of this sequence"
            )


def _pixels_off(
    points: Float[np.ndarray, "k 3"], pixels: Float[np.ndarray, "k 2"], intrinsics: Float[np.ndarray, "3 3"]
) -> float:
    with np.errstate(
        divide="ignore", invalid="ignore"
    ):  # a point in the camera's plane is infinitely far off
        projected = np.asarray(geometry.project(points, intrinsics, np.zeros(5)))
    return _median_distance(projected, pixels)


def _median_distance(a: Float[np.ndarray, "k d"], b: Float[np.ndarray, "k d"]) -> float:
    """Points that are not finite count as infinitely far."""
    distance = np.linalg.norm(a - b, axis=-1)
    return float(np.median(np.where(np.isfinite(distance), distance, np.inf)))
