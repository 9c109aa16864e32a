"""Skeletons over crops: where a constructed camera puts the joints, and in which colours."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasets.footage import overlay
from mcss_jax import skeleton

SIDE = 64


def record(**changes: Any) -> dict[str, Any]:
    """Joints on a grid of 100 px in the frame, 2 m before a camera of f = 1000 px; the box cuts 200 px to 300 px."""
    joint = np.arange(17)
    pixels = np.stack([210 + 18 * (joint % 5), 220 + 16 * (joint // 5)], -1).astype(float)
    pose = np.concatenate([(pixels - 250) / 1000 * 2000, np.full((17, 1), 2000.0)], -1)
    defaults = {
        "pose": pose[None].astype(np.float32),
        "intrinsics": np.asarray([[[1000.0, 0, 250], [0, 1000, 250], [0, 0, 1]]]),
        "distortion": np.zeros((1, 5)),
        "box": np.asarray([[200, 200, 300, 300]], np.float32),
    }
    return defaults | changes | {"pixels": pixels}


def test_joints_fall_where_the_camera_puts_them() -> None:
    shown_record = record()
    joints = overlay.crop_joints(shown_record, 0, SIDE)
    np.testing.assert_allclose(joints, (shown_record["pixels"] - 200) / 100 * SIDE, atol=1e-3)
    moved = record(box=np.asarray([[190, 200, 240, 250]], np.float32))
    np.testing.assert_allclose(
        overlay.crop_joints(moved, 0, SIDE), (moved["pixels"] - [190, 200]) / 50 * SIDE, atol=1e-3
    )


def test_distortion_moves_them() -> None:
    """k1 alone: by hand, x (1 + k1 r2)."""
    shown_record = record(distortion=np.asarray([[0.5, 0, 0, 0, 0]]))
    x = (shown_record["pixels"] - 250) / 1000
    bent = 250 + 1000 * x * (1 + 0.5 * (x**2).sum(-1, keepdims=True))
    np.testing.assert_allclose(overlay.crop_joints(shown_record, 0, 100), bent - 200, atol=1e-3)


def behind() -> np.ndarray:
    pose = record()["pose"].copy()
    pose[0, 3, 2] = -1
    return pose


@pytest.mark.parametrize(
    "unknown",
    [
        {"pose": np.full((1, 17, 3), np.nan, np.float32)},
        {"intrinsics": np.full((1, 3, 3), np.nan)},
        {"distortion": np.full((1, 5), np.nan)},
        {"box": np.full((1, 4), np.nan, np.float32)},
        {"pose": behind()},
    ],
)
def test_what_is_not_known_is_not_drawn(unknown: dict[str, np.ndarray]) -> None:
    assert overlay.crop_joints(record(**unknown), 0, SIDE) is None


def test_bones_have_the_colour_of_their_side() -> None:
    """The left side at the left of the picture, the right side at its right, the rest in the middle."""
    joints = np.zeros((17, 2))
    for j in range(17):
        column = 10 if j in skeleton.LEFT else 50 if j in skeleton.RIGHT else 30
        joints[j] = column, 4 + 3 * j
    picture = Image.new("RGB", (SIDE, SIDE))
    overlay.draw_skeleton(picture, joints)
    pixels = np.asarray(picture)

    def columns(colour: tuple[int, int, int]) -> np.ndarray:
        return np.flatnonzero((pixels == colour).all(-1).any(0))

    left, right, centre = (columns(c) for c in (overlay.LEFT, overlay.RIGHT, overlay.CENTRE))
    # A limb starts at the spine, in its own colour: it leaves the middle on its own side only.
    assert left.min() <= 10 and left.max() <= 31 and right.max() >= 49 and right.min() >= 29
    assert set(centre) <= set(range(28, 32))


def test_joints_far_outside_are_drawn_to_the_edge() -> None:
    joints = np.full((17, 2), 1e30)
    joints[0] = 32, 32
    picture = Image.new("RGB", (SIDE, SIDE))
    overlay.draw_skeleton(picture, joints)
    assert np.asarray(picture)[40, 40].any() and not np.asarray(picture)[:30].any()
