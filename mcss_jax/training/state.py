"""The state that training changes, the batch it learns from, and the state before the first update.

A batch holds `unlabelled`, `labelled` or both:

    unlabelled: images uint8 [b, 2, s, s, 3], group, sequence int32 [b], time f32 [b] (seconds), valid bool
                [b], sample int32 [b], pose f32 [b, 17, 3] (NaN unless the instant's label may be used; only
                logged)
    labelled:   images uint8 [l, s, s, 3], pose f32 [l, 17, 3] (camera frame, millimetres), intrinsics f32 [l,
                3, 3], box f32 [l, 4] (pixels; NaN intrinsics or box: the camera looks at the person), valid
                bool [l], sample int32 [l]

`sample` is the index in the global batch of the step; keys are folded with it, so augmentation does not
depend on the number of replicas.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Key

from mcss_jax import skeleton
from mcss_jax.method import Method
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.training.optimiser import transformation

Batch = dict[str, dict[str, Array]]


class PoseStatistics(NamedTuple):
    """Standardisation of canonical poses, from the labelled poses alone: mean and one scale, millimetres.

    One scale for all coordinates, so that a millimetre of error weighs the same on every joint.
    """

    mean: Float[Array, "17 3"]
    scale: Float[Array, ""]


@struct.dataclass
class TrainState:
    """Everything that training changes, plus the statistics and the (static) method it belongs to."""

    step: Any  # int32 scalar; like all leaves on devices or, for `parallel.replicate`, on the host
    params: Any
    batch_stats: Any
    opt_state: Any
    statistics: PoseStatistics
    method: Method = struct.field(pytree_node=False)


def init_state(
    method: Method, rng: Key[Array, ""], image_size: int, statistics: PoseStatistics
) -> TrainState:
    """A fresh state. `image_size` in pixels; `statistics` as `pose_statistics` gives them."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = PoseNetwork(method.network).init(rng, images)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=transformation(method.optimiser).init(variables["params"]),
        statistics=statistics,
        method=method,
    )


def pose_statistics(poses: Float[Array, "n 17 3"]) -> PoseStatistics:
    """Statistics of labelled poses (any frame, millimetres). Without poses: mean zero, scale one."""
    if poses.shape[0] == 0:
        return PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    canonical, _ = skeleton.canonicalise(poses)
    mean = jnp.mean(canonical, axis=0)
    return PoseStatistics(mean, jnp.maximum(jnp.std(canonical - mean[None]), 1.0))
