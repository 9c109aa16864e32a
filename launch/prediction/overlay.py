"""Where a predicted skeleton is drawn over its picture, and pictures with it as a video."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from datasets.footage import boxes, overlay

LONG_SIDE = 1280  # pixels of a written video at most
SLOWEST = Fraction(1, 1001)  # pictures a second of a written video

Picture = UInt8[np.ndarray, "h w 3"]


def place(
    in_camera: Float[np.ndarray, "n 17 3"], square: Float[np.ndarray, "n 4"], margin: float
) -> Float[np.ndarray, "n 17 2"]:
    """Pixels of the joints, by the crop alone: neither where the person is nor how large is predicted.

    The pose (mm, virtual camera) is projected in parallel and placed so that the box about it
    (`boxes.around_joints`) is the person's box: it has the square's centre, and as its longer side the
    square's without `margin`. A pose without extent lies in the centre.
    """
    flat = in_camera[..., :2].astype(float)
    about = boxes.around_joints(flat)
    extent = (about[:, 2:] - about[:, :2]).max(axis=1)
    person = (square[:, 2] - square[:, 0]) / (1 + 2 * margin)
    scale = person / np.where(extent > 0, extent, 1.0)
    centre, middle = ((box[:, :2] + box[:, 2:]) / 2 for box in (about, square))
    return (flat - centre[:, None]) * scale[:, None, None] + middle[:, None]


def drawn(picture: Picture, size: tuple[int, int], joints: Float[np.ndarray, "17 2"] | None) -> Picture:
    """`picture` with the bones over it; `joints` in pixels of the original of `size` (width, height)."""
    image = Image.fromarray(picture)
    if joints is not None:
        overlay.draw_skeleton(image, joints * (np.asarray(image.size) / size), max(2, max(image.size) // 240))
    return np.asarray(image)


class Film:
    """A video that is being written, picture by picture; all have the size of the first."""

    def __init__(self, container: av.container.OutputContainer, rate: float) -> None:
        self._container = container
        self._rate = max(Fraction(rate).limit_denominator(1001), SLOWEST)
        self._stream: av.video.stream.VideoStream | None = None

    def add(self, picture: Picture) -> None:
        """The next picture. A video whose size changes midway is squeezed into its first one."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "21"})
            self._stream.width, self._stream.height = picture.shape[1], picture.shape[0]
            self._stream.pix_fmt = "yuv420p"
        size = (self._stream.width, self._stream.height)
        if picture.shape[1::-1] != size:
            picture = np.asarray(Image.fromarray(picture).resize(size))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


@contextmanager
def film(path: Path, rate: float) -> Iterator[Film]:
    """A video (H.264) of `rate` pictures a second."""
    with av.open(str(path), "w") as container:
        out = Film(container, rate)
        yield out
        out.finish()
