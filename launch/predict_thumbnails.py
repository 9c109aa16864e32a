"""Small pictures for the viewer: every n-th instant, n growing with the length of what is shown."""

import math
import threading

import numpy as np
import simplejpeg
from jaxtyping import UInt8

from launch.predict_frames import Frame, instant_of
from launch.predict_overlay import shrunk

MOST = 600  # instants that a page shows
QUALITY = 75


class Thumbnails:
    """JPEG pictures of one camera by the number of their instant, at most twice `MOST` at any time.

    The length of a video is known only at its end: when too many are kept, every other one goes. Several threads may
    offer frames: what is kept does not depend on their order.
    """

    def __init__(self, interval: float, long_side: int) -> None:
        """`interval`: from one instant to the next, see `nearest_instant`; `long_side`: pixels."""
        self._interval, self._long_side = interval, long_side
        self._gap: dict[int, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self.stride = 1
        self.kept: dict[int, tuple[int, bytes]] = {}
        """Of every kept instant the frame's index and its picture."""

    def offer(self, frame: Frame, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """Keeps a frame's picture if its instant is one of those shown, and no frame nearer to it was there."""
        instant, gap = nearest_instant(frame, self._interval)
        rank = (gap, frame.index)
        if not self._is_wanted(instant, rank):
            return
        small = shrunk(picture, self._long_side)
        jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=QUALITY, colorsubsampling="420")
        with self._lock:
            if self._is_wanted(instant, rank):
                self.kept[instant], self._gap[instant] = (frame.index, jpeg), rank
            if len(self.kept) > 2 * MOST:
                self.stride *= 2
                self.kept = {n: kept for n, kept in self.kept.items() if n % self.stride == 0}

    def _is_wanted(self, instant: int, rank: tuple[float, int]) -> bool:
        return instant % self.stride == 0 and rank < self._gap.get(instant, (math.inf, 0))


def nearest_instant(frame: Frame, interval: float) -> tuple[int, float]:
    """The number of the instant that a frame is nearest to, and how far it is from it.

    In seconds; in pictures where there is no time.
    """
    position = frame.index if math.isnan(frame.time) else frame.time
    instant = instant_of(position, interval)
    return instant, abs(position - instant * interval)
