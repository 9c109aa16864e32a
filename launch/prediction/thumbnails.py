"""Small pictures for the viewer: every n-th instant, n growing with the length of what is shown."""

import math
import threading

from launch.prediction.frames import Frame, instant_of

MOST = 600  # instants that a page shows
QUALITY = 75


class Thumbnails:
    """JPEG pictures of one camera by the number of their instant, at most twice `MOST` at any time.

    What a page would not show is not made, as far as the expected number of instants is right. A video's true length is
    known only at its end: when too many are kept, every other one goes. Several threads may offer frames: what is shown
    does not depend on their order.
    """

    def __init__(self, interval: float, long_side: int, expected: float = 0) -> None:
        """`interval`: see `nearest_instant`; `long_side`: pixels; `expected`: instants, if it is known."""
        self._interval, self._long_side = interval, long_side
        self._gap: dict[int, tuple[float, int]] = {}
        # The first instant is kept even if it is no n-th one, for a page that has no other.
        self._first = math.inf
        self._lock = threading.Lock()
        self.stride = 1
        while expected > MOST * self.stride:
            self.stride *= 2
        self.kept: dict[int, tuple[int, bytes]] = {}
        """Of every kept instant the frame's index and its picture."""

    def offer(self, frame: Frame) -> None:
        """Keeps a frame's picture if its instant is one of those shown, and no frame nearer to it was there."""
        instant, gap = nearest_instant(frame, self._interval)
        rank = (gap, frame.index)
        if not self._is_wanted(instant, rank):
            return
        jpeg = frame.picture.jpeg(self._long_side, QUALITY)
        with self._lock:
            if self._is_wanted(instant, rank):
                self.kept[instant], self._gap[instant] = (frame.index, jpeg), rank
                self._first = min(self._first, instant)
            if len(self.kept) > 2 * MOST:
                self.stride *= 2
                low = min(self.kept)
                thinned = {n: kept for n, kept in self.kept.items() if n % self.stride == 0}
                self.kept = thinned or {low: self.kept[low]}

    def _is_wanted(self, instant: int, rank: tuple[float, int]) -> bool:
        is_shown = instant % self.stride == 0 or instant <= self._first
        return is_shown and rank < self._gap.get(instant, (math.inf, 0))


def nearest_instant(frame: Frame, interval: float) -> tuple[int, float]:
    """The number of the instant that a frame is nearest to, and how far it is from it.

    In seconds; in pictures where there is no time.
    """
    position = frame.index if math.isnan(frame.time) else frame.time
    instant = instant_of(position, interval)
    return instant, abs(position - instant * interval)
