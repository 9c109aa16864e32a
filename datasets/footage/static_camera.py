"""Find the one person who moves in front of a camera that stands still.

A person who walks about leaves the median background empty, so the difference from it is the silhouette.
A person who stays on the spot (balances, exercises, sits) *is* part of that background, and the difference
shows only the limbs that happen to be elsewhere; then the box is where the film changes at all over some
seconds, for which a sway of a fraction of a pixel along every outline is enough.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from mcss_jax.errors import UserError

BACKGROUND_SAMPLES = 101
CANDIDATES = 4  # regions per picture that the tracker chooses from
OUTLINE_RATIO = 1.5  # below: the background has the outlines too, so the person is in it
UNSURE = 0.5  # a person found with less confidence is worth a look
BLOCK_SECONDS = 10.0  # activity of a person on the spot is gathered over this long

Box = Float[np.ndarray, "4"]
Boxes = Float[np.ndarray, "f 4"]
Picture = Float[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class PersonBoxes:
    """Where the person is, as `find_static` estimates it.

    box: one per requested time, pixels of the original frame.
    confidence: 0 to 1, the share of pictures that show a moving region times its share of all that moves
        there.
    method: `silhouette` (the person walks about), `activity` (stays on the spot) or `frame` (nothing moves:
        the whole picture).
    """

    box: Boxes
    confidence: float
    method: str


class _Region(NamedTuple):
    box: Box
    weight: float  # share of the change from the background
    motion: float  # share of the change since the picture before


def find_static(
    film: UInt8[np.ndarray, "n h w"],
    film_times: Float[np.ndarray, " n"],
    times: Float[np.ndarray, " f"],
    scale: tuple[float, float] = (1.0, 1.0),
) -> PersonBoxes:
    """Find the one person who moves in front of a camera that does not.

    Args:
        film: reduced grey pictures (long side about 240 px); may be a memory map, read one picture at a time.
        film_times: their times, seconds, ascending.
        times: when boxes are wanted, seconds.
        scale: original pixels per film pixel, (x, y).

    Returns:
        Boxes that hold the whole person with little to spare; a second person who stands still is left out.

    Raises:
        UserError: the film is empty.
    """
    if len(film) == 0:
        raise UserError("the film holds no picture; at least one was expected to find a person in.")
    height, width = film.shape[1:]
    background = _background(film)
    low, high = _thresholds(film, background)
    regions, outline, crowd = _regions(film, background, low, high)
    chosen = _track(regions, math.hypot(width, height))
    share = [regions[n][i].weight for n, i in enumerate(chosen) if i is not None]
    confidence = (len(share) / len(film)) * float(np.mean(share)) * (1.0 - crowd) if share else 0.0
    has_person = np.array([i is not None for i in chosen])
    boxes, method = np.array([regions[n][i].box for n, i in enumerate(chosen) if i is not None]), "silhouette"
    centres = film_times[has_person]
    moments, areas, shares = _activity(film, film_times)
    if len(areas) and (not share or _misses_body(boxes, areas, outline)):
        centres, boxes, method = moments, areas, "activity"
        confidence = shares * (1.0 - crowd)
    if len(boxes) == 0:
        full = np.array([0.0, 0.0, width * scale[0], height * scale[1]])
        return PersonBoxes(np.tile(full, (len(times), 1)), 0.0, "frame")
    if method == "silhouette":
        boxes = _steady(centres, boxes)
    placed = np.stack([np.interp(times, centres, side) for side in boxes.T], axis=1)
    # One film pixel more on every side: thresholding removes the soft rim of the silhouette.
    placed = np.clip(placed + [-1, -1, 1, 1], 0, [width, height, width, height])
    return PersonBoxes(placed * [*scale, *scale], round(confidence, 4), method)


def _smooth(picture: np.ndarray) -> Picture:
    return ndimage.gaussian_filter(picture.astype(np.float32), 1.0)


def _background(film: UInt8[np.ndarray, "n h w"]) -> Picture:
    rows = np.unique(np.linspace(0, len(film) - 1, BACKGROUND_SAMPLES).round().astype(int))
    return _smooth(np.median(film[rows], axis=0))


def _difference(picture: Picture, background: Picture) -> Picture:
    change = picture - background
    # A camera that adapts its exposure shifts the whole picture; most of the picture is background.
    return np.abs(change - _median(change))


def _median(picture: Picture) -> float:
    """Of every ninth pixel: as good, and a median of them all would be the dearest step."""
    return float(np.median(picture[::3, ::3]))


def _thresholds(film: UInt8[np.ndarray, "n h w"], background: Picture) -> tuple[float, float]:
    """Grey levels: where change may continue, and where it must reach to count. Robust to sensor noise."""
    rows = np.unique(np.linspace(0, len(film) - 1, 15).round().astype(int))
    changes = np.stack([_difference(_smooth(film[n]), background) for n in rows])
    noise = 1.4826 * float(np.median(changes))
    # A soft shadow changes less than the person who throws it.
    strong = float(np.percentile(changes, 99.0))
    return max(5.0 * noise, 5.0, 0.1 * strong), max(10.0 * noise, 14.0, 0.25 * strong)


def _clean(change: Picture, low: float, high: float) -> Bool[np.ndarray, "h w"]:
    """Pixels above `low` in connected pieces that reach `high`, without specks."""
    weak = ndimage.binary_opening(change > low, np.ones((2, 2)))
    labels, count = ndimage.label(weak, np.ones((3, 3)))
    keep = np.zeros(count + 1, bool)
    keep[labels[change > high]] = True
    keep[0] = False
    return keep[labels]


def _pieces(mask: Bool[np.ndarray, "h w"]) -> tuple[np.ndarray, int]:
    """Label a mask; pieces a little apart (a thin prop in front, a low-contrast knee) belong together."""
    reach = max(1, round(0.02 * max(mask.shape)))
    labels, count = ndimage.label(ndimage.maximum_filter(mask, 2 * reach + 1))
    return labels * mask, count


def _hull(weight: Picture) -> Box:
    """Box of a region, without the outermost 0.1 % of its squared change at every side (specks, soft
    shadows).
    """
    weight = weight.astype(np.float64) ** 2
    sides = []
    for axis in (0, 1):
        total = np.cumsum(weight.sum(axis=axis))
        first, last = np.searchsorted(total, [0.001 * total[-1] + 1e-9, 0.999 * total[-1]])
        sides.append((float(first), float(last) + 1.0))
    (x0, x1), (y0, y1) = sides
    return np.array([x0, y0, x1, y1])


def _regions(
    film: UInt8[np.ndarray, "n h w"], background: Picture, low: float, high: float
) -> tuple[list[list[_Region]], float, float]:
    """Per picture its changed regions; the outline ratio of them all; the median share of the picture they
    cover.
    """
    smallest = 0.0008 * background.size
    edges = ndimage.gaussian_gradient_magnitude(background, 1.0)
    outline_now, outline_then, covered = 1e-9, 1e-9, []
    regions: list[list[_Region]] = []
    last = None
    for n, row in enumerate(film):
        picture = _smooth(row)
        change = _difference(picture, background)
        motion = np.zeros_like(change) if last is None else np.maximum(np.abs(picture - last) - low / 2, 0)
        mask = _clean(change, low, high)
        if n % 4 == 0:
            rim = mask & ~ndimage.binary_erosion(mask)
            outline_now += float(ndimage.gaussian_gradient_magnitude(picture, 1.0)[rim].sum())
            outline_then += float(edges[rim].sum())
        covered.append(float(mask.mean()))
        labels, count = _pieces(mask)
        names = np.arange(1, count + 1)
        areas, weights, moved = (
            np.bincount(labels.ravel(), part.ravel(), minlength=count + 1)[1:]
            for part in (mask, change, motion)
        )
        order = [i for i in np.argsort(-(weights + moved)) if areas[i] >= smallest][:CANDIDATES]
        regions.append(
            [
                _Region(
                    _hull(change * (labels == names[i])),
                    float(weights[i] / max(weights.sum(), 1e-9)),
                    float(moved[i] / max(moved.sum(), 1e-9)),
                )
                for i in order
            ]
        )
        last = picture
    return regions, outline_now / outline_then, float(np.median(covered))


def _track(regions: list[list[_Region]], diagonal: float) -> list[int | None]:
    """Which region of every picture is the person: the path of most change and motion with the least jumping.

    Viterbi over the candidates. A ghost (background that a leaving person uncovered) has change but no
    motion.
    """
    best: list[np.ndarray] = []
    back: list[np.ndarray] = []
    rows = [n for n, candidates in enumerate(regions) if candidates]
    for step, n in enumerate(rows):
        worth = np.array([region.weight + region.motion for region in regions[n]])
        if step == 0:
            best.append(worth)
            back.append(np.zeros(len(worth), int))
            continue
        here, there = (np.stack([region.box for region in regions[m]]) for m in (n, rows[step - 1]))
        apart = np.abs(here[:, None] - there[None]).max(-1) / diagonal
        total = best[-1][None] - np.minimum(8.0 * apart, 2.0)
        back.append(total.argmax(1))
        best.append(worth + total.max(1))
    chosen: list[int | None] = [None] * len(regions)
    if rows:
        pick = int(best[-1].argmax())
        for step in range(len(rows) - 1, -1, -1):
            chosen[rows[step]] = pick
            pick = int(back[step][pick])
    return chosen


def _steady(times: Float[np.ndarray, " n"], boxes: Boxes, reach: float = 0.25, width: float = 0.3) -> Boxes:
    """Smooth over time on the safe side: median of five against outliers, hull over +-`reach` s, then an
    average.
    """
    step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    boxes = ndimage.median_filter(boxes, size=(5, 1), mode="nearest")
    span = 2 * round(reach / max(step, 1e-6)) + 1
    low = ndimage.minimum_filter1d(boxes[:, :2], span, axis=0, mode="nearest")
    high = ndimage.maximum_filter1d(boxes[:, 2:], span, axis=0, mode="nearest")
    return ndimage.gaussian_filter1d(
        np.concatenate([low, high], 1), width / max(step, 1e-6) / 2, axis=0, mode="nearest"
    )


def _activity(
    film: UInt8[np.ndarray, "n h w"], times: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " b"], Boxes, float]:
    """Box of the most active region in every half-overlapping block of time; block centres, boxes, mean
    share.
    """
    end = float(times[-1] - times[0])
    starts = np.arange(0.0, max(end - BLOCK_SECONDS / 2, 1e-6), BLOCK_SECONDS / 2)
    moments, boxes, shares = [], [], []
    for start in starts:
        rows = np.flatnonzero((times - times[0] >= start) & (times - times[0] <= start + BLOCK_SECONDS))
        total = np.zeros(film.shape[1:])
        squares = np.zeros(film.shape[1:])
        for row in rows:
            picture = _smooth(film[row]).astype(np.float64)
            picture -= _median(picture)
            total, squares = total + picture, squares + picture**2
        if len(rows) < 2:
            continue
        spread = np.sqrt(np.maximum(squares / len(rows) - (total / len(rows)) ** 2, 0.0))
        noise = float(np.median(spread))
        deviation = 1.4826 * float(np.median(np.abs(spread - noise)))
        mask = _clean(spread, noise + max(6 * deviation, 1.5), noise + max(12 * deviation, 3.0))
        labels, count = _pieces(mask)
        if count == 0:
            continue
        weights = ndimage.sum_labels(spread, labels, np.arange(1, count + 1))
        moments.append(float(times[rows].mean()))
        boxes.append(_hull(spread * (labels == 1 + int(weights.argmax()))))
        shares.append(float(weights.max() / weights.sum()))
    return np.array(moments), np.array(boxes).reshape(-1, 4), float(np.mean(shares)) if shares else 0.0


def _reach(boxes: Boxes) -> float:
    """Median longer side."""
    return float(np.median((boxes[:, 2:] - boxes[:, :2]).max(-1)))


def _misses_body(boxes: Boxes, areas: Float[np.ndarray, "b 4"], outline: float) -> bool:
    """Whether the silhouettes are clearly less than the person, of whom `areas` show more.

    All of them together reach less far than the activity does: only a limb ever leaves the background. Or the
    background has the person's outlines, and a usual picture shows a part. An active region wider than arms
    reach is no person on the spot but a walked path.
    """
    width, height = np.median(areas[:, 2:] - areas[:, :2], axis=0)
    if width > 1.5 * height:
        return False
    union = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])[None]
    part = _reach(union) if outline >= OUTLINE_RATIO else _reach(boxes)
    return part < 0.75 * _reach(areas)
