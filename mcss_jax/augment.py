"""Random crops, flips, colours and occluders on uint8 tuples, on the device.

All draws come from one key per instant, so that a sample is augmented the same way on any number of devices. Views
of an instant get their own crop, colours and occluder (cameras differ); a flip mirrors all of them together, and the
caller exchanges left and right.

What is drawn is small and drawn view by view. The pixels are then changed for the whole batch at once, plane by
plane: colours and occluder, then crop and flip as two matrix products.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, UInt8

from mcss_jax.setting import Bounds, setting

SHARE = Bounds(at_least=0, at_most=1)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Strength of each random change; zero switches it off."""

    scale: float = setting(0.1, "Crop side varies by this fraction.", SHARE)
    shift: float = setting(0.05, "Crop centre moves by up to this fraction of the side.", SHARE)
    colour: float = setting(0.5, "Strength of colour changes, 0 to 1.", SHARE)
    occlusion: float = setting(0.3, "Probability that a rectangle covers part of a view.", SHARE)
    flip: bool = setting(True, "Mirror half of the instants, left and right exchanged.")


class _Change(NamedTuple):
    """What happens to one view: the crop's two resampling matrices [output, input], the colours' affine map, and the
    rows, columns and colour of the occluder."""

    rows: Float[Array, "*n s s"]
    columns: Float[Array, "*n s s"]
    matrix: Float[Array, "*n 3 3"]
    offset: Float[Array, "*n"]
    covered_rows: Bool[Array, "*n s"]
    covered_columns: Bool[Array, "*n s"]
    cover: Float[Array, "*n 3"]


def _window(
    key: Key[Array, ""], size: int, config: Augmentation
) -> tuple[Float[Array, " 2"], Float[Array, ""]]:
    """Upper left corner and side of the crop, in pixels of the picture."""
    draws = jax.random.uniform(key, (3,), minval=-1.0, maxval=1.0)
    side = size * (1.0 + config.scale * draws[0])
    return (size - side) / 2 + size * config.shift * draws[1:], side


def _resampling(
    start: Float[Array, ""], side: Float[Array, ""], output: Float[Array, " s"]
) -> Float[Array, "s s"]:
    """Bilinear weights [output, input] along one axis, for the window [start, start + side) in pixels.

    Pixels outside the picture repeat its edge.
    """
    size = output.shape[0]
    # Pixel k covers [k, k + 1): half a pixel takes centres to coordinates, and back.
    centre = start + (output + 0.5) * side / size - 0.5
    distance = jnp.clip(centre, 0.0, size - 1.0)[:, None] - jnp.arange(size, dtype=jnp.float32)[None, :]
    return jnp.maximum(1.0 - jnp.abs(distance), 0.0)


def _colours(key: Key[Array, ""], strength: float) -> tuple[Float[Array, "3 3"], Float[Array, ""]]:
    """Hue turn about the grey axis, saturation, contrast and brightness, as one affine map of the channels."""
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
    return contrast * (grey + saturation * turn), 128.0 * (1 - contrast) + brightness


def _occluder(
    key: Key[Array, ""], size: int, probability: float
) -> tuple[Bool[Array, " s"], Bool[Array, " s"], Float[Array, " 3"]]:
    """Rows, columns and colour of a rectangle of a tenth to four tenths of the side, anywhere; or no rows."""
    draws = jax.random.uniform(key, (8,))
    extent = size * (0.1 + 0.3 * draws[0:2])
    low = draws[2:4] * (size - extent)
    pixel = jnp.arange(size, dtype=jnp.float32)
    rows, columns = ((pixel >= low[i]) & (pixel < low[i] + extent[i]) for i in range(2))
    return rows & (draws[4] < probability), columns, 255.0 * draws[5:8]


def _change(
    key: Key[Array, ""], box: Float[Array, " 4"], flipped: Bool[Array, ""], size: int, config: Augmentation
) -> tuple[_Change, Float[Array, " 4"]]:
    """One view's change, and the box that its crop covers in the original frame."""
    crop, colour, occlusion = jax.random.split(key, 3)
    row = jnp.arange(size, dtype=jnp.float32)
    column = jnp.where(flipped, row[::-1], row)  # the column of the picture before mirroring
    corner, side = _window(crop, size, config)
    if config.scale or config.shift:
        extent = box[2:] - box[:2]
        low = box[:2] + extent * corner / size
        box = jnp.concatenate([low, low + extent * side / size])
    change = _Change(
        _resampling(corner[1], side, row),
        _resampling(corner[0], side, column),
        *_colours(colour, config.colour),
        *_occluder(occlusion, size, config.occlusion),
    )
    return change, box


def _apply(images: UInt8[Array, "n s s 3"], change: _Change, cropped: bool) -> Float[Array, "n s s 3"]:
    # One array per channel: passes over channels that lie side by side take a CPU four times as long.
    planes = [images[..., i].astype(jnp.float32) for i in range(3)]
    covered = change.covered_rows[:, :, None] & change.covered_columns[:, None, :]

    def plane(channel: int) -> Float[Array, "n s s"]:
        weights = change.matrix[:, channel, :, None, None]
        x = sum(weights[:, i] * planes[i] for i in range(3)) + change.offset[:, None, None]
        x = jnp.where(covered, change.cover[:, channel, None, None], jnp.clip(x, 0.0, 255.0))
        if cropped:
            x = jnp.einsum("nai,nij->naj", change.rows, x)
        return jnp.einsum("naj,nbj->nab", x, change.columns)

    return jnp.stack([plane(channel) for channel in range(3)], axis=-1)


def augment(
    keys: Key[Array, " b"],
    images: UInt8[Array, "b v s s 3"],
    box: Float[Array, "b v 4"],
    config: Augmentation,
) -> tuple[Float[Array, "b v s s 3"], Float[Array, "b v 4"], Bool[Array, " b"]]:
    """`(images, box, flipped)`: augmented pixels in 0..255, their boxes in the original frame, and who was mirrored.

    `keys` holds one key per instant. The box is that of the picture before mirroring: a flip is the last thing done.
    """
    views, size = images.shape[1:3]

    def instant(key: Key[Array, ""], boxes: Float[Array, "v 4"]) -> tuple[_Change, Array, Array]:
        flip_key, view_key = jax.random.split(key)
        flipped = (jax.random.uniform(flip_key) < 0.5) & config.flip
        draw = jax.vmap(lambda key, box: _change(key, box, flipped, size, config))
        return *draw(jax.random.split(view_key, views), boxes), flipped

    change, box, flipped = jax.vmap(instant)(keys, box)
    change = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), change)
    pixels = _apply(images.reshape(-1, *images.shape[2:]), change, cropped=bool(config.scale or config.shift))
    return pixels.reshape(images.shape), box, flipped
