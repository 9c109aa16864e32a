"""Cross-view retrieval: exact blocked nearest neighbours, Hit@k, mean PA-MPJPE@K, oracle and chance.

Protocol: specs/data_formats.md, section 4.1. A query is one view of an instant; the gallery holds other
views. Which pairs may be retrieved is a rule (`blocked.Rule`); `ViewRule` is the usual one.

`nearest`, `oracle` and `chance` loop over query blocks and are called from outside `jax.jit`; their memory
does not grow with the product of the sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mcss_jax import metrics
from mcss_jax.blocked import AnyArray
from mcss_jax.neighbours import nearest
from mcss_jax.pose_pairs import MATCH_THRESHOLD, GalleryPoses, QueryPoses, chance, oracle, pose_scale
from mcss_jax.skeleton import ROOT

__all__ = [
    "MATCH_THRESHOLD",
    "FrameKeys",
    "Subjects",
    "ViewRule",
    "chance",
    "figures_at_k",
    "hit_at_k",
    "mean_pa_mpjpe_at_k",
    "nearest",
    "normalise_scale",
    "oracle",
    "pose_scale",
    "retrieved_errors",
    "temporal_alignment_error",
]

SAME_INSTANT = (
    1e-3  # seconds: far below the time between two frames, far above the rounding of an hour in float32
)
_PAIRS_AT_ONCE = 1 << 16  # pose pairs whose copies are in memory together

Subjects = Literal["any", "same", "other"]
"""Whose views a query may retrieve: everybody's, those of its own subject, those of the others."""


class FrameKeys(NamedTuple):
    """What `ViewRule` knows of each view.

    Numbers of its sequence, view and subject; seconds since the sequence began.
    """

    sequence: Int[AnyArray, " n"]
    time: Float[AnyArray, " n"]
    view: Int[AnyArray, " n"]
    subject: Int[AnyArray, " n"]


@dataclass(frozen=True)
class ViewRule:
    """Which gallery views a query may retrieve; call it with two `FrameKeys`.

    same_view: pairs seen by the same view. same_instant: the query's own instant. min_gap: other instants of
    the query's sequence must be at least this many seconds away. subjects: whose views.
    """

    same_view: bool = False
    same_instant: bool = True
    min_gap: float = 0.0
    subjects: Subjects = "any"

    def __call__(self, query: FrameKeys, gallery: FrameKeys) -> Bool[Array, "q n"]:
        gap = jnp.abs(query.time[:, None] - gallery.time[None])
        same_sequence = query.sequence[:, None] == gallery.sequence[None]
        instant = same_sequence & (gap < SAME_INSTANT)
        allowed = ~(same_sequence & (gap < self.min_gap)) | instant
        if not self.same_instant:
            allowed &= ~instant
        if not self.same_view:
            allowed &= query.view[:, None] != gallery.view[None]
        if self.subjects != "any":
            allowed &= (query.subject[:, None] == gallery.subject[None]) == (self.subjects == "same")
        return allowed


def normalise_scale(poses: Float[AnyArray, "*b 17 3"]) -> Float[np.ndarray, "*b 17 3"]:
    """Centred at the pelvis and divided by `pose_scale`; a pose of scale 0 is only centred."""
    poses = np.asarray(poses)
    scale = pose_scale(poses)[..., None, None]
    return (poses - poses[..., ROOT : ROOT + 1, :]) / np.where(scale > 0, scale, 1.0)


def retrieved_errors(
    query_poses: QueryPoses, gallery_poses: GalleryPoses, indices: Int[AnyArray, "r k"]
) -> Float[np.ndarray, "r k"]:
    """PA-MPJPE of each retrieved pose brought onto its query, in the query's unit; NaN where the index is -1.

    Raises:
      ValueError: nothing retrieved at all, an index beyond the gallery, a wrong number of rows.
    """
    indices = np.asarray(indices)
    if len(indices) != len(query_poses):
        raise ValueError(
            f"indices has {len(indices)} rows for {len(query_poses)} queries, expected one row each."
        )
    if indices.size and indices.max() >= len(gallery_poses):
        raise ValueError(f"indices names entry {indices.max()} of a gallery of {len(gallery_poses)} poses.")
    row, column = np.nonzero(indices >= 0)
    errors = np.full(indices.shape, np.nan, np.float32)
    if len(row) == 0:
        raise ValueError("Nothing was retrieved for any query; expected at least one index that is not -1.")
    queries, gallery = np.asarray(query_poses), np.asarray(gallery_poses)
    for start in range(0, len(row), _PAIRS_AT_ONCE):
        r, c = row[start : start + _PAIRS_AT_ONCE], column[start : start + _PAIRS_AT_ONCE]
        errors[r, c] = np.asarray(metrics.pa_mpjpe(gallery[indices[r, c]], queries[r]))
    return errors


