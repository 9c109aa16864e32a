"""The square crop: what tests/datasets/test_boxes.py does not say of it."""

import numpy as np
import pytest
from PIL import Image

from mcss_jax import crop


@pytest.mark.parametrize(
    ("size", "square"),
    [((40, 20), [0, -10, 40, 30]), ((15, 30), [-7.5, 0, 22.5, 30]), ((9, 9), [0, 0, 9, 9])],
)
def test_the_square_about_a_whole_picture(size: tuple[int, int], square: list[float]) -> None:
    np.testing.assert_array_equal(crop.whole(*size), square)


@pytest.mark.parametrize(("side", "most"), [(190, 0), (320, 4), (640, 4)])
def test_averaging_first_is_nearly_the_same(side: int, most: int) -> None:
    """On noise, its worst case; up to six times the crop's side it is the same."""
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    exact = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    apart = np.abs(crop.crop_resize(image, crop.whole(side, side), 32) - exact)
    assert apart.max() <= most and (most == 0 or apart.max() > 0)
