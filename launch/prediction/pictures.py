"""A picture as `launch.predict` uses it: a crop of it, and small copies; never the whole frame of a video as RGB."""

import dataclasses
from typing import Protocol

import numpy as np
import simplejpeg
from av import VideoFrame
from jaxtyping import Float, UInt8
from PIL import Image

from datasets.footage import video
from mcss_jax.crop import crop_resize

Pixels = UInt8[np.ndarray, "h w 3"]
Square = Float[np.ndarray, "4"]


class Picture(Protocol):
    """What a frame shows, upright."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    def crop(self, square: Square, size: int) -> Pixels:
        """The square (x0, y0, x1, y1; pixels) as `crop_resize` cuts it."""

    def small(self, long_side: int) -> Pixels:
        """The whole picture; its size is `small_size`."""

    def jpeg(self, long_side: int, quality: int) -> bytes:
        """The same as a JPEG file."""


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A frame of a video."""

    frame: VideoFrame

    @property
    def size(self) -> tuple[int, int]:
        return video.shown_size(self.frame)

    def crop(self, square: Square, size: int) -> Pixels:
        return video.crop(self.frame, square, size)

    def small(self, long_side: int) -> Pixels:
        return video.picture(self.frame, self._small_size(long_side))

    def jpeg(self, long_side: int, quality: int) -> bytes:
        return video.jpeg(self.frame, self._small_size(long_side), quality)

    def _small_size(self, long_side: int) -> tuple[int, int]:
        return small_size((self.frame.width, self.frame.height), long_side)


@dataclasses.dataclass(frozen=True)
class Opened:
    """A picture out of a file."""

    pixels: Pixels

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]

    def crop(self, square: Square, size: int) -> Pixels:
        return crop_resize(self.pixels, square, size)

    def small(self, long_side: int) -> Pixels:
        size = small_size(self.size, long_side)
        if size == self.size:
            return self.pixels
        image = Image.fromarray(self.pixels)
        return np.asarray(image.resize(size, Image.Resampling.BOX, reducing_gap=1.0))

    def jpeg(self, long_side: int, quality: int) -> bytes:
        return simplejpeg.encode_jpeg(self.small(long_side), quality, colorsubsampling="420")


def small_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Width and height of a small copy: the longer side at most `long_side`, both even, as video needs them."""
    ratio = min(1.0, long_side / max(size))
    width, height = (max(2, 2 * round(side * ratio / 2)) for side in size)
    return width, height
