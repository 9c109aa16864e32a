"""What every encoder begins and ends with: pixels to its input, and a row to a direction."""

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def standardise(images: UInt8[Array, "*b h w 3"] | Float[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """Pixels in 0..255 to the ImageNet-standardised input that an encoder expects."""
    scale = 1.0 / (255.0 * jnp.asarray(IMAGENET_STD, jnp.float32))
    shift = jnp.asarray(IMAGENET_MEAN, jnp.float32) / jnp.asarray(IMAGENET_STD, jnp.float32)
    lead = (1,) * (images.ndim - 1)
    return images.astype(jnp.float32) * scale.reshape(*lead, 3) - shift.reshape(*lead, 3)


def unit(x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
    """Rows scaled to length one; the zero row stays zero, with a zero gradient."""
    square = jnp.sum(x * x, axis=-1, keepdims=True)
    return jnp.where(square > 0, x / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
