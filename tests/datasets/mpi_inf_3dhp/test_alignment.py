"""Cameras against annotations: the fit, and calibrations of another sequence."""

import numpy as np
import pytest

from datasets.mpi_inf_3dhp import alignment, joints
from datasets.mpi_inf_3dhp.calibration import Camera, read_calibration
from mcss_jax.errors import UserError
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

WHAT = distribution.Distribution(frames=6)


def seen(take: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    true = distribution.annotated(WHAT, take, number, WHAT.frames)
    return true["annot2"][:, joints.FROM_ANNOTATED], true["annot3"][:, joints.FROM_ANNOTATED]


def test_fit_finds_the_camera() -> None:
    annot2, annot3 = seen("TS5", 0)
    intrinsics, _ = distribution.camera(WHAT, "TS5", 0)
    np.testing.assert_allclose(alignment.fit_intrinsics(annot2, annot3, "it"), intrinsics, atol=1e-6)
    noise = np.random.default_rng(0).normal(0, 0.5, annot2.shape)
    np.testing.assert_allclose(alignment.fit_intrinsics(annot2 + noise, annot3, "it"), intrinsics, rtol=0.1)


def test_fit_leaves_out_what_is_unknown_or_behind() -> None:
    annot2, annot3 = seen("TS1", 0)
    annot2[0, 0], annot3[1, 2] = np.nan, np.nan
    annot3[2] *= -1
    annot3[3, 1, 2] = 0
    intrinsics, _ = distribution.camera(WHAT, "TS1", 0)
    np.testing.assert_allclose(alignment.fit_intrinsics(annot2, annot3, "it"), intrinsics, atol=1e-6)


def test_fit_refuses_what_no_camera_does() -> None:
    annot2, annot3 = seen("TS1", 0)
    with refused("it:", "no camera", "px", "2"):
        alignment.fit_intrinsics(annot2[:, ::-1].copy(), annot3, "it")
    for points in (annot3[:1, :1], -annot3, annot3 * [0, 1, 1]):
        pixels = annot2[: len(points), : points.shape[1]]
        with refused("it:", "annotated points"):
            alignment.fit_intrinsics(pixels, points, "it")


@pytest.mark.parametrize(("flip", "signs"), [((-1, 1), r"-\d+ and \d+ px"), ((1, -1), r"\d+ and -\d+ px")])
def test_fit_refuses_mirror_images(flip: tuple[int, int], signs: str) -> None:
    """They fit without any error, but no camera has a negative focal length."""
    annot2, annot3 = seen("TS1", 0)
    width, height = WHAT.picture_size("TS1")
    mirrored = np.array([width, height]) * (np.array(flip) < 0) + annot2 * flip
    with pytest.raises(UserError, match=f"it: `annot2` is a mirror image of .* are {signs}; positive"):
        alignment.fit_intrinsics(mirrored, annot3, "it")


def rig(numbers: tuple[int, ...], take: str = "S1/Seq1") -> dict[str, Camera]:
    cameras = read_calibration(distribution.calibration(WHAT, take), "it")
    return {str(number): cameras[number] for number in numbers}


def test_cameras_of_the_sequence_are_accepted() -> None:
    views = [seen("S1/Seq1", number) for number in (0, 2, 7)]
    annot2, annot3 = (np.stack(field) for field in zip(*views, strict=True))
    alignment.check_cameras(rig((0, 2, 7)), annot2, annot3, "it")


def test_cameras_of_another_kind_are_refused() -> None:
    views = [seen("S1/Seq1", number) for number in (0, 2, 7)]
    annot2, annot3 = (np.stack(field) for field in zip(*views, strict=True))
    cameras = rig((0, 2, 7))
    wide = cameras["7"].intrinsics * [[0.9], [0.9], [1]]
    cameras["7"] = Camera(cameras["7"].size, wide, cameras["7"].extrinsics)
    with refused("it, camera 7:", "`annot3`", "px", "`annot2`"):
        alignment.check_cameras(cameras, annot2, annot3, "it")
    # The same lens elsewhere projects camera coordinates alike: only the world tells.
    cameras = rig((0, 2, 7))
    other = rig((7,), "S2/Seq1")["7"]
    cameras["7"] = Camera(other.size, cameras["7"].intrinsics, other.extrinsics)
    with refused("it, camera 7:", "`annot3`", "mm", "camera 0"):
        alignment.check_cameras(cameras, annot2, annot3, "it")


def test_unknown_annotations_do_not_pass_for_good_ones() -> None:
    annot2, annot3 = (field[None] for field in seen("S1/Seq1", 0))
    for empty in (annot3 * np.nan, annot3 * [1, 1, 0]):
        with refused("camera 0:", "`annot3`", "camera.calibration", "inf px"):
            alignment.check_cameras(rig((0,)), annot2, empty, "it")
