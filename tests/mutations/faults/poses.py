"""Skeleton, cameras and metrics."""

from tests.mutations.fault import Fault

METRICS, GEOMETRY, SKELETON = "mcss_jax/metrics.py", "mcss_jax/geometry.py", "mcss_jax/skeleton.py"
MEASURED = ("tests/mcss_jax/test_metrics.py",)
TURNED = ("tests/mcss_jax/test_geometry.py",)
BODIES = ("tests/mcss_jax/test_skeleton.py",)

FAULTS = (
    Fault(
        "metrics: MPJPE is not relative to the root",
        METRICS,
        "return poses * _SHRINK - poses[:, :1] * _SHRINK",
        "return poses * _SHRINK",
        MEASURED,
    ),
    Fault(
        "metrics: N-MPJPE keeps the size",
        METRICS,
        "return _mean_length(scale * p - g) * size[:, 0, 0] / _SHRINK",
        "return _mean_length(p - g) * size[:, 0, 0] / _SHRINK",
        MEASURED,
    ),
    Fault(
        "metrics: PA-MPJPE is N-MPJPE",
        METRICS,
        "return kabsch.aligned_error(p, g)",
        "return _n_mpjpe(p, g)",
        MEASURED,
    ),
    Fault(
        "metrics: the median instead of the mean joint",
        METRICS,
        "return jnp.mean(_lengths(vectors), axis=-1)",
        "return jnp.median(_lengths(vectors), axis=-1)",
        MEASURED,
    ),
    Fault(
        "metrics: the hip counts among the 14 joints",
        METRICS,
        "JOINTS_3DHP: tuple[int, ...] = (1, 2,",
        "JOINTS_3DHP: tuple[int, ...] = (0, 2,",
        MEASURED,
    ),
    Fault(
        "metrics: the AUC begins at 5 mm",
        METRICS,
        "range(0, 151, 5)",
        "range(5, 151, 5)",
        MEASURED,
    ),
    Fault(
        "skeleton: the body looks backwards",
        SKELETON,
        "pose[..., LHIP, :] - pose[..., RHIP, :]",
        "pose[..., RHIP, :] - pose[..., LHIP, :]",
        BODIES,
    ),
    Fault(
        "skeleton: the mirror keeps left and right",
        SKELETON,
        "pose[..., list(MIRROR), :] * jnp.broadcast_to(sign, pose.shape)",
        "pose * jnp.broadcast_to(sign, pose.shape)",
        BODIES,
    ),
    Fault(
        "skeleton: the canonical pose is turned the other way",
        SKELETON,
        'return jnp.matmul(centred, rotation, precision="highest"), rotation',
        'return jnp.matmul(centred, jnp.swapaxes(rotation, -1, -2), precision="highest"), rotation',
        BODIES,
    ),
    Fault(
        "geometry: the ray leaves the corner of the box",
        GEOMETRY,
        "(box[..., 0] + box[..., 2]) / 2, (box[..., 1] + box[..., 3]) / 2",
        "box[..., 0], box[..., 1]",
        TURNED,
    ),
    Fault(
        "geometry: the virtual camera turns away",
        GEOMETRY,
        "rows = ((1 - x * x / (1 + z), xy, x), (xy, 1 - y * y / (1 + z), y), (-x, -y, z))",
        "rows = ((1 - x * x / (1 + z), xy, -x), (xy, 1 - y * y / (1 + z), -y), (x, y, z))",
        TURNED,
    ),
    Fault(
        "geometry: a rotation may be a reflection",
        GEOMETRY,
        "return jnp.stack([b1, b2, jnp.cross(b1, b2)], axis=-1)",
        "return jnp.stack([b1, b2, jnp.cross(b2, b1)], axis=-1)",
        TURNED,
    ),
    Fault(
        "geometry: axes are rows",
        GEOMETRY,
        "return jnp.stack([b1, b2, jnp.cross(b1, b2)], axis=-1)",
        "return jnp.stack([b1, b2, jnp.cross(b1, b2)], axis=-2)",
        TURNED,
    ),
)
