"""Frames and the squares about the person: every way to have boxes, and files that break off."""

import dataclasses
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.footage import boxes, video
from launch.prediction import frames
from launch.prediction.frames import Frame
from launch.prediction.sources import Camera, open_scene
from tests.datasets import videos

TIMES = np.arange(50) / 25
WALK = np.stack([20 + 60 * TIMES, np.full(50, 60.0)], axis=1)


def read(
    camera: Camera, folder: Path, margin: float = 0.1, every: int = 1
) -> tuple[list[Frame], list[str], int]:
    """Frames, notes, and how many frames the progress bar counted."""
    notes: list[str] = []
    counted: list[int] = []
    interval = every / (camera.rate or 1)
    selected = list(frames.frames(camera, margin, every, interval, notes, counted.append, folder))
    return selected, notes, sum(counted)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.write(tmp_path_factory.mktemp("walk") / "walk.mp4", videos.scene(TIMES, WALK))


def test_the_walker_is_found(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decodings: list[Path] = []
    decoded = video.decoded

    def counted(path: Path, threads: int = 0) -> Iterator:
        decodings.append(path)
        return decoded(path, threads)

    monkeypatch.setattr(video, "decoded", counted)
    camera = dataclasses.replace(open_scene(walk).cameras[0], offset=4.0)
    selected, notes, counted_frames = read(camera, tmp_path, every=2)
    assert (
        decodings == [walk, walk]
        and notes == []
        and counted_frames == 2 * 50 == frames.decodings(camera) * 50
    )
    assert [frame.index for frame in selected] == list(range(0, 50, 2))
    np.testing.assert_allclose([frame.time for frame in selected], 4 + TIMES[::2], atol=1e-6)
    squares = np.stack([frame.square for frame in selected])
    np.testing.assert_allclose((squares[:, 0] + squares[:, 2]) / 2, WALK[::2, 0], atol=12)
    side = squares[:, 2] - squares[:, 0]
    assert (side > 64 * 1.2 - 4).all() and (side < 64 * 1.2 + 24).all()
    assert list(tmp_path.iterdir()) == []


def test_who_does_not_move_is_not_found(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "still.mp4", np.full((20, 48, 64), 90, np.uint8))
    selected, notes, _ = read(open_scene(path).cameras[0], tmp_path)
    assert len(selected) == 20 and all(np.isnan(frame.square).all() for frame in selected)
    assert len(notes) == 1 and "still.mp4: nothing moves, so the person cannot be found" in notes[0]


def test_a_doubtful_person_is_a_note(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames.static_camera, "UNSURE", 1.1)
    _, notes, _ = read(open_scene(walk).cameras[0], tmp_path)
    assert len(notes) == 1 and "the person was not found for sure (confidence" in notes[0]


def test_boxes_are_interpolated_for_a_second(walk: Path, tmp_path: Path) -> None:
    track = boxes.Track(np.array([5, 10]), np.array([[0, 0, 20, 40], [10, 0, 30, 40]], float))
    camera = dataclasses.replace(open_scene(walk).cameras[0], boxes=track)
    selected, notes, counted = read(camera, tmp_path, margin=0.25)
    assert notes == [] and counted == 50
    np.testing.assert_allclose(selected[7].square, [14 - 30, 20 - 30, 14 + 30, 20 + 30])
    assert np.isfinite(selected[35].square).all() and np.isnan(selected[36].square).all()


def test_the_whole_picture_as_it_is_shown(tmp_path: Path) -> None:
    film = np.full((3, 48, 64), 20, np.uint8)
    path = videos.write(tmp_path / "a.mp4", film, rotation=90)
    selected, _, _ = read(open_scene(path, "whole").cameras[0], tmp_path)
    assert selected[0].picture.size == (48, 64) and selected[0].picture.small(100).shape == (64, 48, 3)
    np.testing.assert_array_equal(selected[0].square, [24 - 32, 0, 24 + 32, 64])


def test_a_person_in_a_turned_video_is_found_where_it_is_shown(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", videos.scene(TIMES, WALK), rotation=90)
    selected, _, _ = read(open_scene(path).cameras[0], tmp_path)
    middle = np.stack([(f.square[:2] + f.square[2:]) / 2 for f in selected])
    # Shown 120 wide and 160 high: what went to the right goes up.
    np.testing.assert_allclose(middle[:, 0], 60, atol=8)
    np.testing.assert_allclose(middle[:, 1], 160 - WALK[:, 0], atol=14)


@pytest.mark.parametrize("given", ["static", "whole"])
def test_what_could_be_read_of_a_truncated_video(walk: Path, tmp_path: Path, given: str) -> None:
    path = tmp_path / "cut.mp4"
    videos.write(path, videos.scene(TIMES, WALK), container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    selected, notes, _ = read(open_scene(path, given).cameras[0], tmp_path)
    assert 20 < len(selected) < 45
    assert (
        "truncated" in notes[0]
        and f"What could be read is predicted: up to frame {selected[-1].index}." in notes[0]
    )


def test_a_video_of_which_nothing_can_be_read(walk: Path, tmp_path: Path) -> None:
    camera = open_scene(walk, "whole").cameras[0]
    (tmp_path / "gone.mp4").write_bytes(b"")
    for given in ("whole", "static"):
        gone = dataclasses.replace(camera, files=(tmp_path / "gone.mp4",), boxes=given)
        selected, notes, _ = read(gone, tmp_path)
        assert selected == [] and len(notes) == 1 and "the file is empty" in notes[0]


def test_damaged_frames_are_left_out(walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Damaged:
        is_corrupt = True

    real = list(video.decoded(walk))

    def some(path: Path) -> Iterator:
        return iter([(i, t, Damaged() if i in (3, 4, 7) else frame) for i, t, frame in real])

    monkeypatch.setattr(video, "decoded", some)
    selected, notes, counted = read(open_scene(walk, "whole").cameras[0], tmp_path)
    assert [frame.index for frame in selected] == [
        i for i in range(50) if i not in (3, 4, 7)
    ] and counted == 50
    assert notes[0].endswith("walk.mp4: damaged frames are left out: 3 to 4, 7")


def test_pictures(tmp_path: Path) -> None:
    tall = np.zeros((40, 20, 3), np.uint8)
    tall[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(tall).save(tmp_path / "a.jpg", exif=exif, quality=95)
    Image.fromarray(tall).save(tmp_path / "b.png")
    (tmp_path / "c.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    (tmp_path / "d.png").write_text("hello")
    selected, notes, counted = read(open_scene(tmp_path).cameras[0], tmp_path)
    assert counted == 4 and [frame.index for frame in selected] == [0, 1]
    assert selected[0].picture.size == (40, 20) and selected[0].picture.small(40)[10, 38].min() > 200
    np.testing.assert_array_equal(selected[0].square, [0, -10, 40, 30])
    assert np.isnan(selected[0].time)
    assert [note.split(" (")[0] for note in notes] == [
        f"{tmp_path / name} is not a readable picture" for name in ("c.jpg", "d.png")
    ]
    csv = tmp_path / "mine.csv"
    csv.write_text("file,frame,x0,y0,x1,y1\nb.png,0,5,10,15,30\n")
    selected, _, _ = read(open_scene(tmp_path, str(csv)).cameras[0], tmp_path, margin=0.0)
    assert np.isnan(selected[0].square).all()
    np.testing.assert_array_equal(selected[1].square, [0, 10, 20, 30])
    selected, notes, counted = read(open_scene(tmp_path).cameras[0], tmp_path, every=3)
    assert [frame.index for frame in selected] == [0] and len(notes) == 1 and counted == 4


@pytest.mark.parametrize(
    "box",
    [(-30, 10, -10, 40), (160, 10, 190, 40), (10, -40, 30, -9), (10, 120, 30, 190), (0.1, 0.2, 0.4, 0.9),
     (0, 0, 2000, 9), (0, 0, 1e30, 1e30), (-30, 0, 1, 31), (0, 0, 2, 2), (0, 0, 1280, 9), (-30, 0, 2, 32),
     (158, 118, 169, 129)],
)  # fmt: skip
def test_boxes_that_can_be_nobodys(walk: Path, tmp_path: Path, box: tuple[float, ...]) -> None:
    """Beside the picture of 160 x 120, with less than 2 px of it, or far larger; the last four pass."""
    track = boxes.Track(np.array([3]), np.array([box], float))
    selected, notes, _ = read(
        dataclasses.replace(open_scene(walk).cameras[0], boxes=track), tmp_path, margin=0.0, every=10
    )
    is_somebody = box[3] in (2, 32, 129) or box[2] == 1280
    assert [np.isfinite(frame.square).all() for frame in selected] == [is_somebody] * 3 + [False] * 2
    if is_somebody:
        assert notes == []
        return
    assert len(notes) == 1 and notes[0].startswith(
        "walk: boxes of 3 frames are left out, whose squares lie be"
    )
    assert notes[0].endswith("pixels of the original picture are expected")
    picture = tmp_path / "a.png"
    Image.new("RGB", (160, 120)).save(picture)
    given = boxes.Track(np.array([0]), np.array([box], float))
    (one,), notes, _ = read(Camera("all", (picture,), given, frames=1), tmp_path, margin=0.0)
    assert np.isnan(one.square).all() and notes[0].startswith("all: boxes of 1 picture are left out")


def test_no_given_box_is_too_large_for_the_crop(tmp_path: Path) -> None:
    """Of a large picture a square of eight times its side would be."""
    picture = tmp_path / "a.png"
    Image.new("RGB", (1920, 1080)).save(picture)
    given = boxes.Track(np.array([0]), np.array([[-4000.0, -4000, 5000, 5000]]))
    (one,), notes, _ = read(Camera("all", (picture,), given, frames=1), tmp_path, margin=0.0)
    assert np.isnan(one.square).all() and "or larger than 8 times its longer side or 8,192 px" in notes[0]


def test_calls_are_made_ahead_and_in_order() -> None:
    other = threading.Event()

    def first() -> int:
        assert other.wait(10)
        return 1

    def second() -> int:
        other.set()
        return 2

    assert list(frames.ahead(iter([first, second, partial(int, 3)]), depth=2, threads=2)) == [1, 2, 3]
    done: list[int] = []
    made = frames.ahead((partial(done.append, i) for i in range(100)), depth=3)
    next(made)
    made.close()
    assert done == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="invalid literal"):
        list(frames.ahead(iter([partial(int, "x")]), depth=2))


# -------- frames at instants


def at_instants(times: np.ndarray, interval: float, rate: float = 25.0) -> list[int]:
    decoded = ((index, float(time), None) for index, time in enumerate(times))
    return [index for index, _, _ in frames.at_instants(decoded, interval, rate)]


def nearest_of_all(times: np.ndarray, interval: float, rate: float) -> list[int]:
    """The same by looking at all frames for every instant, and at all instants for the frame that is nearest.

    A frame is given once, to its own instant: the earlier one on a tie.
    """
    nearest, numbers = [], np.arange(-1000, 1000)
    first, last = times[0] - 0.5 / rate, times[-1] + 0.5 / rate
    for instant in numbers:
        at = instant * interval
        if first - 1e-6 <= at <= last + 1e-6:
            index = int(np.argmin(np.round(np.abs(times - at), 6)))
            if numbers[np.argmin(np.round(np.abs(times[index] - numbers * interval), 6))] == instant:
                nearest.append(index)
    return nearest


@pytest.mark.parametrize("every", [2, 3, 4, 7])
def test_one_camera_of_constant_rate_gives_every_nth_frame(every: int) -> None:
    for count in range(1, 30):
        times = np.arange(count) / 29.97
        assert at_instants(times, every / 29.97, 29.97) == list(range(0, count, every))


@pytest.mark.parametrize("offset", [0.02, 0.08, 0.0801, 0.13, -0.05, 3.02])
@pytest.mark.parametrize("rate", [25.0, 30.0, 50.0])
def test_frames_at_instants_against_a_search(offset: float, rate: float) -> None:
    times = offset + np.arange(60) / rate
    chosen = at_instants(times, 0.16, rate)
    assert chosen == nearest_of_all(times, 0.16, rate) and len(chosen) > 5
    away = times[chosen] / 0.16
    assert np.abs(away - np.round(away)).max() * 0.16 <= 0.5 / rate + 1e-6


def test_the_earlier_frame_on_a_tie() -> None:
    # Half a frame late: 0.02 and 0.10 s are as far from 0; 0.14 and 0.18 s from 0.16 s.
    assert at_instants(0.02 + np.arange(10) / 25, 0.16) == [0, 3, 7]


def test_half_an_interval_late_nothing_is_given_for_the_first_instant() -> None:
    assert at_instants(0.08 + np.arange(10) / 25, 0.16) == [2, 6]


def test_frames_of_variable_rate() -> None:
    times = np.array([0.0, 0.04, 0.2, 0.24, 0.6, 0.64, 0.9])
    assert at_instants(times, 0.2) == [0, 2, 4, 6]
    assert at_instants(times, 0.3) == nearest_of_all(times, 0.3, 25.0) == [0, 3, 4, 6]
    assert at_instants(np.zeros(0), 0.3) == []


@pytest.mark.parametrize(
    ("offset", "given"),
    [(0.0, [0, 5, 10]), (0.02, [0, 4, 9]), (0.1, [2, 7, 12]), (-0.06, [1, 6, 11]), (0.2, [0, 5, 10])],
)
def test_views_of_a_moment_belong_together(
    walk: Path, tmp_path: Path, offset: float, given: list[int]
) -> None:
    camera = dataclasses.replace(open_scene(walk, "whole").cameras[0], offset=offset)
    selected, notes, counted = read(camera, tmp_path, every=5)
    assert [frame.index for frame in selected][:3] == given and notes == [] and counted == 50
    assert len(read(camera, tmp_path)[0]) == 50
    times = np.array([frame.time for frame in selected]) / 0.2
    assert np.abs(times - np.round(times)).max() <= 0.1 + 1e-6


def test_a_video_in_which_no_instant_lies(walk: Path, tmp_path: Path) -> None:
    camera = dataclasses.replace(open_scene(walk, "whole").cameras[0], offset=0.5)
    selected, notes, _ = read(camera, tmp_path, every=1000)
    assert selected == [] and len(notes) == 1
    assert "no multiple of 40 s of the scene's clock lies in it; give a smaller --every" in notes[0]


def test_why_a_camera_gives_nothing_is_said_beside_what_the_finder_says(
    walk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames.static_camera, "UNSURE", 1.1)
    camera = dataclasses.replace(open_scene(walk).cameras[0], offset=0.5)
    selected, notes, _ = read(camera, tmp_path, every=1000)
    assert selected == [] and len(notes) == 2
    assert "was not found for sure" in notes[0] and "no multiple of 40 s of the scene's clock" in notes[1]


def test_given_boxes_of_a_long_track() -> None:
    rng = np.random.default_rng(0)
    frame = np.sort(rng.choice(400, 12, replace=False))
    track = boxes.Track(frame, np.cumsum(rng.uniform(1, 9, (12, 4)), axis=1))
    filled = boxes.interpolate(frame / 25.0, track.box, np.arange(420) / 25.0, limit=1.0)
    squares = np.stack([frames.given_square(track, 25.0, 0.1, n, (9, 9)) for n in range(420)])
    np.testing.assert_allclose(squares, boxes.square(filled, 0.1))
    assert np.isnan(squares).any() and np.isfinite(squares).any()
