"""The square crop that is the network's input: cut out of a picture, black where it leaves it, resized."""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mcss_jax.errors import UserError

# Far larger squares are first averaged down to three times the crop: a third of the time, at most two grey levels off.
REDUCING_GAP = 3.0
LARGEST_SIDE = 8192  # pixels of a square, where the picture itself is no larger


def enclosing_square(width: int, height: int) -> Float[np.ndarray, "4"]:
    """The square (x0, y0, x1, y1; pixels) about a whole picture."""
    centre, half = np.array([width, height]) / 2, max(width, height) / 2
    return np.concatenate([centre - half, centre + half])


def largest_side(width: int, height: int) -> int:
    """Pixels that the side of a square of such a picture may have: larger ones are a mistake that fills the memory."""
    return max(LARGEST_SIDE, width, height)


def crop_resize(
    image: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, "4"], size: int
) -> UInt8[np.ndarray, "s s 3"]:
    """Cut `box` (x0, y0, x1, y1; pixels) out and resize it to `size` x `size`, antialiased; black beyond the picture.

    Raises:
        UserError: the box has no area, is not finite, or is far larger than the picture.
    """
    x0, y0, x1, y1 = (float(side) for side in box)
    if not (math.isfinite(x0 + y0 + x1 + y1) and x1 > x0 and y1 > y0):
        raise UserError(
            f"box ({x0}, {y0}, {x1}, {y1}) has no area; x0 < x1 and y0 < y1, in pixels, were expected."
        )
    left, top, right, bottom = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
    part = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    height, width = bottom - top, right - left
    if (
        max(height, width) > largest_side(image.shape[1], image.shape[0]) + 1
    ):  # its edges may lie between pixels
        raise UserError(
            f"box ({x0}, {y0}, {x1}, {y1}) is far larger than the picture; pixels of the picture were expected."
        )
    if part.shape[:2] != (height, width):
        canvas = np.zeros((height, width, 3), np.uint8)
        if part.size:
            y, x = max(-top, 0), max(-left, 0)
            canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
        part = canvas
    # Pillow's bilinear filter widens with the reduction: it is antialiased, and exact for fractional boxes.
    return np.asarray(
        Image.fromarray(part).resize(
            (size, size),
            Image.Resampling.BILINEAR,
            box=(x0 - left, y0 - top, x1 - left, y1 - top),
            reducing_gap=REDUCING_GAP,
        )
    )
