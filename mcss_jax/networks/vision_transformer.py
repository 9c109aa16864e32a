"""Image encoder: a vision transformer (Dosovitskiy et al. 2021) to features and a unit-norm pose embedding.

Layer by layer that of timm's `vit_*_patch*_224` (pre-normalised blocks, class token, learned positions, exact GELU), so
that its weights can be brought in. It has no batch statistics: in training it does what it does afterwards.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from mcss_jax.errors import UserError
from mcss_jax.networks.convolution import space_to_depth
from mcss_jax.networks.pixels import unit

# timm's; flax's own default is another one.
EPSILON = 1e-6
MLP_RATIO = 4


class Attention(nn.Module):
    """Multi-head self-attention over n tokens."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        size = x.shape[-1]
        packed = nn.Dense(3 * size, dtype=self.dtype, name="qkv")(x)
        query, key, value = jnp.moveaxis(
            packed.reshape(*x.shape[:-1], 3, self.heads, size // self.heads), 2, 0
        )
        mixed = jax.nn.dot_product_attention(query, key, value)
        return nn.Dense(size, dtype=self.dtype, name="proj")(mixed.reshape(x.shape))


class Block(nn.Module):
    """Attention, then two dense layers, each added to what it was given after normalisation."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        size = x.shape[-1]
        y = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm1")(x)
        x = x + Attention(self.heads, self.dtype, name="attn")(y)
        y = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name="norm2")(x)
        y = nn.gelu(nn.Dense(MLP_RATIO * size, dtype=self.dtype, name="fc1")(y), approximate=False)
        return x + nn.Dense(size, dtype=self.dtype, name="fc2")(y)


class VisionTransformer(nn.Module):
    """`(features, embedding) = VisionTransformer(...).apply(variables, normalised_images)`.

    Attributes:
      patch: side of a patch, pixels.
      size: length of a token.
      layers: blocks.
      heads: of each block's attention; `size` is a multiple of it.
      embedding_dim: length of the unit-norm embedding.
      dtype: of activations; parameters, features and embedding stay float32.

    Input [b, h, w, 3] as `pixels.standardise` gives it. Output: features [b, size], the class token after the last
    normalisation; embedding [b, embedding_dim]. Raises UserError for sizes that do not divide.
    """

    patch: int
    size: int
    layers: int
    heads: int
    embedding_dim: int = 128
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w 3"], train: bool = False
    ) -> tuple[Float[Array, "b f"], Float[Array, "b d"]]:
        if self.size % self.heads:
            raise UserError(f"--vit_size={self.size}; expected a multiple of --vit_heads={self.heads}")
        if images.shape[1] % self.patch or images.shape[2] % self.patch:
            raise UserError(
                f"--vit_patch={self.patch} does not divide pictures of {images.shape[1]} x {images.shape[2]} px; "
                "choose another, or another --image_size"
            )
        dtype = jnp.dtype(self.dtype)
        x = nn.Dense(self.size, dtype=dtype, name="patch_embed")(space_to_depth(images, self.patch))
        x = x.reshape(x.shape[0], -1, self.size)
        token = self.param("cls_token", nn.initializers.zeros, (1, 1, self.size))
        position = self.param("pos_embed", nn.initializers.normal(0.02), (1, 1 + x.shape[1], self.size))
        x = jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], 1, self.size)).astype(dtype), x], axis=1)
        x = x + position.astype(dtype)
        for layer in range(self.layers):
            x = Block(self.heads, dtype, name=f"block{layer}")(x)
        features = nn.LayerNorm(epsilon=EPSILON, name="norm")(x[:, 0].astype(jnp.float32))
        return features, unit(nn.Dense(self.embedding_dim, name="embedding")(features))


def resized_positions(positions: Float[Array, "1 n d"], grid: int) -> Float[Array, "1 m d"]:
    """Learned positions of a square grid for one of `grid` x `grid` patches: bicubic, the class token's as it is.

    Raises UserError when they are not those of a square grid.
    """
    before = round((positions.shape[1] - 1) ** 0.5)
    if before**2 + 1 != positions.shape[1]:
        raise UserError(
            f"{positions.shape[1]} learned positions; expected a class token's and those of a square"
        )
    if before == grid:
        return positions
    size = positions.shape[-1]
    square = positions[:, 1:].reshape(1, before, before, size)
    resized = jax.image.resize(square, (1, grid, grid, size), "bicubic").reshape(1, grid * grid, size)
    return jnp.concatenate([positions[:, :1], resized], axis=1)
