"""Encoder and regressor as one network."""

from flax import linen as nn
from jaxtyping import Array, Float

from mcss_jax.method import Network
from mcss_jax.networks.encoder import ENCODERS
from mcss_jax.networks.regressor import Regressor


class PoseNetwork(nn.Module):
    """Images to (embedding, standardised canonical pose, 6D rotation)."""

    network: Network
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool = False
    ) -> tuple[Float[Array, "b d"], Float[Array, "b 17 3"], Float[Array, "b 6"]]:
        encoder = ENCODERS[self.network.encoder](self.network, self.axis_name)
        features, embedding = encoder(images, train)
        pose, rotation = Regressor(self.network.hidden, self.network.layers, name="regressor")(
            embedding, features
        )
        return embedding, pose, rotation
