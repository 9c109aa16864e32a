"""Pictures as launch.predict uses them: a decoded frame and its RGB picture give the same crop and small copies."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import simplejpeg

from datasets.footage import video
from launch.prediction import frames as predict_frames
from launch.prediction.pictures import Decoded, Opened, small_size
from launch.prediction.sources import open_scene
from mcss_jax.crop import crop_resize, enclosing_square
from tests.datasets import videos

BLOCKS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def blocks(height: int = 96, width: int = 128) -> np.ndarray:
    """A picture of large squares of any colour."""
    return BLOCKS.repeat(height // 6, 0).repeat(width // 8, 1)


def written(path: Path, codec: str, pixels: str, sizes: list[tuple[int, int]]) -> Path:
    """A video of `blocks`, two frames of each size (height, width), in one stream."""
    rate = 25
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = sizes[0]
        stream.pix_fmt = pixels
        encoder, count = stream, 0
        for size in sizes:
            if size != sizes[0]:
                encoder = av.CodecContext.create(codec, "w")
                encoder.height, encoder.width = size
                encoder.pix_fmt, encoder.time_base, encoder.framerate = pixels, Fraction(1, rate), rate
            frames: list[av.VideoFrame | None] = []
            for _ in range(2):
                frame = av.VideoFrame.from_ndarray(blocks(*size), format="rgb24")
                frame.pts, frame.time_base = count, Fraction(1, rate)
                frames.append(frame)
                count += 1
            for frame in [*frames, None]:
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("size", "small"),
    [((401, 201), (100, 50)), ((17, 31), (16, 32)), ((18, 30), (18, 30)), ((5000, 3), (100, 2))],
)
def test_small_sizes_are_even(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert small_size(size, 100) == small
    assert Opened(np.zeros((*size[::-1], 3), np.uint8)).small(100).shape == (*small[::-1], 3)


def test_a_picture_that_is_small_stays_itself() -> None:
    same = np.zeros((30, 18, 3), np.uint8)
    assert Opened(same).small(30) is same


@pytest.mark.parametrize("rotation", [0, 90])
def test_a_frame_gives_what_its_picture_gives(tmp_path: Path, rotation: int) -> None:
    path = videos.write(tmp_path / "a.mp4", blocks()[None], rotation=rotation)
    _, _, frame = next(video.decoded(path))
    ours, wanted = Decoded(frame), Opened(video.picture(frame))
    assert ours.size == wanted.size == ((96, 128) if rotation else (128, 96))
    square = np.array([40.5, 17.25, 110.5, 87.25])
    np.testing.assert_array_equal(ours.crop(square, 24), wanted.crop(square, 24))
    apart = np.abs(ours.small(64).astype(int) - wanted.small(64))  # colours meet at other edges
    assert np.median(apart) <= 2 and apart.mean() < 5
    decoded, right = (simplejpeg.decode_jpeg(picture.jpeg(64, 95)).astype(int) for picture in (ours, wanted))
    assert decoded.shape == right.shape == ((64, 48, 3) if rotation else (48, 64, 3))
    apart = np.abs(decoded - right)
    assert np.median(apart) <= 3 and apart.mean() < 5


@pytest.mark.parametrize(
    ("name", "codec", "pixels"), [("a.mkv", "ffv1", "yuv420p10le"), ("a.mkv", "libx264rgb", "rgb24")]
)
def test_other_pixels(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    path = written(tmp_path / name, codec, pixels, [(96, 128)])
    cut = list(frames_of(path))
    assert len(cut) == 2 and cut[0].picture.frame.format.name not in video.PLANAR
    about = enclosing_square(128, 96)
    wanted = crop_resize(blocks(), about, 32).astype(int)
    assert np.abs(cut[1].picture.crop(cut[1].square, 32) - wanted).mean() < 8
    assert np.abs(cut[1].picture.small(640).astype(int) - blocks()).mean() < 8
    jpeg = simplejpeg.decode_jpeg(cut[1].picture.jpeg(640, 95)).astype(int)
    assert np.abs(jpeg - blocks()).mean() < 8


@pytest.mark.parametrize("given", ["whole", "static"])
def test_a_video_whose_size_changes(tmp_path: Path, given: str) -> None:
    path = written(tmp_path / "a.ts", "libx264", "yuv420p", [(96, 128), (48, 64)])
    cut = list(frames_of(path, given))
    assert [frame.picture.size for frame in cut] == [(128, 96)] * 2 + [(64, 48)] * 2
    if given == "whole":
        wanted = crop_resize(blocks(), enclosing_square(128, 96), 32).astype(int)
        for frame in cut:
            assert np.abs(frame.picture.crop(frame.square, 32) - wanted).mean() < 8


def frames_of(path: Path, given: str = "whole") -> Iterator[predict_frames.Frame]:
    camera = open_scene(path, given).cameras[0]
    notes: list[str] = []
    yield from predict_frames.frames(camera, 0.1, 1, 1 / camera.rate, notes, lambda n: None, path.parent)
    assert all("nothing moves" in note for note in notes)
