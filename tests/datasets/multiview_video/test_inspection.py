"""The look through a source: clocks that line up, overlap, boxes from files, warnings, refusals."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from datasets.multiview_video.inspection import inspect
from tests.datasets import videos
from tests.refusals import refused


def session(folder: Path, *cameras: tuple[str, int, float, float]) -> Path:
    """Cameras as (file name, frame rate, start on the common clock, seconds); all see the same walk."""
    folder.mkdir(exist_ok=True)
    for name, rate, start, seconds in cameras:
        times = start + np.arange(round(seconds * rate)) / rate
        centre = np.stack([48 + 30 * videos.irregular(times / 2), np.full(len(times), 36.0)], 1)
        videos.write(folder / name, videos.scene(times, centre, (96, 72), (14, 40)), rate)
    return folder


def test_files_of_different_rate_line_up(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0.0, 2.0), ("b.mp4", 30, 0.0, 2.0))
    (report,) = inspect(source, fps=10.0, progress=False)
    assert report.fps == 10.0 and report.labels is None and report.warnings == ()
    times = np.stack([camera.times[row] for camera, row in zip(report.cameras, report.frame, strict=True)])
    np.testing.assert_allclose(times, np.tile(report.ticks, (2, 1)), atol=0.5 / 25 + 1e-6)
    assert report.valid.all() and len(report.ticks) == 20
    np.testing.assert_array_equal(report.frame[1][:4], [0, 3, 6, 9])
    assert "2 cameras, 20 instants at 10 per second" in str(report) and "estimated offset" in str(report)


def test_native_rate_is_the_slowest_camera(tmp_path: Path) -> None:
    (report,) = inspect(
        session(tmp_path / "s", ("a.mp4", 25, 0, 1.2), ("b.mp4", 50, 0, 1.2)), fps="native", progress=False
    )
    assert report.fps == 25.0
    np.testing.assert_array_equal(report.frame[0], np.arange(30))
    np.testing.assert_array_equal(report.frame[1], 2 * np.arange(30))


def test_too_fast_a_clock_is_slowed_with_a_warning(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 1.2), ("b.mp4", 25, 0, 1.2))
    with pytest.warns(
        UserWarning, match="60 tuples per second were asked for, but a has 25 frames per second"
    ):
        (report,) = inspect(source, fps=60.0, progress=False)
    assert report.fps == 25.0


def test_different_lengths_use_the_overlap_and_say_so_once(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 2.0), ("b.mp4", 25, 0, 1.2), ("c.mp4", 25, 0, 1.6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (report,) = inspect(source, fps=25.0, progress=False)
    (said,) = [str(w.message) for w in caught if "differ in length" in str(w.message)]
    assert "(a 1.96 s, b 1.16 s, c 1.56 s); the 1.16 s that all of them saw are used" in said
    assert len(report.ticks) == 30 and said in report.warnings


MANIFEST = """
[[session]]
name = "s"
[[session.camera]]
file = "a.mp4"
[[session.camera]]
file = "b.mp4"
offset = {offset}
"""


def test_offset_is_estimated_named_and_then_satisfied(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0.0, 12.0), ("b.mp4", 25, 0.6, 12.0))
    rows = [f"{camera},{frame},9,9,80,60" for camera in "ab" for frame in range(0, 300, 25)]
    (source / "boxes.csv").write_text("\n".join(["camera,frame,x0,y0,x1,y1", *rows]))  # spares the finder
    with pytest.warns(
        UserWarning, match=r"s: camera b seems to start 0\.[56]\d+ s later against a"
    ) as caught:
        (report,) = inspect(source, progress=False)
    assert len(caught) == 1
    assert report.cameras[1].offset.seconds == pytest.approx(0.6, abs=0.04)
    given = MANIFEST.format(offset=0.6).replace('name = "s"', 'name = "s"\nboxes = "boxes.csv"')
    (source / "manifest.toml").write_text(given)
    with pytest.warns(UserWarning, match="differ in length") as caught:
        (report,) = inspect(source, progress=False)
    assert len(caught) == 1 and abs(report.cameras[1].offset.seconds) < 0.04
    assert report.ticks[0] == pytest.approx(0.6)
    assert "beyond the given +0.600 s" in str(report)


def test_cameras_that_share_no_moment(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0.0, 0.6), ("b.mp4", 25, 0.0, 0.6))
    (source / "manifest.toml").write_text(MANIFEST.format(offset=5))
    with refused("s:", "a 0.00 to 0.56 s, b 5.00 to 5.56 s"):
        inspect(source, progress=False)


def test_given_boxes_are_used_and_absent_ones_invalidate_the_view(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 3.0), ("b.mp4", 25, 0, 3.0))
    (source / "boxes.csv").write_text("file,frame,x0,y0,x1,y1\na.mp4,0,0,0,10,20\na.mp4,10,10,0,20,20\n")
    (report,) = inspect(source, fps=25.0, progress=False)
    assert [camera.box_source for camera in report.cameras] == ["csv", "static"]
    np.testing.assert_allclose(report.cameras[0].box[5], [5, 0, 15, 20])
    np.testing.assert_array_equal(
        np.flatnonzero(~report.valid[0]), np.arange(36, 75)
    )  # over 1 s from frame 10
    assert report.valid[1].all()


def test_boxes_of_one_camera_in_a_manifest(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 1.0), ("b.mp4", 25, 0, 1.0))
    (source / "a.csv").write_text("1,1,2,3,30,40,1\n")
    text = MANIFEST.format(offset=0).replace('file = "a.mp4"', 'file = "a.mp4"\nboxes = "a.csv"')
    (source / "manifest.toml").write_text(text)
    (report,) = inspect(source, progress=False)
    np.testing.assert_array_equal(report.cameras[0].box[-1], [2, 3, 32, 43])
    (source / "a.csv").write_text("camera,frame,x0,y0,x1,y1\nb,0,0,0,10,20\n")
    with refused("a.csv", "['b']", "camera a"):
        inspect(source, progress=False)


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("door,0,0,0,1,1", ("camera 'door'", "session s", "a, b")),
        ("a,25,0,0,1,1", ("frames 0 to 24", "frames 25 to 25")),
    ],
)
def test_boxes_that_do_not_fit_the_session(tmp_path: Path, row: str, facts: tuple[str, ...]) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 1.0), ("b.mp4", 25, 0, 1.0))
    (source / "boxes.csv").write_text("camera,frame,x0,y0,x1,y1\n" + row + "\n")
    with refused(*facts):
        inspect(source, progress=False)


def test_nobody_in_the_picture_is_warned_of(tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 1.0))
    videos.write(source / "b.mp4", videos.scene(np.arange(25), np.full((25, 2), -500.0), (96, 72)))
    with pytest.warns(
        UserWarning, match=r"b\.mp4: the person was not found for sure .*the whole picture is used"
    ):
        (report,) = inspect(source, progress=False)
    assert report.cameras[1].box_source == "frame"


@pytest.mark.parametrize("fps", [0.0, -1.0, float("nan"), float("inf"), "often"])
def test_wrong_fps(fps: float | str) -> None:
    with refused("fps", "'native'"):
        inspect("anywhere", fps=fps)
