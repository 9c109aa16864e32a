"""Augmented pictures, their boxes and their poses say the same."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax import geometry, skeleton
from mcss_jax.augment import Augmentation, augment

SIZE = 32
NOTHING = Augmentation(scale=0.0, shift=0.0, colour=0.0, occlusion=0.0, flip=False)
augmented = jax.jit(augment, static_argnames="config")


def keys(n: int, seed: int = 0) -> jax.Array:
    return jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(n))


def pictures(n: int, views: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, views, SIZE, SIZE, 3)).astype(np.uint8)


def boxes(n: int, views: int = 2) -> np.ndarray:
    corner = np.random.default_rng(1).uniform(0, 500, (n, views, 2))
    return np.concatenate([corner, corner + 160], axis=-1).astype(np.float32)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    images, box = pictures(6), boxes(6)
    whole = augmented(keys(6), images, box, config=Augmentation())
    again = augmented(keys(6), images, box, config=Augmentation())
    part = augmented(keys(6)[2:4], images[2:4], box[2:4], config=Augmentation())
    for first, second, third in zip(whole, again, part, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first[2:4], third, atol=1e-3)
    # Different keys draw different things, and so do the views of one instant.
    same = np.broadcast_to(images[:1, :1], images.shape)
    augmented_pixels = np.asarray(augmented(keys(6), same, box, config=Augmentation(flip=False))[0]).reshape(
        12, -1
    )
    assert len(np.unique(augmented_pixels.round(2), axis=0)) == 12


def test_all_zero_is_the_identity() -> None:
    images, box = pictures(3), boxes(3)
    augmented_pixels, new_box, flipped = augmented(keys(3), images, box, config=NOTHING)
    np.testing.assert_allclose(augmented_pixels, images, atol=1e-3)
    np.testing.assert_array_equal(new_box, box)
    assert augmented_pixels.dtype == jnp.float32 and not np.asarray(flipped).any()


def test_values_stay_in_range_and_unknown_boxes_unknown() -> None:
    box = np.full((4, 2, 4), np.nan, np.float32)
    strongest = Augmentation(scale=0.5, shift=0.3, colour=1.0, occlusion=1.0)
    augmented_pixels, new_box, _ = augmented(keys(4), pictures(4), box, config=strongest)
    assert (
        np.isfinite(augmented_pixels).all() and augmented_pixels.min() >= 0 and augmented_pixels.max() <= 255
    )
    assert np.isnan(new_box).all()


def test_the_box_follows_the_crop() -> None:
    """Pixels that hold their own place in the original frame hold it still after the crop."""
    n = 8
    box = boxes(n, 1)
    step = (box[..., 2:] - box[..., :2]) / SIZE
    centres = np.arange(SIZE) + 0.5
    # A ramp of 4 grey levels a pixel from 64 on, so that uint8 holds it exactly.
    ramp = np.broadcast_to(4 * np.arange(SIZE, dtype=np.uint8) + 64, (SIZE, SIZE))
    image = np.stack([ramp, ramp.T, np.zeros_like(ramp)], axis=-1)
    images = np.broadcast_to(image, (n, 1, SIZE, SIZE, 3))
    config = dataclasses.replace(NOTHING, scale=0.2, shift=0.1)
    augmented_pixels, new_box, _ = (np.asarray(x) for x in augmented(keys(n), images, box, config=config))
    assert np.abs(new_box - box).max() > 5
    for i in range(n):
        for axis in range(2):
            low, high = new_box[i, 0, axis], new_box[i, 0, axis + 2]
            place = low + centres * (high - low) / SIZE
            pixel = np.clip((place - box[i, 0, axis]) / step[i, 0, axis] - 0.5, 0, SIZE - 1)
            seen = augmented_pixels[i, 0, :, :, axis] if axis == 0 else augmented_pixels[i, 0, :, :, axis].T
            np.testing.assert_allclose(seen, np.broadcast_to(4 * pixel + 64, (SIZE, SIZE)), atol=2e-2)


def test_a_flip_mirrors_all_views_and_leaves_the_box() -> None:
    images, box = pictures(32), boxes(32)
    augmented_pixels, new_box, flipped = augmented(
        keys(32), images, box, config=dataclasses.replace(NOTHING, flip=True)
    )
    assert 4 < np.asarray(flipped).sum() < 28
    expected = np.where(np.asarray(flipped)[:, None, None, None, None], images[:, :, :, ::-1], images)
    np.testing.assert_allclose(augmented_pixels, expected, atol=1e-3)
    np.testing.assert_array_equal(new_box, box)


def test_occluders_cover_as_often_and_as_much_as_said() -> None:
    images = np.full((200, 1, SIZE, SIZE, 3), 128, np.uint8)
    half = dataclasses.replace(NOTHING, occlusion=0.5)
    augmented_pixels = np.asarray(augmented(keys(200), images, boxes(200, 1), config=half)[0])[:, 0]
    share = (np.abs(augmented_pixels - 128) > 0.1).any(axis=-1).mean(axis=(1, 2))
    assert 70 < (share > 0).sum() < 130
    assert share.max() <= 0.45**2
    always = dataclasses.replace(NOTHING, occlusion=1.0)
    augmented_pixels = np.asarray(augmented(keys(200), images, boxes(200, 1), config=always)[0])[:, 0]
    assert (np.abs(augmented_pixels - 128) > 0.1).any(axis=(1, 2, 3)).all()


def test_colour_leaves_grey_grey_and_zero_strength_alone() -> None:
    grey = np.full((8, 1, SIZE, SIZE, 3), 120, np.uint8)
    colour = dataclasses.replace(NOTHING, colour=1.0)
    augmented_pixels = np.asarray(augmented(keys(8), grey, boxes(8, 1), config=colour)[0])
    np.testing.assert_allclose(
        augmented_pixels, np.broadcast_to(augmented_pixels[..., :1], augmented_pixels.shape), atol=1e-2
    )
    assert np.ptp(augmented_pixels[:, 0, 0, 0, 0]) > 10


@pytest.mark.parametrize("flip", [False, True])
def test_dots_at_the_joints_stay_at_the_joints(flip: bool) -> None:
    """A person drawn as dots, augmented: the augmented target, projected into the augmented crop, finds them.

    This ties together the crop, its box, the virtual camera that looks through the box and the mirrored label.
    """
    size, n = 96, 6
    rng = np.random.default_rng(2)
    pose = rng.uniform(-500, 500, (17, 3)).astype(np.float32) * (1, 1, 0.2) + (60, -40, 6000)
    intrinsics = np.asarray([[1100.0, 0, 500], [0, 1100, 500], [0, 0, 1]], np.float32)
    pixels = pose[:, :2] / pose[:, 2:] * 1100 + 500
    middle = pose[:, :2].mean(0) / 6000 * 1100 + 500
    box = np.concatenate([middle - 140, middle + 140]).astype(np.float32)
    # One dot a picture: joint j of instant i, so that every dot is known by name.
    yx = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1) + 0.5
    for joint in (skeleton.LHIP, 3, 16):
        at = (pixels[joint] - box[:2]) / (box[2:] - box[:2]) * size
        dot = 255 * np.exp(-np.sum((yx - at[::-1]) ** 2, -1) / 8)
        image = np.broadcast_to(np.round(dot)[:, :, None].astype(np.uint8), (n, 1, size, size, 3))
        config = dataclasses.replace(NOTHING, scale=0.1, shift=0.1, flip=flip)
        augmented_pixels, new_box, flipped = augmented(
            keys(n, joint), image, np.broadcast_to(box, (n, 1, 4)), config=config
        )
        assert np.asarray(flipped).any() == flip
        for i in range(n):
            # As `train_step` makes the target: into the virtual camera, then the mirror.
            turn = np.asarray(geometry.look_through(intrinsics, new_box[i, 0]))
            virtual = pose.astype(np.float32) @ turn
            if flipped[i]:
                virtual = np.asarray(skeleton.mirror(jnp.asarray(virtual)))
            seen = np.asarray(augmented_pixels[i, 0, :, :, 0], np.float64)
            weight = seen / seen.sum()
            place = np.sum(weight[:, :, None] * yx, axis=(0, 1))[::-1]
            side = float(new_box[i, 0, 2] - new_box[i, 0, 0])
            # The virtual camera has the crop's centre as principal point; off-axis shear stays below a pixel.
            name = skeleton.MIRROR[joint] if flipped[i] else joint
            expected = virtual[name, :2] / virtual[name, 2] * 1100 / side * size + size / 2
            np.testing.assert_allclose(place, expected, atol=1.0)
