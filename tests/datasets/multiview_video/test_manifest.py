"""Sources: folders, manifests and label files, and what is said of wrong ones."""

from pathlib import Path

import numpy as np
import pytest

from datasets.multiview_video import manifest
from tests.refusals import refused

MANIFEST = """
[[session]]
name = "monday"
subject = "anna"
action = "walking"
group = "red"
split = "validation"
labels = "m.npz"
[[session.camera]]
file = "b.mp4"
offset = -0.5
[[session.camera]]
name = "left"
file = "a.mp4"
boxes = "a.csv"
"""


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_folder_of_videos_is_one_session(tmp_path: Path) -> None:
    (session,) = manifest.load(
        touch(tmp_path / "walk", "b.MOV", "a.mp4", "notes.txt", "boxes.csv", ".hidden.mp4")
    )
    assert [camera.name for camera in session.cameras] == ["a", "b"]
    assert (session.name, session.subject, session.group, session.split) == ("walk", "walk", "walk", "train")
    assert session.boxes == tmp_path / "walk" / "boxes.csv" and session.labels is None


def test_folder_of_folders_is_a_session_each(tmp_path: Path) -> None:
    sessions = manifest.load(
        touch(tmp_path, "two/a.mp4", "two/b.mp4", "one/a.mkv", "one/b.mkv", "junk/read.me")
    )
    assert [session.name for session in sessions] == ["one", "two"]


@pytest.mark.parametrize("direct", [True, False])
def test_manifest_names_everything(tmp_path: Path, direct: bool) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "a.csv", "m.npz")
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    (session,) = manifest.load(tmp_path / "manifest.toml" if direct else tmp_path)
    assert (session.subject, session.action, session.group, session.split) == (
        "anna",
        "walking",
        "red",
        "validation",
    )
    assert session.cameras == (
        manifest.Camera("b", tmp_path / "b.mp4", -0.5),
        manifest.Camera("left", tmp_path / "a.mp4", 0.0, tmp_path / "a.csv"),
    )
    assert session.labels == tmp_path / "m.npz"


@pytest.mark.parametrize(
    ("files", "facts"),
    [
        ((), ("holds no videos",)),
        (("a.mp4",), ("1 camera", "a.mp4", "two")),
        (("one/a.mp4",), ("session one", "1 camera")),
        (("a.mp4", "b.mp4", "one/a.mp4"), ("a.mp4", "one")),
        (("a.mp4", "a.mov"), ("cameras of session",)),
    ],
)
def test_wrong_folders(tmp_path: Path, files: tuple[str, ...], facts: tuple[str, ...]) -> None:
    with refused(*facts):
        manifest.load(touch(tmp_path, *files))


def test_no_such_source() -> None:
    with refused("nowhere", "manifest.toml"):
        manifest.load("nowhere")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (("[[session]]", "[session"), ("TOML",)),
        ((MANIFEST, "title = 'mine'"), ("['title']", "[[session]]")),
        (("action", "akshun"), ("name, subject, akshun",)),
        (("offset", "ofset"), ("name, file, offset, boxes",)),
        (('file = "b.mp4"', ""), ("file must be there",)),
        (("-0.5", '"late"'), ("offset = 'late'", "b.mp4", "seconds")),
        (("-0.5", "inf"), ("offset = inf",)),
        (('"left"', '"b"'), ("cameras of session monday", "b occurs twice")),
        ((MANIFEST, MANIFEST + "[other]\n"), ("['other', 'session']",)),
        (
            (MANIFEST, "[[session]]\nname = 'x'\ncamera = 'a.mp4'"),
            ("[[session.camera]]",),
        ),
        ((MANIFEST, "session = [1]"), ("[[session]] is 1", "table")),
        (('file = "b.mp4"', "file = 3"), ("file 3", "text")),
        (("-0.5", "1" + 400 * "0"), ("seconds",)),
        (
            ("validation", "a/b"),
            ("split = 'a/b'", "monday", "'_'", "'-'"),
        ),
        (("validation", "all"), ("split = 'all'",)),
        ((MANIFEST, MANIFEST + MANIFEST), ("sessions", "monday occurs twice")),
    ],
)
def test_wrong_manifests(tmp_path: Path, change: tuple[str, str], facts: tuple[str, ...]) -> None:
    touch(tmp_path, "a.mp4", "b.mp4", "a.csv", "m.npz")
    (tmp_path / "manifest.toml").write_text(MANIFEST.replace(*change))
    with refused(*facts):
        manifest.load(tmp_path)


