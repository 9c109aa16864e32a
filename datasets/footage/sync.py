"""Time offset between cameras that watched the same person, from when they saw motion, not from what it
looked like.

Motion energy (mean absolute grey-level change per frame) rises and falls at the same instants in every view,
whatever the angle. Its normalised cross-correlation peaks at the offset; a parabola through the peak gives
fractions of a frame.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import ndimage

MAX_RATE = 100.0  # Hz, of the common clock
Curve = tuple[int, np.ndarray]  # first tick of the common clock, values
TREND_SECONDS = 2.0  # slower changes (somebody comes nearer) are not timing


@dataclasses.dataclass(frozen=True)
class Offset:
    """Estimate for one camera against a reference.

    seconds: to be added to the camera's own times so that they agree with the reference's: the `offset` of a
        manifest.
    confidence: 0 to 1, see `offsets`.
    """

    seconds: float
    confidence: float

    def is_clear(self, frame_interval: float) -> bool:
        """Whether the offset is plainly not zero: more than one frame, and trustworthy."""
        return abs(self.seconds) > 1.0 * frame_interval + 1e-6 and self.confidence >= 0.3


def offsets(
    times: Sequence[Float[np.ndarray, " _"]],
    energy: Sequence[Float[np.ndarray, " _"]],
    max_offset: float = 5.0,
) -> list[Offset]:
    """Offset of every camera against the first, within `max_offset` seconds either way (and a quarter of the
    shortest).

    Cameras are placed one after another, the surest first, each where its correlation with all those already
    placed is highest on average; then each once more against all others. So a camera opposite the first one
    is placed by those between. Two curves must overlap by half of the shorter one, and longer overlap counts
    for more.

    The confidence is the correlation at the peak, times its lead over rivals at least a quarter second away
    (a periodic motion has many), less what chance reaches in so short a recording (below some ten seconds:
    nearly everything). The first camera's entry is (0, 1); a camera with fewer than 8 frames, or that sees no
    change of motion, gets (0, 0).
    """
    if not times:
        return []
    intervals = [float(np.median(np.diff(t))) for t in times if len(t) >= 8]
    step = max(1.0 / MAX_RATE, min(intervals, default=1.0))
    shortest = min((float(t[-1] - t[0]) for t in times if len(t) >= 8), default=0.0)
    reach = max(1, int(np.ceil(min(max_offset, shortest / 4) / step)))
    curves = [_curve(t, e, step) for t, e in zip(times, energy, strict=True)]
    placed = {0: 0}
    usable = {c: curve for c, curve in enumerate(curves) if curve is not None and curves[0] is not None}
    placeable = [c for c in usable if c > 0]
    scores = {
        (a, b): _scores(left, right, reach)
        for a, left in usable.items()
        for b, right in usable.items()
        if a != b and b > 0
    }
    scores |= {(c, 0): scores[0, c][::-1] for c in placeable}
    # Twice: the second round lets those placed early be judged by those placed late.
    for others in (lambda c: [b for b in placed if b != c], lambda c: [b for b in (0, *placeable) if b != c]):
        waiting = list(placeable)
        while waiting:
            joint = {c: _joint(scores, c, others(c), placed, reach) for c in waiting}
            best = max(waiting, key=lambda c: float(joint[c].max()))
            placed[best] = int(joint[best].argmax()) - reach
            waiting.remove(best)
    estimated = [Offset(0.0, 1.0)]
    for c in range(1, len(times)):
        if c in placeable:
            curve = _joint(scores, c, [b for b in (0, *placeable) if b != c], placed, reach)
            estimated.append(_read(curve, placed[c] + reach, reach, step, shortest))
        else:
            estimated.append(Offset(0.0, 0.0))
    return estimated


def offset(
    reference_times: Float[np.ndarray, " a"],
    reference_energy: Float[np.ndarray, " a"],
    times: Float[np.ndarray, " b"],
    energy: Float[np.ndarray, " b"],
    max_offset: float = 5.0,
) -> Offset:
    """`offsets` for one camera against one other."""
    return offsets([reference_times, times], [reference_energy, energy], max_offset)[1]


def clear_offsets(
    session: str,
    cameras: Sequence[str],
    estimated: Sequence[Offset],
    applied: Sequence[float],
    frame_interval: float,
) -> list[str]:
    """One sentence, fit for a warning, per camera whose offset is plainly not zero.

    `applied` are offsets (seconds) that the times contain already; the sentence names the sum.
    """
    return [
        f"{session}: camera {camera} seems to start {abs(o.seconds):.3f} s "
        f"{'later' if o.seconds > 0 else 'earlier'} "
        f"against {cameras[0]} than its offset of {already:g} s says (confidence {o.confidence:.2f}); if "
        "that is so, "
        f"set offset = {already + o.seconds:.3f} for it in manifest.toml."
        for camera, o, already in zip(cameras, estimated, applied, strict=True)
        if o.is_clear(frame_interval)
    ]


def _curve(times: Float[np.ndarray, " f"], energy: Float[np.ndarray, " f"], step: float) -> Curve | None:
    """Motion on the common clock, as (first tick, values): compressed, smoothed over 50 ms, without its slow
    trend.

    None when there is too little of it, or it never changes.
    """
    if len(times) < 8:
        return None
    # Energy at a frame is the change since the one before: it belongs between the two, and grows with their
    # distance.
    gaps = np.diff(times)
    middle, speed = (times[1:] + times[:-1]) / 2, energy[1:] / np.maximum(gaps, 1e-6)
    first = int(np.ceil(middle[0] / step))
    clock = np.arange(first, int(middle[-1] / step) + 1) * step
    curve = np.log(np.interp(clock, middle, speed) + 0.05 * float(np.mean(speed)) + 1e-9)
    curve = ndimage.gaussian_filter1d(curve, 0.05 / step)
    curve = curve - ndimage.gaussian_filter1d(curve, TREND_SECONDS / step / 2)
    return (first, curve) if float(np.std(curve)) > 1e-6 else None


def _scores(left: Curve, right: Curve, reach: int) -> Float[np.ndarray, " lags"]:
    """Pearson correlation for every lag -reach..reach added to `right`'s clock, times the root of the
    overlap; -1 where less than half of the shorter curve overlaps."""
    (start_a, a), (start_b, b) = left, right
    shorter = min(len(a), len(b))
    scores = np.full(2 * reach + 1, -1.0)
    for i, lag in enumerate(range(-reach, reach + 1)):
        begin, end = max(start_a, start_b + lag), min(start_a + len(a), start_b + lag + len(b))
        if end - begin < max(4, shorter // 2):
            continue
        x, y = a[begin - start_a : end - start_a], b[begin - lag - start_b : end - lag - start_b]
        x, y = x - x.mean(), y - y.mean()
        scores[i] = x @ y / max(np.sqrt((x @ x) * (y @ y)), 1e-12) * np.sqrt((end - begin) / shorter)
    return scores


def _joint(
    scores: dict[tuple[int, int], np.ndarray],
    camera: int,
    others: Sequence[int],
    placed: dict[int, int],
    reach: int,
) -> Float[np.ndarray, " lags"]:
    """Mean score of `camera` against `others` for every offset of it, the others standing where they are
    placed.

    Pairs that agree nowhere (they look at different limbs) hardly count.
    """
    lags = np.arange(-reach, reach + 1)
    pairs = [scores[b, camera] for b in others]
    moved = [
        np.interp(lags - placed[b], lags, pair, left=-1.0, right=-1.0)
        for b, pair in zip(others, pairs, strict=True)
    ]
    return np.average(moved, axis=0, weights=[max(float(pair.max()), 1e-3) ** 4 for pair in pairs])


def _read(curve: Float[np.ndarray, " lags"], peak: int, reach: int, step: float, shortest: float) -> Offset:
    lags = np.arange(-reach, reach + 1)
    top = float(curve[peak])
    rivals = curve[np.abs(lags - lags[peak]) * step >= 0.25]
    rival = max(float(rivals.max()), 0.0) if len(rivals) else 0.0
    lead = float(np.clip(4.0 * (top - rival) / max(top, 1e-9), 0.0, 1.0))
    # A motion curve says something new about every 0.3 s; this is what the best of some dozens of lags
    # reaches by chance.
    chance = min(3.0 / np.sqrt(max(shortest / 0.3, 1.0)), 0.999)
    seconds = (lags[peak] + _vertex(curve, peak)) * step
    return Offset(float(seconds), lead * float(np.clip((top - chance) / (1.0 - chance), 0.0, 1.0)))


def _vertex(score: np.ndarray, peak: int) -> float:
    """Where between its neighbours the parabola through a peak has its top, in samples, -0.5 to 0.5."""
    if not 0 < peak < len(score) - 1:
        return 0.0
    before, here, after = score[peak - 1 : peak + 2]
    bend = before - 2 * here + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < 0 else 0.0
