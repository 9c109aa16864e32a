"""PA-MPJPE of all pairs of poses, blocked and in closed form: the oracle of a retrieval, and chance."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32

from mcss_jax import blocked, kabsch
from mcss_jax.blocked import AnyArray, Rule
from mcss_jax.skeleton import ROOT, SPINE, THORAX

QueryPoses = Float[AnyArray, "q 17 3"]
GalleryPoses = Float[AnyArray, "n 17 3"]

MATCH_THRESHOLD = 0.1
"""NP-MPJPE up to which two poses match (Pr-VIPE's kappa; specs/data_formats.md 4.1)."""

_QUERY_BLOCK = 64
_GALLERY_BLOCK = 2048
_MULTIPLE = 64  # small galleries are filled up to one, so that few sizes are compiled
_REPAIRS = 64  # degenerate pairs of one block that are solved one by one


def pose_scale(poses: Float[AnyArray, "*b 17 3"]) -> Float[np.ndarray, "*b"]:
    """|Hip - Spine| + |Spine - Thorax|, Pr-VIPE's unit of length (specs/data_formats.md 4.1)."""
    poses = np.asarray(poses)
    lower = np.linalg.norm(poses[..., ROOT, :] - poses[..., SPINE, :], axis=-1)
    return np.asarray(lower + np.linalg.norm(poses[..., SPINE, :] - poses[..., THORAX, :], axis=-1))


def _correlation(gallery: Float[Array, "j 3 n"], queries: Float[Array, "j 3 q"]) -> kabsch.Matrix:
    return kabsch.matrix(
        lambda a, b: jnp.einsum("jq,jn->qn", queries[:, a], gallery[:, b], precision="highest")
    )


def _pairwise(queries: kabsch.Normalised, gallery: kabsch.Normalised) -> Float[Array, "q n"]:
    """PA-MPJPE of every gallery pose aligned onto every query, in the queries' unit."""
    m = _correlation(gallery.unit, queries.unit)
    rotation, degenerate = kabsch.polar_rotation(m)
    wide = [[gallery.unit[j, i][None] for i in range(3)] for j in range(len(gallery.unit))]
    tall = [[queries.unit[j, i][:, None] for i in range(3)] for j in range(len(queries.unit))]
    errors = kabsch.mean_residual(rotation, m, wide, tall)
    q, n = errors.shape

    def repaired(errors: Array) -> Array:
        _, pairs = jax.lax.top_k(degenerate.reshape(-1).astype(jnp.float32), min(_REPAIRS, q * n))
        p, g = (
            [list(row) for row in x] for x in (gallery.unit[:, :, pairs % n], queries.unit[:, :, pairs // n])
        )
        own = kabsch.matrix(lambda i, j: sum(b[i] * a[j] for a, b in zip(p, g, strict=True)))
        value = kabsch.mean_residual(kabsch.horn_rotation(own), own, p, g)
        # All chosen pairs may be replaced: `horn_rotation` is right for the others too.
        return errors.reshape(-1).at[pairs].set(value).reshape(q, n)

    def all_robust(errors: Array) -> Array:
        return kabsch.mean_residual(kabsch.horn_rotation(m), m, wide, tall)

    bad = jnp.sum(degenerate)
    case = jnp.where(bad == 0, 0, jnp.where(bad <= _REPAIRS, 1, 2))
    return jax.lax.switch(case, [lambda e: e, repaired, all_robust], errors) * queries.norm[:, None]


@partial(jax.jit, static_argnames=("k", "allowed"))
def _oracle_block(
    queries: kabsch.Normalised,
    query_keys: Any,
    gallery: kabsch.Normalised,
    gallery_keys: Any,
    count: Int32[Array, ""] | int,
    k: int,
    allowed: Rule | None,
) -> tuple[Array, Array]:
    """Indices [q, k] and errors [q, k] of the k best gallery poses for one block of queries."""

    def scan(carry: Any, block: Any) -> tuple[Any, None]:
        poses, keys, start = block
        errors, usable = _usable_errors(queries, query_keys, poses, keys, start, count, allowed)
        columns = jnp.broadcast_to(start + jnp.arange(errors.shape[1], dtype=jnp.int32)[None], errors.shape)
        scores, kept = jax.lax.top_k(jnp.where(usable, -errors, -jnp.inf), min(k, errors.shape[1]))
        return blocked.merge(carry, scores, jnp.take_along_axis(columns, kept, axis=1), k), None

    starts = jnp.arange(len(gallery.norm), dtype=jnp.int32) * gallery.norm.shape[1]
    empty = blocked.empty(len(queries.norm), k)
    (scores, indices), _ = jax.lax.scan(scan, empty, (gallery, gallery_keys, starts))
    return jnp.where(scores > -jnp.inf, indices, -1), -scores


def _usable_errors(
    queries: kabsch.Normalised,
    query_keys: Any,
    poses: kabsch.Normalised,
    keys: Any,
    start: Array,
    count: Int32[Array, ""] | int,
    allowed: Rule | None,
) -> tuple[Array, Array]:
    """Errors of one block of pairs, and which of them are allowed and no padding."""
    errors = _pairwise(queries, poses)
    columns = start + jnp.arange(errors.shape[1], dtype=jnp.int32)[None]
    usable = jnp.broadcast_to(columns < count, errors.shape)
    if allowed is not None:
        usable &= allowed(query_keys, keys)
    return errors, usable


@partial(jax.jit, static_argnames=("allowed",))
def _chance_block(
    queries: kabsch.Normalised,
    query_keys: Any,
    matching: Array,
    gallery: kabsch.Normalised,
    gallery_keys: Any,
    count: Int32[Array, ""] | int,
    allowed: Rule | None,
) -> tuple[Array, Array, Array]:
    """Per query of one block, over its allowed pairs: sum of errors, number, how many are <= `matching`."""

    def scan(carry: Any, block: Any) -> tuple[Any, None]:
        poses, keys, start = block
        errors, usable = _usable_errors(queries, query_keys, poses, keys, start, count, allowed)
        match = usable & (errors <= matching[:, None])
        added = jnp.sum(jnp.where(usable, errors, 0.0), axis=1)
        return (carry[0] + added, carry[1] + jnp.sum(usable, axis=1), carry[2] + jnp.sum(match, axis=1)), None

    starts = jnp.arange(len(gallery.norm), dtype=jnp.int32) * gallery.norm.shape[1]
    none = jnp.zeros(len(queries.norm), jnp.int32)
    return jax.lax.scan(scan, (jnp.zeros(len(none)), none, none), (gallery, gallery_keys, starts))[0]


@jax.jit
def _normalise_block(poses: Float[Array, "n 17 3"]) -> kabsch.Normalised:
    return kabsch.normalise(poses)


@jax.jit
def _normalise_blocks(blocks: Float[Array, "b n 17 3"]) -> kabsch.Normalised:
    return jax.lax.map(kabsch.normalise, blocks)


def _pose_blocks(gallery_poses: GalleryPoses, gallery_keys: Any) -> tuple[kabsch.Normalised, Any]:
    size = min(_GALLERY_BLOCK, -(-len(gallery_poses) // _MULTIPLE) * _MULTIPLE)
    blocks, keys = blocked.split_blocks((np.asarray(gallery_poses, np.float32), gallery_keys), size)
    return _normalise_blocks(blocks), keys


@jax.jit
def all_pairs(query_poses: QueryPoses, gallery_poses: GalleryPoses) -> Float[Array, "q n"]:
    """PA-MPJPE of every gallery pose aligned onto every query, in the queries' unit."""
    return _pairwise(kabsch.normalise(query_poses), kabsch.normalise(gallery_poses))


def oracle(
    query_poses: QueryPoses,
    gallery_poses: GalleryPoses,
    k: int,
    *,
    allowed: Rule | None = None,
    query_keys: Any = None,
    gallery_keys: Any = None,
) -> tuple[Int32[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
    """The k gallery poses with the smallest PA-MPJPE to every query, and that error in the queries' unit.

    The lower bound of every retrieval: all allowed pairs are aligned (gallery pose onto query) in closed
    form, none is skipped; errors are right to about 1e-6 of the pose's size, and poses nearer to each other
    than that may change places; equal errors go by the lowest index. Where fewer than k pairs are allowed:
    index -1, error inf.

    Raises:
      ValueError: k < 1, keys of another length.
    """
    blocked.check_k(k)
    blocked.check_rule(allowed, query_keys, gallery_keys, len(query_poses), len(gallery_poses))
    indices = np.full((len(query_poses), k), -1, np.int32)
    errors = np.full((len(query_poses), k), np.inf, np.float32)
    if not len(query_poses) or not len(gallery_poses):
        return indices, errors
    if allowed is None:
        query_keys = gallery_keys = ()
    gallery, gallery_keys = _pose_blocks(gallery_poses, gallery_keys)
    rows = np.asarray(query_poses, np.float32)
    for start, part, keys in blocked.query_blocks(rows, query_keys, _QUERY_BLOCK):
        own = _normalise_block(part)
        found = _oracle_block(own, keys, gallery, gallery_keys, len(gallery_poses), k=k, allowed=allowed)
        stop = min(start + _QUERY_BLOCK, len(query_poses))
        indices[start:stop], errors[start:stop] = (np.asarray(x)[: stop - start] for x in found)
    return indices, errors


def chance(
    query_poses: QueryPoses,
    gallery_poses: GalleryPoses,
    *,
    ks: Sequence[int] = (1, 10, 20),
    threshold: float = MATCH_THRESHOLD,
    max_pairs: int = 200_000_000,
    allowed: Rule | None = None,
    query_keys: Any = None,
    gallery_keys: Any = None,
) -> dict[str, float]:
    """What retrieval at random, uniformly among a query's allowed entries and without repetition, is
    expected to give.

    `pa_mpjpe`: mean over queries of the mean PA-MPJPE over all their allowed pairs (the same for every K).
    `hit@k` for each of `ks`: 1 - C(n - m, k) / C(n, k) for n allowed entries of which m match, mean over
    queries. `queries`: how many queries these are means over. Exact while there are at most `max_pairs`
    pairs; beyond that over evenly spaced queries (every s-th, always the same), each against the whole
    gallery.

    Raises:
      ValueError: no allowed pair at all, keys of another length, k < 1.
    """
    for k in ks:
        blocked.check_k(k)
    blocked.check_rule(allowed, query_keys, gallery_keys, len(query_poses), len(gallery_poses))
    step = max(1, math.ceil(len(query_poses) * len(gallery_poses) / max_pairs))
    chosen = np.asarray(query_poses, np.float32)[::step]
    if allowed is None:
        query_keys = gallery_keys = ()
    query_keys = jax.tree.map(lambda leaf: np.asarray(leaf)[::step], query_keys)
    total, count, matches = np.zeros(len(chosen)), np.zeros(len(chosen), int), np.zeros(len(chosen), int)
    if len(chosen) and len(gallery_poses):
        matching = (threshold * pose_scale(chosen)).astype(np.float32)
        gallery, gallery_keys = _pose_blocks(gallery_poses, gallery_keys)
        rows = (chosen, matching)
        for start, (part, limit), keys in blocked.query_blocks(rows, query_keys, _QUERY_BLOCK):
            own = _normalise_block(part)
            found = _chance_block(
                own, keys, limit, gallery, gallery_keys, len(gallery_poses), allowed=allowed
            )
            stop = min(start + _QUERY_BLOCK, len(chosen))
            total[start:stop], count[start:stop], matches[start:stop] = (
                np.asarray(x)[: stop - start] for x in found
            )
    some = count > 0
    if not some.any():
        raise ValueError("No query may retrieve any gallery entry; expected at least one allowed pair.")
    n, m = count[some].astype(np.float64), matches[some].astype(np.float64)
    expected = {"pa_mpjpe": float(np.mean(total[some] / n)), "queries": float(some.sum())}
    for k in ks:
        miss = np.ones(len(n))
        for i in range(k):  # the i-th draw misses too; with nothing left to draw it stays as it is
            miss *= np.where(n > i, np.maximum(n - m - i, 0) / np.maximum(n - i, 1), 1.0)
        expected[f"hit@{k}"] = float(np.mean(1 - miss))
    return expected