def figures_at_k(
    errors: Float[np.ndarray, "q k"],
    scale: Float[np.ndarray, " q"],
    ks: Sequence[int],
    threshold: float = MATCH_THRESHOLD,
) -> dict[str, Float[np.ndarray, " q"]]:
    """Of every query, `pa_mpjpe@K` (its list's mean) and `hit@K` (1 or 0) for each K of `ks`, k at most.

    Args:
      errors: of each retrieved pose, nearest first, NaN at the end of shorter lists (`retrieved_errors`).
      scale: of the queries (`pose_scale`), in the unit of `errors`.

    A query without any retrieved pose has NaN throughout: it was not asked.
    """
    there = ~np.isnan(errors)
    asked = there.any(axis=1)
    total = np.cumsum(np.where(there, errors, 0.0), axis=1, dtype=np.float64)
    count = np.maximum(np.cumsum(there, axis=1), 1)
    match = np.logical_or.accumulate(errors <= threshold * scale[:, None], axis=1)

    def at(k: int, values: np.ndarray) -> np.ndarray:
        return np.where(asked, values[:, k - 1], np.nan)

    means = {f"pa_mpjpe@{k}": at(k, total / count) for k in ks}
    return means | {f"hit@{k}": at(k, match.astype(np.float64)) for k in ks}


def mean_pa_mpjpe_at_k(
    query_poses: QueryPoses, gallery_poses: GalleryPoses, indices: Int[AnyArray, "r k"]
) -> float:
    """Mean PA-MPJPE of the K = indices.shape[1] poses retrieved for each query, aligned onto the query's, in
    its unit.

    Entries of -1 are left out; the mean is over each query's list first, then over the queries that have any.

    Raises:
      ValueError: nothing retrieved at all, an index beyond the gallery, a wrong number of rows.
    """
    errors = retrieved_errors(query_poses, gallery_poses, indices).astype(np.float64)
    some = ~np.isnan(errors).all(axis=1)
    return float(np.mean(np.nanmean(errors[some], axis=1)))


def hit_at_k(
    query_poses: QueryPoses,
    gallery_poses: GalleryPoses,
    indices: Int[AnyArray, "r k"],
    threshold: float = MATCH_THRESHOLD,
) -> float:
    """Share of queries with at least one match among their k = indices.shape[1] retrieved poses (Pr-VIPE's
    Hit@k).

    A match: NP-MPJPE, the PA-MPJPE of poses normalised by `normalise_scale`, is at most `threshold`.
    Procrustes takes out the retrieved pose's own scale, so NP-MPJPE is PA-MPJPE divided by the query's
    `pose_scale`. A query without any retrieved pose counts as a miss.

    Raises:
      ValueError: nothing retrieved at all, an index beyond the gallery, a wrong number of rows.
    """
    errors = retrieved_errors(query_poses, gallery_poses, indices)
    return float(np.mean((errors <= threshold * pose_scale(query_poses)[:, None]).any(axis=1)))


def temporal_alignment_error(
    query_times: Float[AnyArray, " q"], gallery_times: Float[AnyArray, " n"], indices: Int[AnyArray, "r k"]
) -> dict[str, float]:
    """|time of the nearest entry - time of the query| in seconds, for footage without poses: its median and
    mean.

    Only the first column of `indices` counts; queries without a retrieved entry (-1) are left out.

    Raises:
      ValueError: nothing retrieved at all.
    """
    first = np.asarray(indices)[:, 0]
    some = first >= 0
    if not some.any():
        raise ValueError("Nothing was retrieved for any query; expected at least one index that is not -1.")
    times = np.asarray(gallery_times, np.float64)[first[some]] - np.asarray(query_times, np.float64)[some]
    return {"median": float(np.median(np.abs(times))), "mean": float(np.mean(np.abs(times)))}
