"""The people, the room and the cameras of the miniature Human3.6M: all invented.

Every picture carries its number and bright markers at some joints, so that what was prepared can be held
against what was filmed: `read_number` and `find_marker` read them back from a crop.
"""

import math

import numpy as np

from datasets.tuples.records import decode_jpeg
from mcss_jax import geometry

MARKERS = {10: (255, 40, 40), 3: (40, 230, 40), 6: (70, 70, 255), 13: (230, 230, 30), 16: (230, 40, 230)}
"""Joints (of the 17) that are marked, and their colours: head, feet, wrists."""
JOINTS17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)

BITS, CELL, BELOW = 10, (6, 9), 11  # of a frame number; pixels of each (x, y); pixels from the hip down to it
MARKER_RADIUS = 3.0


def placement(subject: str, camera: int) -> np.ndarray:
    """Three angles and the centre (mm) of camera 0 to 3: corners of a room, a little different for each subject."""
    s = int(subject[1:])
    bearing = math.radians(40 + 95 * camera + 3 * s)
    centre = np.array([4300 * math.cos(bearing), 4300 * math.sin(bearing), 1500.0 + 40 * camera + 10 * s])
    forward = np.array([60.0, -40.0, 900.0]) - centre
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    a = math.atan2(-rotation[1, 2], rotation[2, 2])
    b = math.asin(rotation[0, 2])
    g = math.atan2(-rotation[0, 1], rotation[0, 0])
    return np.array([a, b, g, *centre])


def extrinsics(subject: str, camera: int) -> np.ndarray:
    """World to camera of camera 0 to 3, from its angles: R = Rx(a) Ry(b) Rz(g), t = -R C."""
    a, b, g, *centre = placement(subject, camera)
    (sa, sb, sg), (ca, cb, cg) = np.sin([a, b, g]), np.cos([a, b, g])
    rotation = np.array(
        [
            [cb * cg, -cb * sg, sb],
            [ca * sg + sa * sb * cg, ca * cg - sa * sb * sg, -sa * cb],
            [sa * sg - ca * sb * cg, sa * cg + ca * sb * sg, ca * cb],
        ]
    )
    return np.column_stack([rotation, -rotation @ centre])


def lens(camera: int, size: int) -> np.ndarray:
    """fx, fy, cx, cy, k1, k2, k3, p1, p2 of camera 0 to 3."""
    c = camera
    middle = size / 2
    return np.array(
        [
            1.4 * size + c,
            1.4 * size - c,
            middle + 2 - c,
            middle - 3 + c,
            -0.15,
            0.1,
            0.02,
            0.004 - 0.001 * c,
            -0.003,
        ]
    )


def poses(subject: str, count: int) -> np.ndarray:
    """float64[count, 32, 3]: an invented person who walks a small circle, arms raised. World, millimetres."""
    s = int(subject[1:])
    tall = 1.0 + 0.01 * s
    rest = np.zeros((32, 3))
    sides = {  # x: to the person's left; y: ahead; z: up
        "hip": (120, 0, 0), "knee": (160, 60, -440), "ankle": (210, 0, -860), "toe": (220, 130, -900),
        "shoulder": (170, 0, 480), "elbow": (420, 60, 560), "wrist": (560, 80, 800), "hand": (580, 90, 860),
    }  # fmt: skip
    for side, joints in ((-1, (1, 2, 3, 4, 25, 26, 27, 30)), (1, (6, 7, 8, 9, 17, 18, 19, 22))):
        for joint, place in zip(joints, sides.values(), strict=True):
            rest[joint] = np.array(place) * [side, 1, 1]
    for joint, height in ((12, 240), (13, 490), (14, 600), (15, 720)):
        rest[joint] = [0, 10, height]
    # Duplicates and end sites.
    for copy, joint in {
        5: 4,
        10: 9,
        11: 0,
        16: 13,
        24: 13,
        20: 19,
        28: 27,
        21: 19,
        29: 27,
        23: 22,
        31: 30,
    }.items():
        rest[copy] = rest[joint]
    time = np.arange(count) / 50.0
    turn = 0.2 * np.sin(3 * time + s)
    rest = rest * tall + np.array([0, 0, 910 * tall])
    swing = 60 * np.sin(6 * time + s)
    body = np.repeat(rest[None], count, axis=0)
    for joint, sign in ((3, 1), (8, -1), (19, 1), (27, -1)):
        body[:, joint, 1] += sign * swing
    x = np.cos(turn)[:, None] * body[..., 0] - np.sin(turn)[:, None] * body[..., 1]
    y = np.sin(turn)[:, None] * body[..., 0] + np.cos(turn)[:, None] * body[..., 1]
    return np.stack(
        [x + 250 * np.cos(2 * time + s)[:, None], y + 250 * np.sin(2 * time + s)[:, None], body[..., 2]],
        axis=-1,
    )


