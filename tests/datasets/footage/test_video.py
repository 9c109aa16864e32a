"""Decoding: clocks, order, rotation, and what broken files are told."""

import wave
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg

from datasets.footage import video
from mcss_jax.crop import crop_resize
from mcss_jax.errors import UserError
from tests.datasets import videos
from tests.refusals import refused


def ramp(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame n is grey 10 + 5 n: order is read off the pixels."""
    return np.broadcast_to((10 + 5 * np.arange(count, dtype=np.uint8))[:, None, None], (count, height, width))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "mpeg4", {}),
        ("a.mkv", "libx264", {"bf": "3"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ],
)
def test_frames_come_in_order_from_time_zero(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = videos.write(tmp_path / name, ramp(30), 25, codec, options=options, sound=name == "a.mp4")
    info = video.probe(path)
    assert (info.width, info.height, info.rotation) == (64, 48, 0)
    assert info.frame_rate == pytest.approx(25) and info.duration == pytest.approx(1.2, abs=0.05)
    times, levels = zip(*((time, float(picture.mean())) for time, picture in video.frames(path)), strict=True)
    np.testing.assert_allclose(times, np.arange(30) / 25, atol=2e-3)
    np.testing.assert_allclose(levels, 10 + 5 * np.arange(30), atol=3)


def test_only_kept_frames_are_yielded_reduced_and_grey(tmp_path: Path) -> None:
    path = videos.write(tmp_path / "a.mp4", ramp(12))
    kept = list(video.frames(path, keep=lambda index, time: index in (3, 7), size=(16, 12), grey=True))
    assert [round(time * 25) for time, _ in kept] == [3, 7]
    assert kept[0][1].shape == (12, 16) and kept[0][1].dtype == np.uint8
    np.testing.assert_allclose([picture.mean() for _, picture in kept], [25, 45], atol=3)


def test_colour_is_rgb(tmp_path: Path) -> None:
    film = np.zeros((4, 48, 64, 3), np.uint8)
    film[..., 0] = 220
    _, picture = next(video.frames(videos.write(tmp_path / "a.mp4", film)))
    assert picture.shape == (48, 64, 3)
    assert picture[..., 0].mean() > 180 and picture[..., 1:].mean() < 40


def test_variable_frame_rate_keeps_its_clock(tmp_path: Path) -> None:
    stamps = [0.0, 0.04, 0.2, 0.24, 0.6, 0.64]
    path = videos.write(tmp_path / "a.mkv", ramp(6), 25, "libx264", stamps=stamps)
    np.testing.assert_allclose([time for time, _ in video.frames(path)], stamps, atol=2e-3)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_recorded_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    film = np.full((6, 48, 64), 20, np.uint8)
    film[:, :16, :16] = 230  # top left as coded
    path = videos.write(tmp_path / "a.mp4", film, rotation=rotation)
    info = video.probe(path)
    assert abs(info.rotation) == abs(rotation) and (info.rotation - rotation) % 360 == 0
    assert (info.width, info.height) == ((64, 48) if rotation == 180 else (48, 64))
    _, picture = next(video.frames(path))
    assert picture.shape == (info.height, info.width, 3)
    # Counter-clockwise: a quarter turn brings the top left to the bottom left.
    corner = {90: (-8, 8), -90: (8, -8), 180: (-8, -8)}[rotation]
    assert picture[corner].mean() > 180
    look = video.survey(path)
    assert look.film.shape == (6, info.height, info.width)


def test_survey_thins_the_film_but_not_the_clock(tmp_path: Path) -> None:
    times = np.arange(50) / 25
    film = videos.scene(times, np.stack([20 + 40 * times, np.full(50, 60.0)], 1), size=(320, 128))
    seen: list[int] = []
    look = video.survey(videos.write(tmp_path / "a.mp4", film), film_rate=5.0, least=4, progress=seen.append)
    assert len(look.times) == len(look.energy) == sum(seen) == 50
    np.testing.assert_array_equal(look.film_index, np.arange(0, 50, 5))
    assert look.film.shape == (10, 96, 240) and look.scale == (320 / 240, 128 / 96)
    assert look.energy[0] == look.energy[1] > 0


@pytest.mark.parametrize(("tick", "index"), [(-1.0, 0), (0.14, 0), (0.15, 0), (0.16, 1), (0.9, 2), (9.0, 2)])
def test_nearest_takes_the_earlier_on_a_tie(tick: float, index: int) -> None:
    assert video.nearest_frames(np.array([0.1, 0.2, 0.9]), np.array([tick]))[0] == index


def test_nearest_of_one_frame() -> None:
    np.testing.assert_array_equal(video.nearest_frames(np.array([0.5]), np.array([0.0, 0.5, 2.0])), 0)


def test_missing_empty_and_foreign_files(tmp_path: Path) -> None:
    with refused("none.mp4", "no such file"):
        video.probe(tmp_path / "none.mp4")
    with refused("is not a file"):
        video.probe(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with refused("empty.mp4", "empty"):
        video.probe(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("these are notes, not a video\n" * 50)
    with refused("text.mp4", "not a readable video"):
        video.probe(tmp_path / "text.mp4")
    with wave.open(str(tmp_path / "voice.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with refused("voice.wav", "no video", "audio"):
        video.probe(tmp_path / "voice.wav")


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.mp4", "mpeg4")])
def test_truncated_file_is_refused(tmp_path: Path, name: str, codec: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64), np.uint8)
    path = videos.write(tmp_path / name, noise, codec=codec, options={"g": "5"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=r"a\.\w+: .*(truncated|damaged)"):
        list(video.frames(path))


def test_truncated_file_with_its_index_in_front(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64), np.uint8)
    path = tmp_path / "a.mp4"
    videos.write(path, noise, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video.probe(path)
    with refused("truncated"):
        list(video.frames(path))


def test_file_cut_before_its_first_picture(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (50, 48, 64), np.uint8)
    path = videos.write(tmp_path / "a.mp4", noise, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 8])
    with refused("no picture"):
        video.probe(path)


# -------- parts of frames


def noisy(width: int, height: int, pixels: str = "yuv420p", colours: int = 2) -> av.VideoFrame:
    """A frame of random samples."""
    frame = av.VideoFrame(width, height, pixels)
    rng = np.random.default_rng(width)
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8)
        rows[:] = rng.integers(0, 256, rows.shape)
    frame.colorspace = colours
    return frame


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("width", "height", "pixels", "colours"),
    [
        (98, 66, "yuv420p", 2),
        (98, 66, "yuv420p", 1),
        (70, 50, "yuvj420p", 2),
        (97, 66, "yuv420p", 2),
        (98, 65, "yuv420p", 2),
        (64, 48, "yuv444p", 2),
        (64, 48, "rgb24", 2),
    ],
)
def test_a_crop_is_that_of_the_whole_picture(
    width: int, height: int, pixels: str, colours: int, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = noisy(width, height, pixels, colours)
    monkeypatch.setattr(video, "quarter_turns", lambda rotation: turns)  # PyAV writes none into a frame
    whole = np.rot90(frame.reformat(format="rgb24", interpolation="AREA").to_ndarray(), turns)
    np.testing.assert_array_equal(video.picture(frame), whole)
    wide, high = whole.shape[1], whole.shape[0]
    assert video.shown_size(frame) == (wide, high)
    rng = np.random.default_rng(0)
    corners = rng.uniform([-30, -30], [wide, high], (12, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(3, 80, (12, 1))], axis=1)
    odd = np.array([[7.0, 11, 20, 24], [0, 0, wide, high], [-50, -50, -10, -10], [wide, 3, wide + 9, 12]])
    for box in np.concatenate([boxes, odd]):
        np.testing.assert_array_equal(video.crop(frame, box, 16), crop_resize(whole, box, 16))
    with refused("has no area"):
        video.crop(frame, np.full(4, np.nan), 16)


def test_only_the_part_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    convert = video.recorded_pixels

    def recorded(frame: av.VideoFrame) -> np.ndarray:
        sizes.append((frame.width, frame.height))
        return convert(frame)

    monkeypatch.setattr(video, "recorded_pixels", recorded)
    video.crop(noisy(640, 480), np.array([101.5, 50, 133.5, 82]), 16)
    assert sizes == [(34, 32)]


@pytest.mark.parametrize("colours", ["ITU601", "ITU709"])
@pytest.mark.parametrize("levels", ["MPEG", "JPEG"])
def test_a_jpeg_has_the_colours_of_the_picture(colours: str, levels: str) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    frame = av.VideoFrame.from_ndarray(blocks, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=colours, dst_color_range=levels
    )
    wanted = video.picture(frame)[20::40, 20::40].astype(int)
    decoded = simplejpeg.decode_jpeg(video.jpeg(frame, (80, 60), 95))
    assert decoded.shape == (60, 80, 3)
    # Another matrix, or levels taken for the other kind, are off by 20 and more.
    np.testing.assert_allclose(decoded[10::20, 10::20], wanted, atol=8)
