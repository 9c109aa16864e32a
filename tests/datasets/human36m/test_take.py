"""A take, read: where its joints lie in the pictures, what its boxes hold, which frames are kept."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import originals
from datasets.distributions.originals import File
from datasets.distributions.takes import Footage
from datasets.human36m.catalogue import take_inventory
from datasets.human36m.take import Human36mTake, joint_box, kept_frames
from mcss_jax import geometry
from tests.distributions import human36m, human36m_scene
from tests.refusals import refused

SIZE = human36m.Distribution().size


def loose(file: File) -> Path:
    return Path(file.source) / file.path


def takes(source: Path, step: int = 1, boxes: str = "auto") -> dict[str, Human36mTake]:
    return {take.name: take for take in take_inventory(originals.scan(source), step, boxes).takes}


def read(source: Path, name: str, step: int = 1, boxes: str = "auto") -> Footage:
    return takes(source, step, boxes)[name].read(loose)


@pytest.fixture
def changed(human36m_source: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(human36m_source, tmp_path / "source"))


@pytest.mark.parametrize(
    ("count", "split", "step", "kept"),
    [
        (12, "train", 5, [0, 5, 10]),
        (10, "train", 5, [0, 5]),
        (131, "test", 5, sorted({*range(0, 131, 5), 0, 64, 128})),
        (131, "train", 5, list(range(0, 131, 5))),
        (4, "test", 1, [0, 1, 2, 3]),
        (1, "train", 5, [0]),
    ],
)
def test_kept_frames(count, split, step, kept) -> None:
    assert kept_frames(count, split, step).tolist() == kept


def test_poses_and_cameras_fit_what_was_filmed(human36m_source) -> None:
    footage = read(human36m_source, "S9 10.2 SittingDown 1", step=5)
    assert footage.frame.tolist() == [0, 5, 10]
    np.testing.assert_allclose(footage.time, [0, 0.1, 0.2])
    assert (footage.seconds_per_record, footage.frame_rate, footage.notes) == (0.1, 50.0, ())
    world = human36m_scene.poses("S9", 14)
    for c, view in enumerate(footage.views):
        assert view.camera == human36m.CAMERAS[c]
        assert (view.frames, view.short_by, view.pose.dtype) == (14, 0, np.float32)
        assert [path.name for path in view.pictures] == [f"SittingDown 1.{view.camera}.mp4"]
        drawn = human36m_scene.pixels("S9", c, SIZE, world)[footage.frame][:, human36m_scene.JOINTS17]
        pixels = geometry.project(view.pose.astype(float), view.intrinsics, view.distortion)
        np.testing.assert_allclose(pixels, drawn, rtol=0, atol=1e-3)
        back = geometry.from_camera(view.pose.astype(float), view.extrinsics)
        np.testing.assert_allclose(back, world[footage.frame][:, human36m_scene.JOINTS17], rtol=0, atol=2e-3)


@pytest.mark.parametrize("boxes", ["auto", "mask"])
def test_boxes_of_masks(human36m_source, boxes) -> None:
    footage = read(human36m_source, "S1 9.1 Sitting 1", step=5, boxes=boxes)
    for c, view in enumerate(footage.views):
        assert view.box_source == "mask"
        np.testing.assert_array_equal(view.box, human36m.mask_boxes("S1", c, SIZE, 14)[footage.frame])


def test_without_masks_the_person_is_looked_for(changed) -> None:
    (changed / "S1/MySegmentsMat/ground_truth_bb/Sitting 1.55011271.mat").unlink()
    footage = read(changed, "S1 9.1 Sitting 1")
    assert [view.box_source for view in footage.views] == ["mask", "static", "mask", "mask"]
    assert footage.views[1].box is None
    footage = read(changed, "S1 9.1 Sitting 1", boxes="static")
    assert [(view.box, view.box_source) for view in footage.views] == [(None, "static")] * 4


def test_boxes_of_joints_hold_them_with_a_margin(human36m_source) -> None:
    footage = read(human36m_source, "S1 9.1 Sitting 1", step=5, boxes="joints")
    for c, view in enumerate(footage.views):
        assert view.box_source == "joints"
        drawn = human36m_scene.pixels("S1", c, SIZE, human36m_scene.poses("S1", 12))[
            :, human36m_scene.JOINTS17
        ]
        for box, points in zip(view.box, drawn[footage.frame], strict=True):
            x, y = points.T
            margin = 0.1 * max(x.max() - x.min(), y.max() - y.min())
            expected = [x.min() - margin, y.min() - margin, x.max() + margin, y.max() + margin]
            np.testing.assert_allclose(box, expected, rtol=0, atol=1e-3)


def test_a_joint_behind_the_camera_leaves_no_box() -> None:
    pose = np.random.default_rng(0).uniform(-1, 1, (3, 17, 3)) + [0, 0, 5]
    pose[1, 4, 2] = 0.0
    box = joint_box(pose, np.eye(3), np.zeros(5))
    assert np.isnan(box).all(axis=1).tolist() == [False, True, False]
    assert joint_box(pose[:0], np.eye(3), np.zeros(5)).shape == (0, 4)


def test_a_missing_video_is_a_view_without_pictures(changed) -> None:
    (changed / "S5/Videos/Sitting 1.58860488.mp4").unlink()
    footage = read(changed, "S5 9.1 Sitting 1")
    assert [len(view.pictures) for view in footage.views] == [1, 1, 0, 1]
    assert np.isfinite(footage.views[2].pose).all()  # where the person was is known all the same


def test_the_unreadable_camera_may_lack_all_frames(human36m_source) -> None:
    take = dataclasses.replace(takes(human36m_source)["S1 9.1 Sitting 1"], unreadable=(human36m.CAMERAS[2],))
    assert [view.short_by for view in take.read(loose).views] == [0, 0, 12, 0]


def test_fewer_poses_than_metadata_says_are_noted(changed) -> None:
    human36m.write_cdf(
        changed / "S5/MyPoseFeatures/D3_Positions/Sitting 1.cdf", human36m_scene.poses("S5", 7)
    )
    shutil.rmtree(changed / "S5/MyPoseFeatures/D3_Positions_mono")
    footage = read(changed, "S5 9.1 Sitting 1")
    assert footage.notes == ("S5 9.1 Sitting 1: 7 poses are there, metadata.xml speaks of 12",)
    assert len(footage.frame) == 7 and {view.frames for view in footage.views} == {7}


def test_cameras_that_do_not_fit_are_told(changed) -> None:
    """Of one subject, by 3 mm; half a millimetre is let pass."""
    path = changed / "metadata.xml"
    text, own = path.read_text(), human36m_scene.placement("S5", 1)

    def with_centre(shift: float) -> None:
        x = repr(float(own[3]))
        assert text.count(x) == 1
        path.write_text(text.replace(x, repr(float(own[3] + shift))))

    with_centre(0.5)
    read(changed, "S5 9.1 Sitting 1")
    with_centre(3.0)
    with refused("camera 55011271", "Sitting 1.55011271.cdf") as e:
        read(changed, "S5 9.1 Sitting 1")
    distance = float(re.search(r"up to ([\d.]+) mm", str(e.value)).group(1))
    assert 1.5 < distance < 3.1 and str(e.value).startswith("S5 9.1 Sitting 1, camera 55011271")
    read(changed, "S1 9.1 Sitting 1")
    shutil.rmtree(changed / "S5/MyPoseFeatures/D3_Positions_mono")  # nothing to hold them against
    read(changed, "S5 9.1 Sitting 1")


def test_camera_poses_of_another_length_are_told(changed) -> None:
    mono = changed / "S5/MyPoseFeatures/D3_Positions_mono/Sitting 1.54138969.cdf"
    human36m.write_cdf(mono, human36m_scene.poses("S5", 11))
    with refused("Sitting 1.54138969.cdf", "11 poses", "12"):
        read(changed, "S5 9.1 Sitting 1")


def test_damaged_files_are_named_as_they_lie_in_the_source(changed) -> None:
    pose = changed / "S5/MyPoseFeatures/D3_Positions/Sitting 1.cdf"
    pose.write_bytes(b"")
    with refused("S5/MyPoseFeatures/D3_Positions/Sitting 1.cdf", "CDF") as caught:
        read(changed, "S5 9.1 Sitting 1")
    assert str(caught.value).startswith("S5/MyPoseFeatures")
    mask = changed / "S1/MySegmentsMat/ground_truth_bb/Sitting 1.54138969.mat"
    human36m.write_masks(mask, np.array([[1, 2, 3, 4]]), (9, 9))
    with refused("ground_truth_bb/Sitting 1.54138969.mat", "1 masks", "frame 11"):
        read(changed, "S1 9.1 Sitting 1")
