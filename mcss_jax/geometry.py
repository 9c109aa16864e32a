"""Cameras, rotations and similarity Procrustes on batches: values and gradients finite.

Camera conventions: X_cam = R X_world + t; x right, y down, z forward; pixels, millimetres.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mcss_jax import kabsch
from mcss_jax.kabsch import AnyArray

# -------- cameras


def to_camera(points: Float[AnyArray, "*b 3"], extrinsics: Float[AnyArray, "3 4"]) -> Float[AnyArray, "*b 3"]:
    """World to camera: R X + t with `extrinsics` = [R | t], millimetres. NumPy stays NumPy, float64 too."""
    x, y, z = (points[..., i] for i in range(3))
    rows = [e[0] * x + e[1] * y + e[2] * z + e[3] for e in extrinsics]
    return points.__array_namespace__().stack(rows, axis=-1)


def from_camera(
    points: Float[AnyArray, "*b 3"], extrinsics: Float[AnyArray, "3 4"]
) -> Float[AnyArray, "*b 3"]:
    """Camera to world: Rᵀ (X - t), the inverse of `to_camera`. NumPy stays NumPy, with its precision."""
    x, y, z = (points[..., i] - extrinsics[i, 3] for i in range(3))
    rows = [extrinsics[0, i] * x + extrinsics[1, i] * y + extrinsics[2, i] * z for i in range(3)]
    return points.__array_namespace__().stack(rows, axis=-1)


def project(
    points: Float[AnyArray, "*b 3"], intrinsics: Float[AnyArray, "3 3"], distortion: Float[AnyArray, "5"]
) -> Float[AnyArray, "*b 2"]:
    """Camera coordinates (mm) to pixels, by Human3.6M's own distortion (k1, k2, k3, p1, p2).

    This is not OpenCV's model, which doubles the tangential cross terms (docs/data_formats.md). Points
    must lie in front of the camera: at z = 0 the result is not finite, behind it is a mirror image. NumPy
    stays NumPy, float64 too.
    """
    k1, k2, k3, p1, p2 = distortion
    x, y = points[..., 0] / points[..., 2], points[..., 1] / points[..., 2]
    r2 = x * x + y * y
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)) + p1 * y + p2 * x
    u = intrinsics[0, 0] * (x * factor + p2 * r2) + intrinsics[0, 2]
    v = intrinsics[1, 1] * (y * factor + p1 * r2) + intrinsics[1, 2]
    return points.__array_namespace__().stack([u, v], axis=-1)


@jax.jit
def look_through(
    intrinsics: Float[AnyArray, "*b 3 3"], box: Float[AnyArray, "*b 4"]
) -> Float[Array, "*b 3 3"]:
    """Rotation from the virtual camera that looks through the box's centre to the real camera.

    X_real = R X_virtual: R takes the optical axis to the viewing ray of the centre of `box` (x0, y0, x1, y1;
    pixels) by the shortest way, so nothing rolls more than it must (docs/method.md). Lens
    distortion is left out. Where a number is not finite, or the focal length is zero: the identity.
    """
    intrinsics, box = jnp.asarray(intrinsics), jnp.asarray(box)
    u, v = (box[..., 0] + box[..., 2]) / 2, (box[..., 1] + box[..., 3]) / 2
    fx, fy = intrinsics[..., 0, 0], intrinsics[..., 1, 1]
    defined = jnp.isfinite(u + v + fx + fy + intrinsics[..., 0, 2] + intrinsics[..., 1, 2]) & (fx * fy != 0)
    x = jnp.where(defined, u - intrinsics[..., 0, 2], 0.0) / jnp.where(defined, fx, 1.0)
    y = jnp.where(defined, v - intrinsics[..., 1, 2], 0.0) / jnp.where(defined, fy, 1.0)
    length = jnp.sqrt(x * x + y * y + 1)
    x, y, z = x / length, y / length, 1 / length
    # Rodrigues' formula about the axis (-y, x, 0), with cos = z and (1 - cos) / sin^2 = 1 / (1 + z).
    xy = -x * y / (1 + z)
    rows = ((1 - x * x / (1 + z), xy, x), (xy, 1 - y * y / (1 + z), y), (-x, -y, z))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


# -------- rotations


def _direction(v: Float[Array, "*b 3"], fallback: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """`v` normalised; `fallback` where its length is below 1e-6 or not a number."""
    square = jnp.sum(v * v, axis=-1, keepdims=True)
    usable = square > 1e-12
    return jnp.where(usable, v / jnp.sqrt(jnp.where(usable, square, 1.0)), fallback)


@jax.jit
def rotation_from_6d(columns: Float[AnyArray, "*b 6"]) -> Float[Array, "*b 3 3"]:
    """Gram-Schmidt on two columns (a1, a2) gives a proper rotation (Zhou et al., CVPR 2019, section 4.1).

    A column without direction (length below 1e-6, after removing the first from the second) is replaced by a
    fixed axis, so value and gradient are finite for every input whose squares are within float32.
    """
    columns = jnp.asarray(columns)
    first, second = columns[..., :3], columns[..., 3:]
    b1 = _direction(first, jnp.broadcast_to(jnp.array([1.0, 0.0, 0.0], first.dtype), first.shape))
    # The coordinate axis least along b1, made orthogonal to it: never short.
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(b1), axis=-1), 3, dtype=b1.dtype)
    spare = axis - jnp.sum(axis * b1, axis=-1, keepdims=True) * b1
    spare = spare / jnp.sqrt(jnp.sum(spare * spare, axis=-1, keepdims=True))
    # Normalised before the projection, so that the threshold for parallel columns does not depend on their length.
    a2 = _direction(second, spare)
    b2 = _direction(a2 - jnp.sum(a2 * b1, axis=-1, keepdims=True) * b1, spare)
    # Once more: for nearly parallel columns the first difference is mostly rounding.
    b2 = _direction(b2 - jnp.sum(b2 * b1, axis=-1, keepdims=True) * b1, spare)
    return jnp.stack([b1, b2, jnp.cross(b1, b2)], axis=-1)


# -------- Procrustes


class Similarity(NamedTuple):
    """x -> scale * rotation x + translation."""

    scale: Float[Array, "*b"]
    rotation: Float[Array, "*b 3 3"]
    translation: Float[Array, "*b 3"]


def _flat(points: Float[AnyArray, "*b joints 3"]) -> Float[Array, "n joints 3"]:
    return jnp.asarray(points).reshape(math.prod(points.shape[:-2]), *points.shape[-2:])


@jax.jit
def procrustes(pred: Float[AnyArray, "*b joints 3"], target: Float[AnyArray, "*b joints 3"]) -> Similarity:
    """The similarity with a proper rotation that brings `pred` closest to `target` in least squares.

    (scale, R, t) minimise sum_j |scale R pred_j + t - target_j|^2; reflections are not allowed
    (docs/data_formats.md#pose-metrics). Where several rotations are equally good (collinear points, some
    mirror images) one of them is returned. Where all points of a pose coincide: scale 0, the identity, and
    t = mean of `target`.
    """
    batch = pred.shape[:-2]
    p, g = kabsch.normalise(_flat(pred)), kabsch.normalise(_flat(target))
    m = kabsch.correlation(p.unit, g.unit)
    rotation = kabsch.best_rotation(m)
    has_extent = p.norm > 0
    scale = jnp.sum(rotation * m, axis=(0, 1)) * jnp.where(
        has_extent, g.norm / jnp.where(has_extent, p.norm, 1.0), 0.0
    )
    translation = g.mean - scale[None] * kabsch.rotate(rotation, p.mean[None])[0]
    return Similarity(
        scale.reshape(batch),
        jnp.moveaxis(rotation, -1, 0).reshape(*batch, 3, 3),
        translation.T.reshape(*batch, 3),
    )


@jax.jit
def procrustes_residual(
    pred: Float[AnyArray, "*b joints 3"], target: Float[AnyArray, "*b joints 3"]
) -> Float[Array, "*b joints 3"]:
    """`align(pred, target) - target`, without the cancellation of positions far from the origin."""
    p, g = kabsch.normalise(_flat(pred)), kabsch.normalise(_flat(target))
    m = kabsch.correlation(p.unit, g.unit)
    rotation = kabsch.best_rotation(m)
    scale = jnp.sum(rotation * m, axis=(0, 1))
    residual = (scale[None, None] * kabsch.rotate(rotation, p.unit) - g.unit) * g.norm[None, None]
    return jnp.moveaxis(residual, -1, 0).reshape(pred.shape)


@jax.jit
def align(
    pred: Float[AnyArray, "*b joints 3"], target: Float[AnyArray, "*b joints 3"]
) -> Float[Array, "*b joints 3"]:
    """`pred` brought onto `target` by `procrustes`, in the unit and frame of `target`."""
    return jnp.asarray(target) + procrustes_residual(pred, target)
