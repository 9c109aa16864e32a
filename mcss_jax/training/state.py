"""The state that training changes, and the state before the first update."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from mcss_jax import skeleton
from mcss_jax.method import Method, Network
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.pytree import pytree, static
from mcss_jax.training.optimiser import transformation

Variables = dict[str, Any]
"""Collections of a network's arrays by name: `params`, which are trained, and whatever else the encoder keeps, such as
the running statistics of batch normalisation in `batch_stats`."""


class PoseStatistics(NamedTuple):
    """Standardisation of canonical poses, from the labelled poses alone: mean and one scale, millimetres.

    One scale for all coordinates, so that a millimetre of error weighs the same on every joint.
    """

    mean: Float[Array, "17 3"]
    scale: Float[Array, ""]


@pytree
class TrainState:
    """Everything that training changes, plus the pose statistics and the (static) network that it is a state of.

    Leaves lie on devices or, for `parallel.replicate`, on the host. How it is trained (objective, optimiser,
    augmentation) is not part of it: a network that was trained otherwise is used by the same compiled program.
    """

    step: Int[Array, ""]
    variables: Variables
    opt_state: optax.OptState
    statistics: PoseStatistics
    network: Network = static()

    @property
    def params(self) -> Any:
        """What the optimiser changes."""
        return self.variables["params"]

    @property
    def collections(self) -> Variables:
        """What the network itself changes while it is trained: all variables but `params`."""
        return {name: of_name for name, of_name in self.variables.items() if name != "params"}


def init_state(
    method: Method, rng: Key[Array, ""], image_size: int, statistics: PoseStatistics
) -> TrainState:
    """A fresh state. `image_size` in pixels; `statistics` as `pose_statistics` gives them."""
    images = jnp.zeros((1, image_size, image_size, 3), jnp.float32)
    variables = PoseNetwork(method.network).init(rng, images)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=dict(variables),
        opt_state=transformation(method.optimiser).init(variables["params"]),
        statistics=statistics,
        network=method.network,
    )


def pose_statistics(poses: Float[Array, "n 17 3"]) -> PoseStatistics:
    """Statistics of labelled poses (any frame, millimetres). Without poses: mean zero, scale one."""
    if poses.shape[0] == 0:
        return PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    canonical, _ = skeleton.canonicalise(poses)
    mean = jnp.mean(canonical, axis=0)
    # At least 1 mm: a single labelled pose has no deviation to divide by.
    return PoseStatistics(mean, jnp.maximum(jnp.std(canonical - mean[None]), 1.0))
