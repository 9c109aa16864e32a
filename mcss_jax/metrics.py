"""Pose errors: MPJPE, N-MPJPE, PA-MPJPE, 3DPCK and AUC (definitions: docs/data_formats.md#pose-metrics).

Every function takes poses of 17 joints with the root first, in any leading shape (also none, also empty), and
returns one number per pose; averaging over frames or actions is the caller's. Computed in float32, whatever
comes in. Finite input never gives NaN: an error beyond float32's range is inf. Millions of poses go through
in chunks.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mcss_jax import geometry, kabsch

Poses = Float[Array | np.ndarray, "*b 17 3"]

JOINTS_3DHP: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16)
"""The 14 joints of 3DPCK in the order of Human3.6M's 17: all but Hip, Spine and Neck/Nose."""
AUC_THRESHOLDS: tuple[float, ...] = tuple(float(t) for t in range(0, 151, 5))
"""Millimetres; zero is among them, so that a perfect pose scores 30/31 (docs/data_formats.md#pose-metrics)."""

# Poses that go through a program together; the smaller size is for batches that would fill little of a chunk.
SMALL_CHUNK = 64
CHUNK = 1024  # the intermediate arrays of one chunk stay in the cache
# Exact, as a power of two; keeps differences of the largest floats, and their reciprocals, within range.
_SHRINK = 1 / 64


@partial(jax.jit, static_argnames=("one_chunk", "settings"))
def _map(
    one_chunk: Callable[..., Array],
    settings: tuple[Any, ...],
    p: Float[Array, "c n 17 3"],
    g: Float[Array, "c n 17 3"],
) -> Float[Array, "c n"]:
    if len(p) == 1:
        return one_chunk(p[0], g[0], *settings)[None]
    return jax.lax.map(lambda pair: one_chunk(*pair, *settings), (p, g))


def _in_chunks(poses: Array | np.ndarray, n: int, width: int) -> Float[Array | np.ndarray, "c w 17 3"]:
    """Chunks of `width` poses. What lies on the host stays there: on a device each size would be compiled anew."""
    xp = np if isinstance(poses, np.ndarray) else jnp
    flat = poses.reshape(n, *poses.shape[-2:])
    missing = xp.broadcast_to(flat[-1:], (-n % width, *flat.shape[1:]))
    return xp.concatenate([flat, missing]).reshape(-1, width, *flat.shape[1:])


def _per_pose(
    one_chunk: Callable[..., Array], pred: Array | np.ndarray, target: Array | np.ndarray, *settings: Any
) -> Float[Array, "*b"]:
    """Maps `one_chunk` of [n, 17, 3] pairs over any leading shape, in chunks of one of two sizes.

    Other sizes are filled up with the last pose: one compilation serves all batches of up to `CHUNK` poses.
    """
    batch = target.shape[:-2]
    n = math.prod(batch)
    if n == 0:
        return jnp.zeros(batch)
    width = CHUNK if n > SMALL_CHUNK else SMALL_CHUNK
    p, g = (jnp.asarray(_in_chunks(x, n, width)) for x in (pred, target))
    values = _map(one_chunk, settings, p, g)
    if isinstance(pred, np.ndarray) and isinstance(target, np.ndarray):
        return jnp.asarray(np.asarray(values).reshape(-1)[:n].reshape(batch))
    return values.reshape(-1)[:n].reshape(batch)


def _root_relative(poses: Float[Array, "n j 3"]) -> Float[Array, "n j 3"]:
    """Relative to joint 0, times `_SHRINK`."""
    return poses * _SHRINK - poses[:, :1] * _SHRINK


