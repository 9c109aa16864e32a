"""Pairs of views to compare embeddings on: at random across cameras, and along one sequence seen by two cameras."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from launch.evaluation.inference import Views
from mcss_jax import metrics

PAIRS = 600  # of different instants, and as many of one instant
SHORTEST = 3  # instants of a sequence that is worth a line


@dataclasses.dataclass(frozen=True)
class Pairs:
    """n pairs of views of different cameras: their indices, and whether they are of one instant."""

    a: Int[np.ndarray, " n"]
    b: Int[np.ndarray, " n"]
    same: Bool[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Strip:
    """An instant of one camera and all instants of another of the same sequence, n of them in order of time.

    `asked` is the index of the first, `views` those of the others.
    """

    asked: int
    views: Int[np.ndarray, " n"]


def sample(views: Views, count: int = PAIRS, seed: int = 0) -> Pairs:
    """At most `count` pairs of different instants, and one pair of each of at most `count` instants, at random."""
    rng = np.random.default_rng(seed)
    order = np.argsort(views.record, kind="stable")
    _, first, cameras = np.unique(views.record[order], return_index=True, return_counts=True)
    chosen = np.sort(rng.permutation(np.flatnonzero(cameras > 1))[:count])
    first, cameras = first[chosen], cameras[chosen]
    first_camera = rng.integers(0, cameras)
    second_camera = (first_camera + rng.integers(1, cameras)) % cameras
    a, b = rng.integers(0, len(views), (2, 4 * count))
    apart = np.flatnonzero((views.record[a] != views.record[b]) & (views.camera[a] != views.camera[b]))[
        :count
    ]
    return Pairs(
        np.concatenate([order[first + first_camera], a[apart]]),
        np.concatenate([order[first + second_camera], b[apart]]),
        np.arange(len(chosen) + len(apart)) < len(chosen),
    )


def longest(views: Views) -> Strip | None:
    """The middle instant of the longest sequence in its first camera, and the sequence in its second camera.

    None where no sequence has two cameras that share `SHORTEST` instants.
    """
    best: Strip | None = None
    for sequence in np.unique(views.sequence):
        inside = np.flatnonzero(views.sequence == sequence)
        cameras = np.unique(views.camera[inside])[:2]
        if len(cameras) < 2:
            continue
        first, second = (inside[views.camera[inside] == camera] for camera in cameras)
        shared = np.intersect1d(views.record[first], views.record[second])
        if len(shared) >= SHORTEST and (best is None or len(shared) > len(best.views)):
            asked = first[views.record[first] == shared[len(shared) // 2]]
            others = second[np.isin(views.record[second], shared)]
            best = Strip(int(asked[0]), others[np.argsort(views.time[others], kind="stable")])
    return best


def pose_gaps(views: Views, a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """PA-MPJPE between the true poses of pairs of views, millimetres."""
    return np.asarray(metrics.pa_mpjpe(views.true_canonical[a], views.true_canonical[b]))


def embedding_gaps(
    views: Views, a: Int[np.ndarray, " n"], b: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Euclidean distance between the embeddings of pairs of views."""
    return np.asarray(np.linalg.norm(views.embedding[a] - views.embedding[b], axis=1))
