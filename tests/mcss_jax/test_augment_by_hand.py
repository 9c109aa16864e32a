"""Every setting of the augmentation: the same draws, and the pictures made of them pixel by pixel in NumPy."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import pytest

from mcss_jax.augment import Augmentation, augment

SIZE = 16
AUGMENTATION = Augmentation(scale=0.2, shift=0.1, colour=0.4, occlusion=0.6, flip=True)
CHANGED_AUGMENTATION: dict[str, Any] = {
    "scale": 0.4,
    "shift": 0.02,
    "colour": 0.9,
    "occlusion": 0.1,
    "flip": False,
}


def resampled(picture: np.ndarray, corner: np.ndarray, side: float, mirrored: bool) -> np.ndarray:
    """Bilinear, pixel by pixel; beyond the picture its edge is repeated."""
    out = np.zeros_like(picture)
    for row in range(SIZE):
        for column in range(SIZE):
            from_column = SIZE - 1 - column if mirrored else column
            y, x = (
                float(np.clip(low + (at + 0.5) * side / SIZE - 0.5, 0, SIZE - 1))
                for low, at in ((corner[1], row), (corner[0], from_column))
            )
            top, left = int(y), int(x)
            below, right = min(top + 1, SIZE - 1), min(left + 1, SIZE - 1)
            a, b = y - top, x - left
            upper = (1 - b) * picture[top, left] + b * picture[top, right]
            lower = (1 - b) * picture[below, left] + b * picture[below, right]
            out[row, column] = (1 - a) * upper + a * lower
    return out


def augmented_by_hand(
    key: jax.Array, views: np.ndarray, of: Augmentation
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Pictures, boxes (of crops that were the whole frame) and whether an instant is mirrored."""
    flip_key, view_key = jax.random.split(key)
    mirrored = bool(jax.random.uniform(flip_key) < 0.5) and of.flip
    pictures, boxes = [], []
    for view, own in zip(views.astype(np.float64), jax.random.split(view_key, len(views)), strict=True):
        crop, colour, occlusion = jax.random.split(own, 3)
        u = np.asarray(jax.random.uniform(colour, (4,), minval=-1.0, maxval=1.0), np.float64) * of.colour
        angle, saturation, contrast, brightness = math.pi * u[0], 1 + u[1], 1 + 0.5 * u[2], 80 * u[3]
        grey = np.full((3, 3), 1 / 3)
        cross = np.asarray([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        turn = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
        matrix, offset = contrast * (grey + saturation * turn), 128 * (1 - contrast) + brightness
        coloured = np.clip(view @ matrix.T + offset, 0, 255)
        draws = np.asarray(jax.random.uniform(occlusion, (8,)), np.float64)
        extent = SIZE * (0.1 + 0.3 * draws[:2])
        low = draws[2:4] * (SIZE - extent)
        if draws[4] < of.occlusion:
            inside = [(np.arange(SIZE) >= low[i]) & (np.arange(SIZE) < low[i] + extent[i]) for i in range(2)]
            coloured[np.outer(*inside)] = 255 * draws[5:8]
        u = np.asarray(jax.random.uniform(crop, (3,), minval=-1.0, maxval=1.0), np.float64)
        side = SIZE * (1 + of.scale * u[0])
        corner = (SIZE - side) / 2 + SIZE * of.shift * u[1:]
        pictures.append(resampled(coloured, corner, side, mirrored))
        boxes.append([*corner, *(corner + side)])
    return np.stack(pictures), np.asarray(boxes), mirrored


@pytest.mark.parametrize("field", ["none", *CHANGED_AUGMENTATION])
def test_augmentation(field: str) -> None:
    of = (
        AUGMENTATION
        if field == "none"
        else dataclasses.replace(AUGMENTATION, **{field: CHANGED_AUGMENTATION[field]})
    )
    keys = jax.random.split(jax.random.key(3), 4)
    views = np.random.default_rng(2).integers(0, 256, (4, 2, SIZE, SIZE, 3)).astype(np.uint8)
    whole = np.broadcast_to(np.asarray([0, 0, SIZE, SIZE], np.float32), (4, 2, 4))
    pixels, boxes, flipped = jax.jit(augment, static_argnums=3)(keys, views, whole, of)
    for i in range(4):
        with jax.debug_key_reuse(False):  # the same draws, once more
            wanted, box, mirrored = augmented_by_hand(keys[i], views[i], of)
        np.testing.assert_allclose(pixels[i], wanted, atol=0.05)
        np.testing.assert_allclose(boxes[i], box, atol=1e-3)
        assert bool(flipped[i]) == mirrored
    if field != "none":
        with jax.debug_key_reuse(False):
            differs = jax.jit(augment, static_argnums=3)(keys, views, whole, AUGMENTATION)
        assert np.abs(np.asarray(differs[0]) - np.asarray(pixels)).max() > 1, "the change shows"


def test_no_setting_is_without_its_formula() -> None:
    assert {field.name for field in dataclasses.fields(Augmentation)} == set(CHANGED_AUGMENTATION)