def pixels(subject: str, camera: int, size: int, world: np.ndarray) -> np.ndarray:
    """Where points of the world lie in the picture of camera 0 to 3."""
    numbers = lens(camera, size)
    fx, fy, cx, cy = numbers[:4]
    intrinsics = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    return np.asarray(
        geometry.project(geometry.to_camera(world, extrinsics(subject, camera)), intrinsics, numbers[4:])
    )


# -------- pictures


def picture_size(camera: int, size: int, tall: bool = False) -> tuple[int, int]:
    """Width and height of camera 0 to 3's pictures."""
    return size, size + (2 if tall or camera in (0, 3) else 0)


def film(subject: str, camera: int, size: int, picture: tuple[int, int], count: int) -> np.ndarray:
    """uint8[count, h, w, 3]: the person before a still wall, with number and markers; `picture` is (w, h)."""
    width, height = picture
    wall = np.random.default_rng(camera).integers(40, 90, (height // 6 + 1, width // 6 + 1))
    wall = wall.repeat(6, 0).repeat(6, 1)[:height, :width]
    pictures = np.repeat(np.repeat(wall[None, ..., None], 3, -1), count, 0).astype(np.uint8)
    joints = pixels(subject, camera, size, poses(subject, count)[:, JOINTS17])
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for n in range(count):
        low, high = joints[n].min(0), joints[n].max(0)
        centre, half = (low + high) / 2, (high - low) / 2
        pictures[n][np.hypot((x - centre[0]) / (0.6 * half[0]), (y - centre[1]) / half[1]) < 1] = 130
        for bit, white in enumerate(_code(n)):
            left, top = _cell(joints[n, 0], bit)
            pictures[n, top : top + CELL[1], left : left + CELL[0]] = 255 if white else 0
        for joint, colour in MARKERS.items():
            left, top = (max(0, int(side) - 6) for side in joints[n, joint])
            part = slice(top, top + 13), slice(left, left + 13)
            distance = np.hypot(x[part] - joints[n, joint, 0], y[part] - joints[n, joint, 1])
            cover = np.clip(MARKER_RADIUS + 0.5 - distance, 0, 1)[..., None]
            pictures[n][part] = np.round(pictures[n][part] * (1 - cover) + np.array(colour) * cover)
    return pictures


def _code(number: int) -> list[bool]:
    """White, black, and the bits of a number: the first two tell whether it is there."""
    return [True, False, *(bool(number >> bit & 1) for bit in range(BITS))]


def _cell(hip: np.ndarray, bit: int) -> tuple[int, int]:
    left = round(hip[0]) + round((bit - (BITS + 2) / 2) * CELL[0])
    return left, round(hip[1]) + BELOW


def read_number(crop: np.ndarray, box: np.ndarray, hip: np.ndarray) -> int:
    """The number of the frame that a crop shows.

    Args:
      crop: uint8[s, s, 3], cut out of `box` (x0, y0, x1, y1 in the original frame).
      hip: the projected hip, pixels of the original frame.

    Raises:
      AssertionError: there is no number.
    """
    scale = len(crop) / (box[2] - box[0])
    joints = []
    for bit in range(BITS + 2):
        corner = np.array(_cell(hip, bit)) - box[:2]
        x, y = np.round((corner + np.array(CELL) / 2) * scale).astype(int)
        joints.append(crop[y - 1 : y + 2, x - 1 : x + 2].mean() > 127)
    assert joints[:2] == [True, False], "no frame number where the hip is"
    return sum(bool(white) << bit for bit, white in enumerate(joints[2:]))


def check_view(example: dict, v: int) -> None:
    """A stored view shows the frame that it should, and its joints, projected, lie within 0.5 px of the markers."""
    crop, box = decode_jpeg(example["images"][v]), example["box"][v]
    points = np.asarray(
        geometry.project(example["pose"][v].astype(float), example["intrinsics"][v], example["distortion"][v])
    )
    assert read_number(crop, box, points[0]) == example["frame"]
    for joint in MARKERS:
        assert np.linalg.norm(find_marker(crop, box, joint, points[joint]) - points[joint]) < 0.5


def find_marker(crop: np.ndarray, box: np.ndarray, joint: int, near: np.ndarray) -> np.ndarray:
    """Where the marker of a joint is, pixels of the original frame: its centroid, looked for close to `near`."""
    scale = len(crop) / (box[2] - box[0])
    colour = np.array(MARKERS[joint])
    x, y = np.meshgrid(np.arange(len(crop)) + 0.5, np.arange(len(crop)) + 0.5)
    at = (np.asarray(near) - box[:2]) * scale
    bright = colour > 127
    picture = crop.astype(float)
    weight = picture[..., bright].min(-1) - picture[..., ~bright].max(-1)
    weight = np.where(
        np.hypot(x - at[0], y - at[1]) < 2.5 * MARKER_RADIUS * scale, np.maximum(weight - 30, 0), 0
    )
    assert weight.sum() > 0, f"no marker of joint {joint} near {near}"
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum() / scale + box[:2]
