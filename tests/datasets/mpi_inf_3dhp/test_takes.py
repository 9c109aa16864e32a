"""Takes that are read: geometry against what was written, time, defects, options, and every refusal."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from datasets.distributions import originals, takes
from datasets.mpi_inf_3dhp import defects, footage
from datasets.mpi_inf_3dhp.catalogue import take_inventory
from datasets.mpi_inf_3dhp.footage import Options
from datasets.mpi_inf_3dhp.joints import FROM_ANNOTATED
from datasets.mpi_inf_3dhp.multi_view import MultiViewTake
from mcss_jax import geometry
from mcss_jax.skeleton import JOINTS
from tests.datasets import videos
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

CAMERAS = (0, 2, 4)
OPTIONS = Options(CAMERAS, False, "annot3", "joints", ())
WHAT = distribution.Distribution(
    sequences=("S1/Seq1", "S1/Seq2"),
    tests=("TS1", "TS5"),
    cameras=CAMERAS,
    frames=21,
    size=64,
    close_up=(4,),
)
DEFECTIVE = distribution.defective(cameras=CAMERAS, size=64)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    distribution.write(folder, WHAT)
    return folder


@pytest.fixture(scope="module")
def defective(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("defective")
    distribution.write(folder, DEFECTIVE)
    return folder


def locate(file: originals.File) -> Path:
    return Path(file.source) / file.path


def take_of(folder: Path, name: str, **options: object) -> takes.Take:
    chosen = dataclasses.replace(OPTIONS, **options)  # type: ignore[arg-type]
    return next(t for t in take_inventory(originals.scan(folder), chosen).takes if t.name == name)


def read(folder: Path, name: str, **options: object) -> takes.Footage:
    return take_of(folder, name, **options).read(locate)


@pytest.mark.parametrize(("name", "step", "rate"), [("S1 Seq1", 2, 25.0), ("S1 Seq2", 5, 50.0)])
def test_training_is_what_was_written(good: Path, name: str, step: int, rate: float) -> None:
    footage = read(good, name)
    place = name.replace(" ", "/")
    frames = np.arange(0, 21, step)
    np.testing.assert_array_equal(footage.frame, frames)
    np.testing.assert_allclose(footage.time, frames / rate)
    assert footage.seconds_per_record == step / rate and footage.frame_rate == rate and not footage.notes
    assert footage.extra == {"valid_frame": [True] * len(frames), "activity": [""] * len(frames)}
    assert [view.camera for view in footage.views] == ["0", "2", "4"]
    for view in footage.views:
        true = distribution.annotated(WHAT, place, int(view.camera), 21)
        np.testing.assert_array_equal(view.pose, true["annot3"][frames][:, FROM_ANNOTATED])
        projected = geometry.project(view.pose, view.intrinsics, view.distortion)
        np.testing.assert_allclose(projected, true["annot2"][frames][:, FROM_ANNOTATED], atol=1e-4)
        world = geometry.from_camera(view.pose, view.extrinsics)
        np.testing.assert_allclose(
            world[1], distribution.world_pose(place, frames[1])[FROM_ANNOTATED], atol=1e-3
        )
        assert view.frames == 21 and view.short_by == 0
        assert view.pictures == (good / place / "imageSequence" / f"video_{view.camera}.avi",)


def test_native_keeps_every_frame(good: Path) -> None:
    footage = read(good, "S1 Seq2", native=True)
    np.testing.assert_array_equal(footage.frame, np.arange(21))
    assert footage.seconds_per_record == pytest.approx(0.02)


def test_annotation_is_the_one_that_was_chosen(good: Path) -> None:
    measured, universal = read(good, "S1 Seq1"), read(good, "S1 Seq1", annotation="univ_annot3")
    scale = distribution.universal_scale("S1/Seq1")
    for a, b in zip(measured.views, universal.views, strict=True):
        root = a.pose[:, :1]
        np.testing.assert_allclose(b.pose, root + scale * (a.pose - root), atol=1e-6)
        np.testing.assert_array_equal(a.box, b.box)  # of the pixels, whichever the pose is


def test_boxes_of_joints(good: Path) -> None:
    for view in read(good, "S1 Seq1").views:
        pixels = geometry.project(view.pose, view.intrinsics, view.distortion)
        assert view.box_source == "joints" and view.box is not None
        low, high = pixels.min(1), pixels.max(1)
        longer = (high - low).max(-1)
        np.testing.assert_allclose(view.box[:, 1], low[:, 1] - 0.1 * longer, atol=1e-4)
        np.testing.assert_allclose(view.box[:, 2], high[:, 0] + 0.1 * longer, atol=1e-4)
        outside = (pixels < 0).any() or (pixels > 64).any()
        assert outside == (view.camera == "4")
    for boxes in ("auto", "static"):
        for view in read(good, "S1 Seq1", boxes=boxes).views:
            assert view.box is None and view.box_source == "static"


def test_boxes_of_people_who_are_not_seen() -> None:
    person = np.zeros((1, 17, 2))
    person[0, 1] = [10, 40]
    places = np.array([[0.0, 0], [200, 0], [-20, 0], [0, -50], [95, 10], [np.nan, 0]])
    box = footage.joint_boxes(person + places[:, None], (100, 80))
    np.testing.assert_array_equal(box[0], [-4, -4, 14, 44])
    assert np.isfinite(box).all(1).tolist() == [True, False, False, False, True, False]
    assert np.isnan(footage.joint_boxes(np.full((1, 17, 2), 5.0), (100, 80))).all()


def test_a_missing_video_leaves_its_view_empty(good: Path) -> None:
    take = take_of(good, "S1 Seq1")
    files = {role: several for role, several in take.files.items() if role != "2"}
    footage = dataclasses.replace(take, files=files).read(locate)
    assert [len(view.pictures) for view in footage.views] == [1, 0, 1]
    assert np.isfinite(footage.views[1].intrinsics).all()


def test_test_sequences(good: Path) -> None:
    for name in ("TS1", "TS5"):
        for annotation in ("annot3", "univ_annot3"):
            footage = read(good, name, annotation=annotation)
            seen, *padding = footage.views
            true = distribution.annotated(WHAT, name, 0, 12)
            np.testing.assert_array_equal(seen.pose, true[annotation][:, FROM_ANNOTATED])
            np.testing.assert_allclose(seen.intrinsics, distribution.camera(WHAT, name, 0)[0], atol=1e-4)
            assert [path.name for path in seen.pictures[:2]] == ["img_000001.jpg", "img_000002.jpg"]
            assert len(seen.pictures) == seen.frames == 12 and np.isnan(seen.extrinsics).all()
            assert seen.camera == "0" and seen.box_source == "joints" and seen.box is not None
            assert [(view.camera, view.pictures) for view in padding] == [("", ())] * 2
            assert all(np.isnan(view.pose).all() and np.isnan(view.intrinsics).all() for view in padding)
            np.testing.assert_array_equal(footage.frame, np.arange(12))
            assert footage.frame_rate == 25 and footage.seconds_per_record == 1 / 25
            assert footage.extra["valid_frame"] == [distribution.counts(frame) for frame in range(12)]
            assert footage.extra["activity"][3] == "Reaching/Crouching"
            assert read(good, name, boxes="auto").views[0].box is None


def test_test_sequence_without_frames_that_count(good: Path, tmp_path: Path) -> None:
    take = take_of(good, "TS1")
    path = tmp_path / "a.mat"
    path.write_bytes(locate(take.files["annotation"][0]).read_bytes())
    with h5py.File(path, "r+") as file:
        file["valid_frame"][...] = 0

    def elsewhere(file: originals.File) -> Path:
        return path if file.path.endswith(".mat") else locate(file)

    with refused("TS1/annot_data.mat", "no frame counts"):
        take.read(elsewhere)


# -------- defects


@pytest.fixture
def miniature(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table with a stretch that the miniature has."""
    monkeypatch.setattr(defects, "DEFECTS", distribution.known_defects(DEFECTIVE))
    yield


