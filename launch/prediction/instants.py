"""Several views of one instant as one: fused pose and embedding, and how far the views disagree."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from launch.prediction.camera_views import Views
from launch.prediction.frames import instant_of


@dataclasses.dataclass(frozen=True)
class Instants:
    """t instants that at least one of v cameras saw.

    Attributes:
      number: on the scene's clock, in units of the interval; `time` in seconds.
      row: of each camera's views, the one of the instant; -1 where there is none.
      canonical: mean over the views of the poses in the body's own frame, mm.
      embedding: mean over the views, scaled to length one.
      spread: mean distance of the views' joints from those of `canonical`, mm; NaN for a single view. All views are
        predicted in the body's own frame, so nothing is aligned first: a body frame that is seen differently counts.
    """

    number: Int[np.ndarray, " t"]
    time: Float[np.ndarray, " t"]
    row: Int[np.ndarray, "t v"]
    canonical: Float[np.ndarray, "t 17 3"]
    embedding: Float[np.ndarray, "t d"]
    spread: Float[np.ndarray, " t"]

    def __len__(self) -> int:
        return len(self.time)


def fuse(views: Sequence[Views], interval: float) -> Instants:
    """Instants `interval` seconds apart; each camera gives the frame nearest to one, within half an interval."""
    nearest = [nearest_rows(of_camera.time, interval) for of_camera in views]
    numbers = np.array(sorted(set().union(*nearest)), np.int64)
    row = np.array([[rows.get(n, -1) for rows in nearest] for n in numbers.tolist()], np.int64)
    present = row >= 0
    canonical = np.stack([v.out.canonical[row[:, c]] for c, v in enumerate(views)], axis=1)
    embedding = np.stack([v.out.embedding[row[:, c]] for c, v in enumerate(views)], axis=1)
    count = present.sum(axis=1)
    mean = np.where(present[..., None, None], canonical, 0).sum(axis=1) / count[:, None, None]
    distance = np.linalg.norm(canonical - mean[:, None], axis=-1).mean(axis=-1)
    spread = np.where(present, distance, 0).sum(axis=1) / count
    return Instants(
        number=numbers,
        time=numbers * interval,
        row=row,
        canonical=mean.astype(np.float32),
        embedding=_unit(np.where(present[..., None], embedding, 0).sum(axis=1)),
        spread=np.where(count > 1, spread, np.nan),
    )


def nearest_rows(times: Float[np.ndarray, " n"], interval: float) -> dict[int, int]:
    """Of every instant the row whose time is nearest to it; the earlier one on a tie."""
    nearest: dict[int, tuple[float, int]] = {}
    for row, time in enumerate(times.tolist()):
        instant = instant_of(time, interval)
        gap = abs(time - instant * interval)
        if gap < nearest.get(instant, (math.inf, -1))[0]:
            nearest[instant] = (gap, row)
    return {instant: row for instant, (_, row) in nearest.items()}


def _unit(x: Float[np.ndarray, "t d"]) -> Float[np.ndarray, "t d"]:
    """Rows of length one; views that cancel each other out leave zero."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1)).astype(np.float32)
