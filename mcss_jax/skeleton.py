"""The 17 joints of Human3.6M and the canonical (body-frame) pose.

Order, parents and sides follow the de-facto standard 17-joint subset of Human3.6M's 32 joints
(docs/data_formats.md#human36m-joints). Nothing here depends on a camera.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

JOINTS: tuple[str, ...] = (
    "Hip",
    "RHip",
    "RKnee",
    "RFoot",
    "LHip",
    "LKnee",
    "LFoot",
    "Spine",
    "Thorax",
    "Neck",
    "Head",
    "LShoulder",
    "LElbow",
    "LWrist",
    "RShoulder",
    "RElbow",
    "RWrist",
)
PARENTS: tuple[int, ...] = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
LEFT: tuple[int, ...] = (4, 5, 6, 11, 12, 13)
RIGHT: tuple[int, ...] = (1, 2, 3, 14, 15, 16)
BONES: tuple[tuple[int, int], ...] = tuple((p, j) for j, p in enumerate(PARENTS) if p >= 0)
NUM_JOINTS = len(JOINTS)

ROOT, RHIP, LHIP, SPINE, THORAX = (JOINTS.index(name) for name in ("Hip", "RHip", "LHip", "Spine", "Thorax"))

# Below this length (in the pose's own unit, so in practice 1e-6 mm) a direction carries no information.
_TINY = 1e-6


def _mirror_order() -> np.ndarray:
    order = np.arange(NUM_JOINTS)
    order[list(LEFT)], order[list(RIGHT)] = RIGHT, LEFT
    return order


MIRROR: tuple[int, ...] = tuple(int(j) for j in _mirror_order())
"""`pose[..., MIRROR, :]` exchanges left and right; with one axis negated it is the mirrored person."""


def _unit(v: Float[Array, "*b 3"], fallback: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """`v` normalised, or `fallback` where `v` has no direction; finite values and gradients throughout."""
    square = jnp.sum(v * v, axis=-1, keepdims=True)
    usable = square > _TINY**2
    return jnp.where(usable, v / jnp.sqrt(jnp.where(usable, square, 1.0)), fallback)


def _perpendicular(v: Float[Array, "*b 3"]) -> Float[Array, "*b 3"]:
    """A unit vector orthogonal to the unit vector `v`: the axis least along it, made orthogonal."""
    axis = jnp.eye(3, dtype=v.dtype)[jnp.argmin(jnp.abs(v), axis=-1)]
    rest = axis - jnp.sum(axis * v, axis=-1, keepdims=True) * v
    return rest / jnp.linalg.norm(rest, axis=-1, keepdims=True)


def body_frame(pose: Float[Array, "*b 17 3"]) -> Float[Array, "*b 3 3"]:
    """Rotation whose columns are the body's axes, expressed in the frame of `pose`.

    x points from the right to the left hip, y up the spine (made orthogonal to x), z = x cross y out of the
    chest. A pose without these directions (all joints in one point, a spine along the hips) gets a defined
    frame, never NaN.
    """
    x_default = jnp.broadcast_to(jnp.asarray([1.0, 0.0, 0.0], pose.dtype), (*pose.shape[:-2], 3))
    x = _unit(pose[..., LHIP, :] - pose[..., RHIP, :], x_default)
    spine = pose[..., THORAX, :] - pose[..., ROOT, :]
    y = _unit(spine - jnp.sum(spine * x, axis=-1, keepdims=True) * x, _perpendicular(x))
    # Where spine and hips nearly coincide the difference above cancels; orthogonalise once more.
    y = _unit(y - jnp.sum(y * x, axis=-1, keepdims=True) * x, _perpendicular(x))
    return jnp.stack([x, y, jnp.cross(x, y)], axis=-1)


def canonicalise(
    pose: Float[Array, "*b 17 3"],
) -> tuple[Float[Array, "*b 17 3"], Float[Array, "*b 3 3"]]:
    """Removes position and orientation: `(canonical, rotation)`.

    The canonical pose is root-relative and turned into the body's own frame (`body_frame`), so every view of
    an instant has the same target and no camera is needed. `restore(canonical, rotation)` is the
    root-relative pose again. Units are kept. Source: the frame is our documented choice, the paper's is not
    public (docs/method.md#canonical-frame).
    """
    rotation = body_frame(pose)
    centred = pose - pose[..., ROOT : ROOT + 1, :]
    return jnp.matmul(centred, rotation, precision="highest"), rotation


def restore(canonical: Float[Array, "*b 17 3"], rotation: Float[Array, "*b 3 3"]) -> Float[Array, "*b 17 3"]:
    """The root-relative pose that `canonicalise` took apart."""
    return jnp.matmul(canonical, jnp.swapaxes(rotation, -1, -2), precision="highest")


def mirror(pose: Float[Array, "*b 17 3"]) -> Float[Array, "*b 17 3"]:
    """The person as a mirror shows them: x negated, left and right joints exchanged.

    Right for camera-frame poses (the picture flipped left to right) and for canonical ones alike.
    """
    sign = jnp.asarray([-1.0, 1.0, 1.0], pose.dtype)
    return pose[..., list(MIRROR), :] * jnp.broadcast_to(sign, pose.shape)