@pytest.mark.parametrize("annotation", ["annot3", "univ_annot3"])
def test_left_and_right_are_put_right(defective: Path, miniature: None, annotation: str) -> None:
    footage = read(defective, "S4 Seq2", annotation=annotation, native=True)
    for view in footage.views:
        true = distribution.annotated(DEFECTIVE, "S4/Seq2", int(view.camera), 20)[annotation]
        np.testing.assert_array_equal(view.pose, true[:, FROM_ANNOTATED])
    assert len(footage.notes) == 1
    assert "were exchanged in frames 6 to 13 and are put right" in footage.notes[0]
    assert footage.defect == ""  # nothing is wrong with it any more


def test_left_and_right_stay_where_nothing_shows(defective: Path) -> None:
    """The published stretch lies beyond the miniature's end."""
    footage = read(defective, "S4 Seq2", native=True)
    true = distribution.annotated(DEFECTIVE, "S4/Seq2", 0, 20)["annot3"][:, FROM_ANNOTATED]
    np.testing.assert_array_equal(footage.views[0].pose[5], true[5])
    assert np.abs(footage.views[0].pose[6] - true[6]).max() > 50
    assert footage.defect == (
        "left and right are said to be exchanged in frames 3759 to 5852; not confirmed by the annotation, left as it is"
    )
    assert footage.notes == (f"S4/Seq2: {footage.defect}",)


