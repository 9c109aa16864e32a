"""Pose regressor: embedding to canonical pose, features to the rotation of the body.

The embedding is shared by all views of an instant, so it can only say what the body does; how the body is
turned towards the camera differs by view and is read from the encoder's features (docs/method.md#network).
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from mcss_jax.skeleton import NUM_JOINTS


class Regressor(nn.Module):
    """`(pose, rotation_6d) = Regressor(...).apply(variables, embedding, features)`.

    `pose` [b, 17, 3] is the canonical pose, standardised (see `PoseStatistics`); `rotation_6d` [b,
    6] are two unnormalised columns of the body's rotation in the virtual camera that looks through the crop's
    centre.
    """

    hidden: int = 256
    layers: int = 2

    @nn.compact
    def __call__(
        self, embedding: Float[Array, "b d"], features: Float[Array, "b f"]
    ) -> tuple[Float[Array, "b 17 3"], Float[Array, "b 6"]]:
        def head(x: Float[Array, "b n"], out: int, name: str) -> Float[Array, "b m"]:
            for layer in range(self.layers):
                x = nn.relu(nn.Dense(self.hidden, name=f"{name}_hidden{layer}")(x))
            # A small last layer: the first answers are close to the mean pose.
            return nn.Dense(out, name=f"{name}_out", kernel_init=nn.initializers.normal(0.01))(x)

        # A unit-norm embedding has entries of size 1/sqrt(d); the hidden layers expect entries of size one.
        scaled = embedding * jnp.sqrt(jnp.float32(embedding.shape[-1]))
        pose = head(scaled, NUM_JOINTS * 3, "pose").reshape(-1, NUM_JOINTS, 3)
        return pose, head(features, 6, "rotation")
