"""Small synthetic recordings for the tests: a textured person-like blob before a noisy, textured wall."""

import functools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from datasets.footage import video

SPEED_SEED = 7


def irregular(times: np.ndarray, seed: int = SPEED_SEED) -> np.ndarray:
    """A wandering quantity between about -1 and 1 whose speed rises and falls irregularly, the same at every
    rate.
    """
    rng = np.random.default_rng(seed)
    knots = np.arange(-20.0, 60.0, 0.4)
    return np.interp(times, knots, rng.uniform(-1, 1, len(knots)))


def scene(
    times: np.ndarray,
    centre: np.ndarray,
    size: tuple[int, int] = (160, 120),
    body: tuple[int, int] = (22, 64),
    noise: float = 2.0,
    seed: int = 0,
    plain: bool = False,
) -> np.ndarray:
    """uint8[f, h, w]: the blob's middle is at `centre` [f, 2] (x, y), its box is body[0] x body[1]."""
    rng = np.random.default_rng(seed)
    width, height = size
    wall = rng.integers(90, 150, (height // 8 + 1, width // 8 + 1)).repeat(8, 0).repeat(8, 1)[:height, :width]
    y, x = np.mgrid[:height, :width]
    film = np.empty((len(times), height, width), np.uint8)
    for n, (cx, cy) in enumerate(centre):
        u, v = (x + 0.5 - cx) / (body[0] / 2), (y + 0.5 - cy) / (body[1] / 2)
        # Soft edges: a sway of a fraction of a pixel must show, as it does on film.
        cover = np.clip(0.5 + (1 - np.hypot(u, v)) * min(body) / 2, 0, 1)
        cloth = 35 if plain else np.where((np.floor(3 * v) + np.floor(2 * u)) % 2 == 0, 20, 50)
        picture = wall + cover * (cloth - wall) + rng.normal(0, noise, (height, width))
        film[n] = np.clip(picture, 0, 255)
    return film


def write(
    path: Path,
    film: np.ndarray,
    rate: int = 25,
    codec: str = "mpeg4",
    stamps: Sequence[float] | None = None,
    sound: bool = False,
    rotation: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a film uint8[f, h, w] or [f, h, w, 3] as a video; `stamps` (seconds) make its frame rate vary."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = film.shape[2], film.shape[1]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            voice = container.add_stream("aac", rate=16000)
            hum = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            hum.sample_rate, hum.pts = 16000, 0
            container.mux(voice.encode(hum))
            container.mux(voice.encode(None))
        for n, picture in enumerate(film):
            colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(colour), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = round(stamps[n] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@functools.cache
def survey(path: Path) -> video.Survey:
    """`video.survey` of a real file, once for all tests of a process."""
    return video.survey(path)
