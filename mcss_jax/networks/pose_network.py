"""Encoder and regressor as one network."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mcss_jax.method import Network
from mcss_jax.networks.encoder import Encoder
from mcss_jax.networks.regressor import Regressor


class PoseNetwork(nn.Module):
    """Images to (embedding, standardised canonical pose, 6D rotation)."""

    network: Network
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b 17 3"], Float[Array, "b 6"]]:
        n = self.network
        features, embedding = Encoder(
            n.depth, n.width, n.embedding_dim, n.stem, jnp.dtype(n.precision), self.axis_name, name="encoder"
        )(images, train)
        pose, rotation = Regressor(n.hidden, n.layers, name="regressor")(embedding, features)
        return embedding, pose, rotation
