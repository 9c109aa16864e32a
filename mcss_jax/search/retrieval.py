"""Cross-view retrieval: exact blocked nearest neighbours, Hit@k, mean PA-MPJPE@K, oracle and chance.

Protocol: docs/data_formats.md#retrieval-protocols. A query is one view of an instant; the gallery holds other
views. Which pairs may be retrieved is a rule (`blocked.Rule`); `ViewRule` is the usual one.

`nearest`, `oracle` and `allowed_counts` loop over query blocks and are called from outside `jax.jit`; their memory
does not grow with the product of the sizes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int32

from mcss_jax import metrics
from mcss_jax.mining import TIME_TOLERANCE
from mcss_jax.search import blocked
from mcss_jax.search.blocked import AnyArray, Rule
from mcss_jax.search.neighbours import nearest
from mcss_jax.search.pose_pairs import (
    MATCH_THRESHOLD,
    Candidates,
    GalleryPoses,
    QueryPoses,
    chance,
    oracle,
    oracle_and_candidates,
    pose_scale,
)

__all__ = [
    "MATCH_THRESHOLD",
    "Candidates",
    "FrameKeys",
    "Subjects",
    "ViewRule",
    "allowed_counts",
    "chance",
    "figures_at_k",
    "hit_at_k",
    "mean_pa_mpjpe_at_k",
    "nearest",
    "oracle",
    "oracle_and_candidates",
    "pose_scale",
    "retrieved_errors",
    "temporal_alignment_error",
]

COUNT_BLOCK = 2048  # queries, and gallery entries, whose pairs are counted together
PAIR_BLOCK = 1 << 16  # retrieved pairs whose poses are in memory together

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
        instant = same_sequence & (gap < TIME_TOLERANCE)
        allowed = ~(same_sequence & (gap < self.min_gap - TIME_TOLERANCE)) | instant
        if not self.same_instant:
            allowed &= ~instant
        if not self.same_view:
            allowed &= query.view[:, None] != gallery.view[None]
        if self.subjects != "any":
            allowed &= (query.subject[:, None] == gallery.subject[None]) == (self.subjects == "same")
        return allowed


@partial(jax.jit, static_argnames=("allowed",))
def _count_block(
    query_keys: Any, gallery_keys: Any, count: Int32[Array, ""] | int, allowed: Rule
) -> Int[Array, " q"]:
    def scan(total: Any, block: Any) -> tuple[Any, None]:
        keys, is_entry = block
        return total + jnp.sum(allowed(query_keys, keys) & is_entry[None], axis=1), None

    blocks, size = jax.tree.leaves(gallery_keys)[0].shape[:2]
    is_entry = (jnp.arange(blocks * size) < count).reshape(blocks, size)
    zeros = jnp.zeros(len(jax.tree.leaves(query_keys)[0]), jnp.int32)
    return jax.lax.scan(scan, zeros, (gallery_keys, is_entry))[0]


def allowed_counts(allowed: Rule, query_keys: Any, gallery_keys: Any) -> Int[np.ndarray, " q"]:
    """How many gallery entries each query may retrieve, by a rule and its keys (`blocked.Rule`)."""
    queries, gallery = (len(jax.tree.leaves(keys)[0]) for keys in (query_keys, gallery_keys))
    counts = np.zeros(queries, np.int64)
    if not queries or not gallery:
        return counts
    blocks = blocked.split_blocks(gallery_keys, min(COUNT_BLOCK, gallery))
    size = min(COUNT_BLOCK, queries)
    for start, _, keys in blocked.query_blocks((), query_keys, size):
        block_counts = np.asarray(_count_block(keys, blocks, gallery, allowed=allowed))
        counts[start : start + size] = block_counts[: queries - start]
    return counts


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
    for start in range(0, len(row), PAIR_BLOCK):
        r, c = row[start : start + PAIR_BLOCK], column[start : start + PAIR_BLOCK]
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

    A query without any retrieved pose has NaN throughout, and so enters no mean.
    """
    retrieved = ~np.isnan(errors)
    has_retrieved = retrieved.any(axis=1)
    total = np.cumsum(np.where(retrieved, errors, 0.0), axis=1, dtype=np.float64)
    count = np.maximum(np.cumsum(retrieved, axis=1), 1)
    match = np.logical_or.accumulate(errors <= threshold * scale[:, None], axis=1)

    def at(k: int, values: np.ndarray) -> np.ndarray:
        return np.where(has_retrieved, values[:, k - 1], np.nan)

    means = {f"pa_mpjpe@{k}": at(k, total / count) for k in ks}
    return means | {f"hit@{k}": at(k, match.astype(np.float64)) for k in ks}


def mean_pa_mpjpe_at_k(
    query_poses: QueryPoses, gallery_poses: GalleryPoses, indices: Int[AnyArray, "r k"]
) -> float:
    """Mean over queries of `figures_at_k`'s `pa_mpjpe@K`, K = indices.shape[1], in the queries' unit.

    Entries of -1 are left out, and queries that have no others.

    Raises:
      ValueError: nothing retrieved at all, an index beyond the gallery, a wrong number of rows.
    """
    return _mean_at_k("pa_mpjpe", query_poses, gallery_poses, indices, MATCH_THRESHOLD)


def hit_at_k(
    query_poses: QueryPoses,
    gallery_poses: GalleryPoses,
    indices: Int[AnyArray, "r k"],
    threshold: float = MATCH_THRESHOLD,
) -> float:
    """Pr-VIPE's Hit@K: mean over queries of `figures_at_k`'s `hit@K`, K = indices.shape[1].

    A match: NP-MPJPE, the PA-MPJPE of poses in units of `pose_scale`, is at most `threshold`. Procrustes takes out
    the retrieved pose's own scale, so NP-MPJPE is PA-MPJPE divided by the query's. Queries without any retrieved
    pose are left out.

    Raises:
      ValueError: nothing retrieved at all, an index beyond the gallery, a wrong number of rows.
    """
    return _mean_at_k("hit", query_poses, gallery_poses, indices, threshold)


def _mean_at_k(
    name: str, query_poses: QueryPoses, gallery_poses: GalleryPoses, indices: AnyArray, threshold: float
) -> float:
    errors, k = retrieved_errors(query_poses, gallery_poses, indices), indices.shape[1]
    return float(np.nanmean(figures_at_k(errors, pose_scale(query_poses), (k,), threshold)[f"{name}@{k}"]))


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
