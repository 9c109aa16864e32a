"""The square crop: what tests/datasets/footage/test_boxes.py does not say of it."""

import numpy as np
import pytest
from PIL import Image

from mcss_jax import crop
from tests.refusals import refused


@pytest.mark.parametrize(
    ("size", "square"),
    [((40, 20), [0, -10, 40, 30]), ((15, 30), [-7.5, 0, 22.5, 30]), ((9, 9), [0, 0, 9, 9])],
)
def test_the_square_about_a_whole_picture(size: tuple[int, int], square: list[float]) -> None:
    np.testing.assert_array_equal(crop.enclosing_square(*size), square)


@pytest.mark.parametrize(("side", "most"), [(190, 0), (320, 4), (640, 4)])
def test_averaging_first_is_nearly_the_same(side: int, most: int) -> None:
    """On noise, its worst case; up to six times the crop's side it is the same."""
    image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    exact = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    apart = np.abs(crop.crop_resize(image, crop.enclosing_square(side, side), 32) - exact)
    assert apart.max() <= most and (most == 0 or apart.max() > 0)


def slow(image: np.ndarray, box: list[float], size: int, gap: float | None) -> np.ndarray:
    """Through the whole square, copied into black."""
    left, top, right, bottom = (round(edge) for edge in (*np.floor(box[:2]), *np.ceil(box[2:])))
    canvas = np.zeros((bottom - top, right - left, 3), np.uint8)
    rows, columns = np.arange(len(image)), np.arange(image.shape[1])
    y, x = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    canvas[np.ix_(rows[y] - top, columns[x] - left)] = image[np.ix_(y, x)]
    within = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    resized = Image.fromarray(canvas).resize(
        (size, size), Image.Resampling.BILINEAR, box=within, reducing_gap=gap
    )
    return np.asarray(resized)


SQUARES = [
    [-900.0, -700, 300, 500],  # the picture in the middle
    [20.25, 10.5, 820.25, 810.5],  # begins within it: what lies outside the square gives nothing
    [-751.5, -760.25, 48.5, 39.75],  # ends within it
    [-400.0, 2000, 400, 2800],  # beside it
]


@pytest.mark.parametrize("box", SQUARES)
@pytest.mark.parametrize("size", [5, 32])
def test_a_square_is_a_copy_into_black(box: list[float], size: int) -> None:
    image = np.random.default_rng(3).integers(0, 256, (70, 90, 3), np.uint8)
    seen = crop.crop_resize(image, np.array(box), size)
    np.testing.assert_array_equal(seen, slow(image, box, size, 3.0))
    assert seen.any() == (box[1] < 70)


@pytest.mark.parametrize("side", [1e5, 1e9, 1e15])
def test_a_square_far_larger_than_the_picture(side: float) -> None:
    """The first would be a copy of 30 GB, the others more than any machine has."""
    with refused("far larger than the picture", "pixels"):
        crop.crop_resize(
            np.zeros((50, 60, 3), np.uint8), np.array([-side / 2, -side / 2, side / 2, side / 2]), 32
        )


def test_a_panorama_is_not_far_larger_than_itself() -> None:
    seen = crop.crop_resize(np.full((20, 12_001, 3), 255, np.uint8), crop.enclosing_square(12_001, 20), 32)
    assert seen.any() and not seen[0].any()