def _largest(poses: Float[Array, "n j 3"]) -> Float[Array, "n 1 1"]:
    """The largest entry of each pose, 1 for zeros: divided out before squares over- or underflow."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(poses), axis=(1, 2), keepdims=True))
    return jnp.where(largest > 0, largest, 1.0)


def _lengths(vectors: Float[Array, "n j 3"]) -> Float[Array, "n j"]:
    """Lengths of vectors, with gradient 0 at 0."""
    largest = _largest(vectors)
    square = jnp.sum((vectors / largest) ** 2, axis=-1)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0) * largest[..., 0]


def _mean_length(vectors: Float[Array, "n j 3"]) -> Float[Array, " n"]:
    return jnp.mean(_lengths(vectors), axis=-1)


def _mpjpe(p: Array, g: Array) -> Float[Array, " n"]:
    return _mean_length(_root_relative(p) - _root_relative(g)) / _SHRINK


def _n_mpjpe(p: Array, g: Array) -> Float[Array, " n"]:
    p, g = _root_relative(p), _root_relative(g)
    size = _largest(g)
    p, g = p / _largest(p), g / size
    square = jnp.sum(p * p, axis=(1, 2), keepdims=True)
    scale = jnp.sum(p * g, axis=(1, 2), keepdims=True) / jnp.where(square > 0, square, 1.0)
    return _mean_length(scale * p - g) * size[:, 0, 0] / _SHRINK


@jax.custom_jvp
def _pa_mpjpe(p: Float[Array, "n 17 3"], g: Float[Array, "n 17 3"]) -> Float[Array, " n"]:
    return kabsch.aligned_error(p, g)


@_pa_mpjpe.defjvp
def _pa_mpjpe_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Through the residuals, whose derivative is finite everywhere."""
    return jax.jvp(lambda p, g: _mean_length(geometry.procrustes_residual(p, g)), primals, tangents)


def _joint_errors(p: Array, g: Array, joints: tuple[int, ...]) -> Float[Array, "n k"]:
    return _lengths((_root_relative(p) - _root_relative(g))[:, jnp.array(joints)]) / _SHRINK


def _pck(p: Array, g: Array, threshold: float, joints: tuple[int, ...]) -> Float[Array, " n"]:
    return jnp.mean((_joint_errors(p, g, joints) < threshold).astype(jnp.float32), axis=-1)


def _auc(p: Array, g: Array, joints: tuple[int, ...]) -> Float[Array, " n"]:
    below = _joint_errors(p, g, joints)[:, :, None] < jnp.array(AUC_THRESHOLDS)[None, None]
    return jnp.mean(below.astype(jnp.float32), axis=(1, 2))


def mpjpe(pred: Poses, target: Poses) -> Float[Array, "*b"]:
    """Mean distance of the 17 joints, in the input's unit, with each pose's root (joint 0) at the origin.

    The root counts with its error of zero.
    """
    return _per_pose(_mpjpe, pred, target)


def n_mpjpe(pred: Poses, target: Poses) -> Float[Array, "*b"]:
    """MPJPE after the root-relative prediction is scaled by s = <p, g> / <p, p>, in the input's unit.

    s is the least-squares scale (it may be negative). A prediction whose joints coincide is left as it is.
    """
    return _per_pose(_n_mpjpe, pred, target)


def pa_mpjpe(pred: Poses, target: Poses) -> Float[Array, "*b"]:
    """Mean joint distance after similarity Procrustes with a proper rotation, in the unit of `target`.

    Where several rotations are equally good (`geometry.procrustes`) the mean distance may depend on which one is
    taken. A prediction whose joints coincide is brought to the mean of `target`.
    """
    return _per_pose(_pa_mpjpe, pred, target)


def pck(
    pred: Poses, target: Poses, threshold: float = 150.0, joints: tuple[int, ...] = JOINTS_3DHP
) -> Float[Array, "*b"]:
    """Share, in [0, 1], of `joints` whose root-relative error is strictly below `threshold` (millimetres)."""
    return _per_pose(_pck, pred, target, threshold, joints)


def auc(pred: Poses, target: Poses, joints: tuple[int, ...] = JOINTS_3DHP) -> Float[Array, "*b"]:
    """Mean of `pck` over the 31 thresholds 0, 5, ..., 150 mm, in [0, 30/31]."""
    return _per_pose(_auc, pred, target, joints)