def test_short_videos_are_allowed_for(defective: Path) -> None:
    assert [view.short_by for view in read(defective, "S3 Seq1").views] == [1, 1, 1]
    assert [view.short_by for view in read(defective, "S6 Seq2").views] == [0, 20, 0]
    assert read(defective, "S3 Seq1").defect is None
    for name, pictures in (("TS3", 13), ("TS4", 14), ("TS6", 12)):
        footage = read(defective, name)
        assert len(footage.views[0].pictures) == pictures and footage.views[0].frames == 12
        assert footage.notes == () and footage.defect is None


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("TS3", -1, ""),
        ("TS3", 1, "14 pictures and 12 annotations, 2 pictures more where 1 were expected"),
        ("TS4", -1, "13 pictures and 12 annotations, 1 pictures more where 2 were expected"),
        ("TS6", 1, "13 pictures and 12 annotations, 1 pictures more where 0 were expected"),
    ],
)
def test_pictures_beyond_the_annotations_are_told(defective: Path, name: str, change: int, told: str) -> None:
    take = take_of(defective, name)
    images = take.files["images"]
    images = images[:change] if change < 0 else (*images, *images[:change])
    notes = dataclasses.replace(take, files={**take.files, "images": images}).read(locate).notes
    expected = (f"{name}: there are {told}; those beyond the annotations are left out",)
    assert notes == (expected if told else ())


def test_knees_and_ankles_that_do_not_agree_are_kept_and_told(defective: Path) -> None:
    """As the official evaluation has them."""
    for annotation, differ in (("univ_annot3", True), ("annot3", False)):
        take = take_of(defective, "TS6", annotation=annotation)
        assert ("knees and ankles of univ_annot3" in take.defect) == differ
        pose = take.read(locate).views[0].pose
        true = distribution.annotated(DEFECTIVE, "TS6", 0, 12)
        np.testing.assert_array_equal(pose, true[annotation][:, FROM_ANNOTATED])
        root, scale = pose[:, :1], distribution.universal_scale("TS6") if differ else 1.0
        scaled = root + scale * (true["annot3"][:, FROM_ANNOTATED] - root)
        moved = np.abs(pose - scaled).max((0, 2)) > 1
        knees_and_ankles = [joint.endswith(("Knee", "Foot")) for joint in JOINTS]
        assert moved.tolist() == (knees_and_ankles if differ else [False] * 17)


