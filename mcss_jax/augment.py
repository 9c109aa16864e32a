"""Random crops, flips, colours and occluders on uint8 tuples, on the device.

All draws come from one key per instant, so that a sample is augmented the same way on any number of devices.
Views of an instant get their own crop, colours and occluder (cameras differ); a flip mirrors all of them
together, and the caller exchanges left and right.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt8


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far to go; zero switches a part off.

    Attributes:
      scale: crop side varies by this fraction, both ways.
      shift: crop centre moves by up to this fraction of the side, in x and in y.
      colour: strength of hue, saturation, contrast and brightness changes, 0 to 1.
      occlusion: probability that a rectangle of random colour covers part of a view.
      flip: mirror half of the instants.
    """

    scale: float = 0.1
    shift: float = 0.05
    colour: float = 0.5
    occlusion: float = 0.3
    flip: bool = True


def _resampling(start: Float[Array, ""], side: Float[Array, ""], size: int) -> Float[Array, "s s"]:
    """Bilinear weights [output, input] along one axis, for the window [start, start + side) in pixels.

    Pixels outside the picture repeat its edge.
    """
    centre = start + (jnp.arange(size, dtype=jnp.float32) + 0.5) * side / size - 0.5
    distance = jnp.clip(centre, 0.0, size - 1.0)[:, None] - jnp.arange(size, dtype=jnp.float32)[None, :]
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _crop(
    key: Key[Array, ""], image: Float[Array, "s s 3"], box: Float[Array, " 4"], config: Augmentation
) -> tuple[Float[Array, "s s 3"], Float[Array, " 4"]]:
    size = image.shape[0]
    draws = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    side = size * (1.0 + config.scale * draws[0])
    corner = (size - side) / 2 + size * config.shift * draws[1:]
    columns = _resampling(corner[0], side, size)
    rows = _resampling(corner[1], side, size)
    image = jnp.einsum("ai,bj,ijc->abc", rows, columns, image)
    extent = box[2:] - box[:2]
    low = box[:2] + extent * corner / size
    return image, jnp.concatenate([low, low + extent * side / size])


def _recolour(key: Key[Array, ""], image: Float[Array, "s s 3"], strength: float) -> Float[Array, "s s 3"]:
    """Hue turn about the grey axis, saturation, contrast and brightness: one affine map of the channels."""
    draws = strength * jax.random.uniform(key, (4,), minval=-1.0, maxval=1.0)
    angle, saturation, contrast, brightness = (
        jnp.pi * draws[0],
        1 + draws[1],
        1 + 0.5 * draws[2],
        80 * draws[3],
    )
    grey = jnp.full((3, 3), 1.0 / 3.0)
    cross = jnp.asarray([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / jnp.sqrt(3.0)
    turn = jnp.cos(angle) * (jnp.eye(3) - grey) + jnp.sin(angle) * cross
    matrix = contrast * (grey + saturation * turn)
    offset = 128.0 * (1 - contrast) + brightness
    return jnp.clip(jnp.einsum("ijc,dc->ijd", image, matrix) + offset, 0.0, 255.0)


def _occlude(key: Key[Array, ""], image: Float[Array, "s s 3"], probability: float) -> Float[Array, "s s 3"]:
    """A rectangle of a tenth to four tenths of the side, anywhere, in one random colour."""
    size = image.shape[0]
    draws = jax.random.uniform(key, (8,))
    extent = size * (0.1 + 0.3 * draws[0:2])
    low = draws[2:4] * (size - extent)
    pixel = jnp.arange(size, dtype=jnp.float32)
    rows = (pixel >= low[0]) & (pixel < low[0] + extent[0])
    columns = (pixel >= low[1]) & (pixel < low[1] + extent[1])
    covered = rows[:, None] & columns[None, :] & (draws[4] < probability)
    return jnp.where(covered[:, :, None], 255.0 * draws[5:8].reshape(1, 1, 3), image)


def augment(
    keys: Key[Array, " b"],
    images: UInt8[Array, "b v s s 3"],
    box: Float[Array, "b v 4"],
    config: Augmentation,
) -> tuple[Float[Array, "b v s s 3"], Float[Array, "b v 4"], Bool[Array, " b"]]:
    """`(images, box, flipped)`: pixels in 0..255, their boxes in the original frame, and who was mirrored.

    `keys` holds one key per instant. The box is that of the picture before mirroring: a flip is the last
    thing done.
    """

    def view(
        key: Key[Array, ""], image: UInt8[Array, "s s 3"], box: Float[Array, " 4"]
    ) -> tuple[Array, Array]:
        crop, colour, occlusion = jax.random.split(key, 3)
        out = image.astype(jnp.float32)
        if config.scale or config.shift:
            out, box = _crop(crop, out, box, config)
        if config.colour:
            out = _recolour(colour, out, config.colour)
        if config.occlusion:
            out = _occlude(occlusion, out, config.occlusion)
        return out, box

    def instant(key: Key[Array, ""], views: Array, boxes: Array) -> tuple[Array, Array, Array]:
        flip_key, view_key = jax.random.split(key)
        out, boxes = jax.vmap(view)(jax.random.split(view_key, views.shape[0]), views, boxes)
        flipped = (jax.random.uniform(flip_key) < 0.5) & config.flip
        return jnp.where(flipped, out[:, :, ::-1], out), boxes, flipped

    return jax.vmap(instant)(keys, images, box)
