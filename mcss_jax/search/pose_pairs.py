"""PA-MPJPE of all pairs of poses, blocked and in closed form: the oracle of a retrieval, and chance."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from mcss_jax import kabsch
from mcss_jax.search import blocked
from mcss_jax.search.blocked import AnyArray, Rule
from mcss_jax.skeleton import ROOT, SPINE, THORAX

QueryPoses = Float[AnyArray, "q 17 3"]
GalleryPoses = Float[AnyArray, "n 17 3"]

MATCH_THRESHOLD = 0.1
"""NP-MPJPE up to which two poses match (Pr-VIPE's kappa; docs/data_formats.md#pr-vipe-protocol-and-frame-keys)."""

# Poses of one block of pairs.
QUERY_BLOCK = 64
GALLERY_BLOCK = 2048
_MULTIPLE = 64  # small galleries are filled up to one, so that few sizes are compiled
_REPAIRS = 64  # degenerate pairs of one block that are solved one by one


def pose_scale(poses: Float[AnyArray, "*b 17 3"]) -> Float[np.ndarray, "*b"]:
    """|Hip - Spine| + |Spine - Thorax|, Pr-VIPE's unit of length (docs/data_formats.md)."""
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


class Candidates(NamedTuple):
    """What each query may retrieve: the number of entries, how many of them match, the sum of their PA-MPJPE."""

    entries: Int[np.ndarray, "*b"]
    matches: Int[np.ndarray, "*b"]
    total: Float[np.ndarray, "*b"]


@partial(jax.jit, static_argnames=("k", "allowed"))
def _oracle_block(
    queries: kabsch.Normalised,
    query_keys: Any,
    matching: Array,
    gallery: kabsch.Normalised,
    gallery_keys: Any,
    count: Int32[Array, ""] | int,
    k: int,
    allowed: Rule | None,
) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """For one block of queries: indices [q, k] and errors [q, k] of the k best gallery poses, and `Candidates`.

    An entry matches whose error is at most the query's `matching`.
    """

    def scan(carry: Any, block: Any) -> tuple[Any, None]:
        best, (number, matches, total) = carry
        poses, keys, start = block
        errors = _pairwise(queries, poses)
        columns = jnp.broadcast_to(start + jnp.arange(errors.shape[1], dtype=jnp.int32)[None], errors.shape)
        usable = columns < count  # the last block is filled up
        if allowed is not None:
            usable &= allowed(query_keys, keys)
        scores, chosen = jax.lax.top_k(jnp.where(usable, -errors, -jnp.inf), min(k, errors.shape[1]))
        best = blocked.merge(best, scores, jnp.take_along_axis(columns, chosen, axis=1), k)
        number += jnp.sum(usable, axis=1)
        matches += jnp.sum(usable & (errors <= matching[:, None]), axis=1)
        total += jnp.sum(jnp.where(usable, errors, 0.0), axis=1)
        return (best, (number, matches, total)), None

    starts = jnp.arange(len(gallery.norm), dtype=jnp.int32) * gallery.norm.shape[1]
    q = len(queries.norm)
    zeros = (jnp.zeros(q, jnp.int32), jnp.zeros(q, jnp.int32), jnp.zeros(q))
    ((scores, indices), sums), _ = jax.lax.scan(
        scan, (blocked.empty(q, k), zeros), (gallery, gallery_keys, starts)
    )
    return jnp.where(scores > -jnp.inf, indices, -1), -scores, sums


@jax.jit
def _normalise_block(poses: Float[Array, "n 17 3"]) -> kabsch.Normalised:
    return kabsch.normalise(poses)


@jax.jit
def _normalise_blocks(blocks: Float[Array, "b n 17 3"]) -> kabsch.Normalised:
    return jax.lax.map(kabsch.normalise, blocks)


def _pose_blocks(gallery_poses: GalleryPoses, gallery_keys: Any) -> tuple[kabsch.Normalised, Any]:
    size = min(GALLERY_BLOCK, -(-len(gallery_poses) // _MULTIPLE) * _MULTIPLE)
    blocks, keys = blocked.split_blocks((np.asarray(gallery_poses, np.float32), gallery_keys), size)
    return _normalise_blocks(blocks), keys


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
    return oracle_and_candidates(
        query_poses, gallery_poses, k, allowed=allowed, query_keys=query_keys, gallery_keys=gallery_keys
    )[:2]


def oracle_and_candidates(
    query_poses: QueryPoses,
    gallery_poses: GalleryPoses,
    k: int,
    *,
    threshold: float = MATCH_THRESHOLD,
    allowed: Rule | None = None,
    query_keys: Any = None,
    gallery_keys: Any = None,
) -> tuple[Int32[np.ndarray, "q k"], Float32[np.ndarray, "q k"], Candidates]:
    """`oracle`, and from the same pass what each of the q queries may retrieve, of which `chance` draws.

    An entry matches whose NP-MPJPE is at most `threshold`. Raises as `oracle` does.
    """
    blocked.check_k(k)
    blocked.check_rule(allowed, query_keys, gallery_keys, len(query_poses), len(gallery_poses))
    q = len(query_poses)
    indices, errors = np.full((q, k), -1, np.int32), np.full((q, k), np.inf, np.float32)
    candidates = Candidates(np.zeros(q, np.int64), np.zeros(q, np.int64), np.zeros(q))
    if not q or not len(gallery_poses):
        return indices, errors, candidates
    if allowed is None:
        query_keys = gallery_keys = ()
    gallery, gallery_keys = _pose_blocks(gallery_poses, gallery_keys)
    matching = (threshold * pose_scale(query_poses)).astype(np.float32)
    rows = (np.asarray(query_poses, np.float32), matching)
    for start, (part, limit), keys in blocked.query_blocks(rows, query_keys, QUERY_BLOCK):
        *best, sums = _oracle_block(
            _normalise_block(part),
            keys,
            limit,
            gallery,
            gallery_keys,
            len(gallery_poses),
            k=k,
            allowed=allowed,
        )
        stop = min(start + QUERY_BLOCK, q)
        for column, values in zip((indices, errors, *candidates), (*best, *sums), strict=True):
            column[start:stop] = np.asarray(values)[: stop - start]
    return indices, errors, candidates


def chance(candidates: Candidates, ks: Sequence[int] = (1, 10, 20)) -> dict[str, Float[np.ndarray, " q"]]:
    """Of every query, what K draws at random among its n allowed entries, without repetition, are expected to give.

    As `retrieval.figures_at_k` names them, for each K of `ks`: `pa_mpjpe@K`, the mean PA-MPJPE over the allowed
    entries (the same for every K), and `hit@K`, 1 - C(n - m, K) / C(n, K) where m of them match. NaN where n is 0.

    Raises:
      ValueError: a K < 1.
    """
    n, m = (np.asarray(x, np.float64) for x in (candidates.entries, candidates.matches))
    mean = np.where(n > 0, candidates.total / np.maximum(n, 1), np.nan)
    hits = {}
    for k in ks:
        blocked.check_k(k)
        miss = np.where(n > 0, 1.0, np.nan)
        for i in range(k):  # the i-th draw misses too; with nothing left to draw it stays as it is
            miss *= np.where(n > i, np.maximum(n - m - i, 0) / np.maximum(n - i, 1), 1.0)
        hits[f"hit@{k}"] = 1 - miss
    return {f"pa_mpjpe@{k}": mean for k in ks} | hits
