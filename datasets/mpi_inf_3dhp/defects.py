"""What is known to be wrong with the distribution (docs/data_formats.md), and how it is met."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mcss_jax.skeleton import LEFT, MIRROR, RIGHT

EVERY_FRAME = 1 << 40
# The source does not say whether frames count from 0 or 1, nor whether the last is among them.
SLACK = 2
# Of the distance between neighbouring poses, when left and right change places: what is left must be less.
CLEARLY = 0.5


@dataclasses.dataclass(frozen=True)
class Defect:
    """One defect.

    Attributes:
      take: `S6/Seq2`, say; empty: any.
      text: what is wrong, and what is done about it.
      source: who reports it.
      short_by: how many frames the videos may lack at their end.
      cameras: which of them; none: all.
      surplus: how many pictures there are beyond the annotations of a test sequence.
      exchanged: first and last frame of a stretch whose left and right joints are said to be exchanged.
      annotation: the only annotation that it concerns; empty: any.
      stays: whether the records hold it, so that an evaluation should be able to leave them out; of an exchange,
        whether they do is known when the annotation was read.
    """

    take: str
    text: str
    source: str
    short_by: int = 0
    cameras: tuple[int, ...] = ()
    surplus: int = 0
    exchanged: tuple[int, int] | None = None
    annotation: str = ""
    stays: bool = False


DEFECTS = (
    Defect(
        "S3/Seq1",
        "has one annotation more than frames; the last is left out",
        "third-party report",
        short_by=1,
    ),
    Defect(
        "S4/Seq2",
        "left and right are said to be exchanged in frames 3759 to 5852; they are put right where the annotation "
        "shows it at both ends",
        "third-party report, a single one",
        exchanged=(3759, 5852),
        stays=True,
    ),
    Defect(
        "S6/Seq2",
        "video_2.avi is much shorter than the others; camera 2 is left out where it ends",
        "margipose's list of excluded videos",
        short_by=EVERY_FRAME,
        cameras=(2,),
    ),
    Defect("TS3", "has one picture more than annotations; it is left out", "third-party report", surplus=1),
    Defect(
        "TS4", "has two pictures more than annotations; they are left out", "third-party report", surplus=2
    ),
    Defect(
        "TS6",
        "knees and ankles of univ_annot3 are not those of annot3",
        "margipose's preprocessing",
        annotation="univ_annot3",
        stays=True,
    ),
    Defect(
        "",
        "may hold a few frames of a flash, nearly all pixels saturated; nothing is done, they are kept",
        "margipose, which drops frames with more than a third of their pixels saturated",
    ),
)


def of_take(take: str, annotation: str) -> tuple[Defect, ...]:
    """What is known about `take` when that annotation is chosen."""
    return tuple(d for d in DEFECTS if d.take in ("", take) and d.annotation in ("", annotation))


def short_by(defects: tuple[Defect, ...], camera: int, frames: int) -> int:
    """How many of its `frames` frames the video of `camera` may lack."""
    allowed = (d.short_by for d in defects if not d.cameras or camera in d.cameras)
    return min(frames, max(allowed, default=0))


def surplus(defects: tuple[Defect, ...]) -> int:
    """How many pictures a test sequence has beyond its annotations."""
    return max((d.surplus for d in defects), default=0)


def not_confirmed(reported: tuple[int, int]) -> str:
    """What is wrong with a take where left and right are reported to be exchanged and nothing shows it."""
    return (
        f"left and right are said to be exchanged in frames {reported[0]} to {reported[1]}; not confirmed by the "
        "annotation, left as it is"
    )


def exchanged_stretch(pose: Float[np.ndarray, "f 17 3"], reported: tuple[int, int]) -> tuple[int, int] | None:
    """First and last frame of a stretch whose left and right joints are exchanged, if the poses show it.

    People do not change sides between two frames: at each end of the reported stretch, give or take two
    frames, the pose with left and right exchanged must continue its neighbour clearly better than the pose as
    it is. None when either end does not show it, or lies outside `pose`.

    Args:
      pose: of f consecutive frames in one camera, millimetres.
      reported: first and last frame.
    """
    first, after = _change_of_sides(pose, reported[0]), _change_of_sides(pose, reported[1] + 1)
    return None if first is None or after is None or after <= first else (first, after - 1)


def _change_of_sides(pose: Float[np.ndarray, "f 17 3"], near: int) -> int | None:
    """The frame about `near` at which left and right joints change places, if there is one."""
    paired = [*LEFT, *RIGHT]
    ratios = {}
    for frame in range(max(1, near - SLACK), min(len(pose), near + SLACK + 1)):
        before = pose[frame - 1]
        as_is = np.linalg.norm(pose[frame] - before, axis=-1)[paired].mean()
        exchanged = np.linalg.norm(pose[frame, list(MIRROR)] - before, axis=-1)[paired].mean()
        if exchanged < CLEARLY * as_is:
            ratios[frame] = exchanged / as_is
    return min(ratios, key=ratios.__getitem__, default=None)


def put_right(
    pose: Float[np.ndarray, "*v f 17 3"], stretch: tuple[int, int]
) -> Float[np.ndarray, "*v f 17 3"]:
    """`pose` with left and right exchanged from the first to the last frame of `stretch`."""
    frames = slice(stretch[0], stretch[1] + 1)
    result = pose.copy()
    result[..., frames, :, :] = pose[..., frames, list(MIRROR), :]
    return result
