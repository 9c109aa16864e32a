"""What defines a run of the method: network, objective, optimiser and augmentation, as one hashable value."""

import dataclasses
from functools import lru_cache

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from mcss_jax.augment import Augmentation
from mcss_jax.networks.encoder import Depth, Encoder, Stem
from mcss_jax.networks.regressor import Regressor


@dataclasses.dataclass(frozen=True)
class Network:
    """Sizes of encoder and regressor; see there."""

    depth: Depth = 18
    width: int = 64
    embedding_dim: int = 128
    stem: Stem = "conv"
    hidden: int = 256
    layers: int = 2
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Objective:
    """The joint loss: pose + `rotation_weight` * rotation + `metric_weight` * triplet.

    Attributes:
      margin: of the triplet hinge, in distances of unit vectors (at most 2).
      min_negative_gap: seconds that separate an instant from its negatives in the same sequence.
      across_groups: instants of other groups are negatives too.
      temperature_start, temperature_end, temperature_steps: see `mining.temperature_at`.
      metric_weight: 0 switches the metric loss off; unlabelled images then only pass through BatchNorm.
      rotation_weight: of the rotation head.
    """

    margin: float = 0.5
    min_negative_gap: float = 0.5
    across_groups: bool = True
    temperature_start: float = 0.3
    temperature_end: float = 0.3
    temperature_steps: int = 1
    metric_weight: float = 1.0
    rotation_weight: float = 1.0


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """AdamW, linear warm-up, cosine to zero over `steps`."""

    learning_rate: float = 1e-3
    warmup_steps: int = 100
    steps: int = 1000
    weight_decay: float = 1e-2
    clip_norm: float = 1.0


@dataclasses.dataclass(frozen=True)
class Method:
    """Everything the training step needs to know beside its state and batch."""

    network: Network = Network()
    objective: Objective = Objective()
    optimiser: Optimiser = Optimiser()
    augmentation: Augmentation = Augmentation()


class PoseNetwork(nn.Module):
    """Encoder and regressor in one: images to (embedding, standardised canonical pose, 6D rotation)."""

    network: Network
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b 17 3"], Float[Array, "b 6"]]:
        n = self.network
        features, embedding = Encoder(
            n.depth, n.width, n.embedding_dim, n.stem, jnp.dtype(n.dtype), self.axis_name, name="encoder"
        )(images, train)
        pose, rotation = Regressor(n.hidden, n.layers, name="regressor")(embedding, features)
        return embedding, pose, rotation


def schedule(optimiser: Optimiser) -> optax.Schedule:
    """Learning rate by step."""
    warmup = min(optimiser.warmup_steps, optimiser.steps // 2)
    return optax.warmup_cosine_decay_schedule(
        0.0, optimiser.learning_rate, warmup, max(optimiser.steps, warmup + 1)
    )


@lru_cache(maxsize=32)
def transformation(optimiser: Optimiser) -> optax.GradientTransformation:
    """The optax chain; weight decay touches kernels only. Cached, so that equal settings never recompile."""

    def kernels(params: optax.Params) -> optax.Params:
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    return optax.chain(
        optax.clip_by_global_norm(optimiser.clip_norm),
        optax.adamw(schedule(optimiser), weight_decay=optimiser.weight_decay, mask=kernels),
    )