def test_manifest_that_names_a_missing_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "a.csv", "m.npz")
    (tmp_path / "manifest.toml").write_text(MANIFEST)
    with refused("b.mp4", "no file"):
        manifest.load(tmp_path)


TIME = np.array([0.0, 0.1, 0.2, 0.3])
POSE = np.arange(4.0)[:, None, None] * np.ones((4, 17, 3)) * 100


def test_world_poses_go_into_each_camera(tmp_path: Path) -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    shift = np.array([[10.0], [20], [30]])
    extrinsics = np.stack([np.hstack([np.eye(3), shift]), np.hstack([turn, shift])])
    np.savez(tmp_path / "l.npz", pose=POSE + np.array([1.0, 2, 3]), time=TIME, extrinsics=extrinsics)
    labels = manifest.load_labels(tmp_path / "l.npz", 2)
    assert labels.pose.shape == (2, 4, 17, 3)
    np.testing.assert_allclose(labels.pose[0, 1, 5], [111, 122, 133])
    np.testing.assert_allclose(labels.pose[1, 1, 5], [-102 + 10, 101 + 20, 103 + 30])
    assert np.isnan(labels.intrinsics).all() and np.isnan(labels.distortion).all()


def test_labels_are_linear_between_and_absent_outside(tmp_path: Path) -> None:
    pose = np.stack([POSE, POSE + 7])
    pose[0, 2] = np.nan
    np.savez(tmp_path / "l.npz", pose=pose, time=TIME)
    poses = manifest.load_labels(tmp_path / "l.npz", 2).at(np.array([-0.01, 0.0, 0.05, 0.1, 0.15, 0.3, 0.31]))
    assert poses.shape == (2, 7, 17, 3) and poses.dtype == np.float32
    np.testing.assert_allclose(poses[1, 1:6, 0, 0], [7, 57, 107, 157, 307], rtol=1e-6)
    assert np.isnan(poses[:, [0, 6]]).all() and np.isnan(poses[0, 4]).all()
    np.testing.assert_allclose(poses[0, [3, 5], 0, 0], [100, 300], rtol=1e-6)  # beside a NaN, not in it


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ({"pose": POSE}, ("['pose']", "pose and time")),
        (
            {"pose": POSE, "time": TIME, "colour": TIME},
            ("['colour', 'pose', 'time']", "intrinsics, extrinsics, distortion"),
        ),
        (
            {"pose": POSE[:3], "time": TIME},
            ("pose", "(3, 17, 3)", "(4, 17, 3)", "(2, 4, 17, 3)"),
        ),
        ({"pose": POSE[:0], "time": TIME[:0]}, ("has the shape (0",)),
        ({"pose": POSE, "time": TIME, "intrinsics": np.eye(3)}, ("intrinsics", "(3, 3)", "(2, 3, 3)")),
        ({"pose": POSE, "time": TIME[::-1]}, ("time does not ascend",)),
        ({"pose": POSE, "time": TIME}, ("world coordinates (4, 17, 3)", "no extrinsics")),
        ({"pose": POSE, "time": np.array(list("abcd"))}, ("time holds <U1", "numbers")),
        ({"pose": np.array([{"a": 1}]), "time": TIME}, ("not an .npz file of plain numbers",)),
    ],
)
def test_wrong_labels(tmp_path: Path, content: dict[str, np.ndarray], facts: tuple[str, ...]) -> None:
    np.savez(tmp_path / "l.npz", **content)
    with refused(*facts) as caught:
        manifest.load_labels(tmp_path / "l.npz", 2)
    assert "l.npz" in str(caught.value)


def test_label_file_of_another_kind(tmp_path: Path) -> None:
    for content in (b"", b"not an archive", b"PK\x03\x04 broken"):
        (tmp_path / "l.npz").write_bytes(content)
        with refused("l.npz", "not an .npz file of plain numbers"):
            manifest.load_labels(tmp_path / "l.npz", 2)
    np.save(tmp_path / "l.npy", TIME)
    with refused("l.npy", "not an .npz file of plain numbers"):
        manifest.load_labels(tmp_path / "l.npy", 2)