def test_a_video_known_to_be_bad_is_not_looked_into(defective: Path, tmp_path: Path) -> None:
    empty = tmp_path / "video_2.avi"
    empty.write_bytes(b"")

    def elsewhere(file: originals.File) -> Path:
        return empty if file.path.endswith("video_2.avi") else locate(file)

    assert take_of(defective, "S6 Seq2").read(elsewhere).views[1].pictures == (empty,)
    with refused("empty"):
        take_of(defective, "S3 Seq1").read(elsewhere)


# -------- files that do not fit


def written(folder: Path, **changes: object) -> Path:
    distribution.write(
        folder,
        dataclasses.replace(WHAT, sequences=("S1/Seq1",), tests=(), frames=11, **changes),  # type: ignore[arg-type]
    )
    return folder


def test_the_videos_rate_wins(tmp_path: Path) -> None:
    footage = read(written(tmp_path, fast=("S1/Seq1",)), "S1 Seq1")
    assert footage.frame_rate == 50 and footage.seconds_per_record == 0.1
    np.testing.assert_array_equal(footage.frame, [0, 5, 10])
    assert len(footage.notes) == 1
    assert "the videos have 50 frames per second where 25 were expected" in footage.notes[0]


def test_cameras_of_different_rates_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    videos.write(folder / "S1/Seq1/imageSequence/video_4.avi", np.zeros((11, 64, 64), np.uint8), rate=30)
    with refused("S1/Seq1", "camera 4", "30 frames per second"):
        read(folder, "S1 Seq1")


def test_pictures_have_no_rate(tmp_path: Path) -> None:
    footage = read(written(tmp_path, layout="pictures"), "S1 Seq1")
    assert footage.frame_rate == 25 and not footage.notes
    assert [path.name for path in footage.views[2].pictures] == [f"img_{k:06d}.jpg" for k in range(1, 12)]


def test_resized_pictures_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path)
    target = folder / "S1/Seq1/imageSequence/video_4.avi"
    videos.write(target, np.zeros((11, 32, 32), np.uint8))
    with refused("S1/Seq1, camera 4:", "32 x 32 pixels", "64 x 64"):
        read(folder, "S1 Seq1")


def test_damaged_pictures_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, layout="pictures")
    (folder / "S1/Seq1/imageSequence/video_2/img_000001.jpg").write_bytes(b"none")
    with refused("S1/Seq1, camera 2:", "img_000001.jpg", "JPEG"):
        read(folder, "S1 Seq1")


def test_missing_cameras_are_named(tmp_path: Path) -> None:
    folder = written(tmp_path)
    path = folder / "S1/Seq1/camera.calibration"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:15], *lines[22:29]]))  # cameras 0, 1 and 3
    with refused("S1/Seq1/camera.calibration", "camera 2", "0, 1, 3"):
        read(folder, "S1 Seq1")
    path.write_bytes(b"Skeletool Camera Calibration File V1.0\n")
    with refused("camera 0", "none"):
        read(folder, "S1 Seq1")
    path.write_bytes(b"\xff\xfe\x00")
    with refused("S1/Seq1/camera.calibration", "begins with"):
        read(folder, "S1 Seq1")


def test_another_sequences_calibration_is_refused(good: Path) -> None:
    other = good / "S1/Seq2/camera.calibration"

    def elsewhere(file: originals.File) -> Path:
        return other if file.path.endswith("Seq1/camera.calibration") else locate(file)

    with refused("S1/Seq1, camera 2:", "`annot3`", "mm", "camera 0"):
        take_of(good, "S1 Seq1").read(elsewhere)


def test_takes_tell_what_decides_them(good: Path) -> None:
    take = take_of(good, "S1 Seq1")
    assert isinstance(take, MultiViewTake) and dataclasses.asdict(take)["options"]["annotation"] == "annot3"
