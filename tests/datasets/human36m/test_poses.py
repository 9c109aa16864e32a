"""Pose files and person masks: what is read back is what was written, and what is wrong is told."""

from pathlib import Path

import cdflib.cdfwrite
import h5py
import numpy as np

from datasets.human36m.poses import JOINTS17, read_mask_boxes, read_pose
from mcss_jax import skeleton
from tests.distributions import human36m
from tests.refusals import refused

NAMES32 = (  # docs/data_formats.md#human36m-joints
    "Hip RHip RKnee RFoot rtoes rsite1 LHip LKnee LFoot ltoes lsite1 spine1 Spine Thorax Neck Head lclavicle LShoulder "
    "LElbow LWrist lthumb lsite2 lwrist2 lsite3 rclavicle RShoulder RElbow RWrist rthumb rsite2 rwrist2 rsite3"
).split()


def test_the_17_joints_are_those_of_the_skeleton() -> None:
    assert tuple(NAMES32[j] for j in JOINTS17) == skeleton.JOINTS


def test_poses_are_read_joint_by_joint(tmp_path: Path) -> None:
    pose = np.random.default_rng(0).normal(size=(5, 32, 3)).astype(np.float32)
    human36m.write_cdf(tmp_path / "a 1.cdf", pose)
    poses = read_pose(tmp_path / "a 1.cdf", "S1/a 1.cdf")
    assert poses.dtype == np.float64
    np.testing.assert_array_equal(poses, pose)


def test_what_is_wrong_with_a_pose_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.cdf"

    def check(*facts: str) -> None:
        with refused(*facts) as caught:
            read_pose(path, "S1/a.cdf")
        assert str(caught.value).startswith("S1/a.cdf") and "\n" not in str(caught.value)

    for content in (b"", b"no such thing", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        path.write_bytes(content)
        check("not a readable CDF file")
    human36m.write_cdf(path, np.zeros((2, 96)), "Angles")
    check("no variable Pose", "Angles")
    human36m.write_cdf(path, np.zeros((2, 64)))
    check("(1, 2, 64)", "(1, frames, 96)")
    pose = np.zeros((4, 96))
    pose[2, 7] = np.nan
    human36m.write_cdf(path, pose)
    check("frame 2", "not finite")
    human36m.write_cdf(path, np.random.default_rng(0).normal(size=(50, 96)))
    content = path.read_bytes()
    for length in (300, 600, len(content) // 2, len(content) - 1000):
        path.write_bytes(content[:length])
        check("not a readable CDF file")
    path.unlink()
    with cdflib.cdfwrite.CDF(path) as file:
        file.write_globalattrs({"made": {0: "today"}})
    check("no variable Pose", "none")


def test_boxes_are_those_of_the_filled_rectangles(tmp_path: Path) -> None:
    boxes = np.array([[3, 5, 10, 30], [0, 0, 40, 32], [7, 8, 8, 9], [5, 5, 5, 5]])
    human36m.write_masks(tmp_path / "a.mat", boxes, (40, 32))
    read = read_mask_boxes(tmp_path / "a.mat", np.array([0, 2, 3, 1]), "a.mat")
    np.testing.assert_array_equal(read, [[3, 5, 10, 30], [7, 8, 8, 9], [np.nan] * 4, [0, 0, 40, 32]])
    assert read_mask_boxes(tmp_path / "a.mat", np.zeros(0, int), "a.mat").shape == (0, 4)


def test_an_empty_cell_is_an_empty_mask(tmp_path: Path) -> None:
    """As MATLAB writes `[]`: its size, as numbers, and an attribute."""
    human36m.write_masks(tmp_path / "a.mat", np.array([[1, 2, 3, 4]]), (9, 9))
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        empty = file.create_dataset("#refs#/e", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = np.uint8(1)
        file["Masks"][0, 0] = empty.ref
    assert np.isnan(read_mask_boxes(tmp_path / "a.mat", np.array([0]), "a.mat")).all()


def test_what_is_wrong_with_masks_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"

    def check(*facts: str, frame: int = 0) -> None:
        with refused(*facts) as caught:
            read_mask_boxes(path, np.array([frame]), "S1/a.mat")
        assert str(caught.value).startswith("S1/a.mat")

    for content in (b"", b"MATLAB 5.0 MAT-file" + bytes(200)):
        path.write_bytes(content)
        check("not a readable MATLAB 7.3 file")
    human36m.write_masks(path, np.array([[1, 2, 3, 4]] * 3), (9, 9))
    check("3 masks", "frame 3", frame=3)
    for value in ([[1.0]], [1.0, 2.0], [[1.0, 2.0]]):
        with h5py.File(path, "w") as file:
            file["Masks"] = value
        check("no column of references Masks")
    with h5py.File(path, "w") as file:
        file.create_group("Masks")
    check("no column of references Masks")
    with h5py.File(path, "w") as file:
        masks = file.create_dataset("Masks", (3, 1), dtype=h5py.ref_dtype)
        masks[0, 0] = file.create_dataset("line", data=np.ones(4)).ref
        masks[1, 0] = file.create_group("group").ref
    check("mask of frame 0", "no picture")
    check("mask of frame 1", "no picture", frame=1)
    check("mask of frame 2", "no picture", frame=2)  # no reference at all
    human36m.write_masks(path, np.array([[1, 2, 200, 300]]), (400, 400))
    path.write_bytes(path.read_bytes()[:-400])
    check("not a readable MATLAB 7.3 file")
