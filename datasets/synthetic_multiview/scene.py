"""Cameras, rooms and crops.

Camera convention: X_cam = R @ X_world + t in millimetres, x right, y down, z forward; K in pixels. Boxes are
(x0, y0, x1, y1) in pixel edges of the original frame. `xp` is numpy or jax.numpy, as in `anatomy`.
"""

from types import ModuleType
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from datasets.synthetic_multiview.anatomy import Arrays, hsv_to_rgb

Rooms = Literal["shared", "person", "sequence"]
"""What has a room of its own, with its rig, light and clothes: nobody, every person, or every sequence."""

FRAME_SIZE = 1000  # pixels, both sides, as in Human3.6M
ROOM_HALF = 6000.0  # mm; cameras stand inside
_DRAWS_PER_CAMERA = 6
_ROOM_DRAWS = 20


class Camera(NamedTuple):
    """Extrinsics (R `[..., 3, 3]`, t `[..., 3]` mm) and intrinsics (K `[..., 3, 3]` pixels)."""

    rotation: Arrays
    translation: Arrays
    intrinsics: Arrays


class Room(NamedTuple):
    """What is behind the person, and the light."""

    floor: Arrays  # [3]
    floor_second: Arrays  # [3]
    wall: Arrays  # [3]
    wall_second: Arrays  # [3]
    floor_wavelength: Arrays  # mm
    wall_wavelength: Arrays  # mm
    checks: Arrays  # 0 = planks, 1 = tiles
    light: Arrays  # [3] unit vector towards the light, world frame
    ambient: Arrays
    brightness: Arrays


def rig_draws(seed: int | Array, rig: int | Array, num_cameras: int) -> Float[Array, "cameras draws"]:
    """Uniform draws of one camera rig; the same bits on every processor (threefry)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 11), rig)
    return jax.random.uniform(key, (num_cameras, _DRAWS_PER_CAMERA))


def room_draws(seed: int | Array, room: int | Array) -> Float[Array, " draws"]:
    """Uniform draws of one room; the same bits on every processor (threefry)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 13), room)
    return jax.random.uniform(key, (_ROOM_DRAWS,))


def _unit(vector: Arrays, xp: ModuleType) -> Arrays:
    return vector / xp.sqrt((vector * vector).sum(-1, keepdims=True))


def rig(draws: Arrays, xp: ModuleType) -> Camera:
    """Cameras around the room, one per quarter (for four), looking at its middle; draws `[cameras,
    draws]`."""
    num_cameras = draws.shape[0]
    even = (xp.arange(num_cameras, dtype=draws.dtype) + 0.5) * (2 * np.pi / num_cameras)
    bearing = even + (draws[:, 0] - 0.5) * (0.9 * np.pi / num_cameras)
    distance = 3700.0 + 1700.0 * draws[:, 1]
    height = 1300.0 + 500.0 * draws[:, 2]
    eye = xp.stack([distance * xp.cos(bearing), distance * xp.sin(bearing), height], axis=-1)
    aim = xp.stack(
        [300 * (draws[:, 3] - 0.5), 300 * (draws[:, 4] - 0.5), 850.0 + xp.zeros_like(height)], axis=-1
    )
    forward = _unit(aim - eye, xp)
    up = xp.zeros_like(eye) + xp.asarray([[0.0, 0.0, 1.0]], draws.dtype)
    right = _unit(xp.cross(forward, up), xp)
    rotation = xp.stack([right, xp.cross(forward, right), forward], axis=-2)
    translation = -(rotation * eye[:, None, :]).sum(-1)
    focal, zero, one = 1100.0 + 100.0 * (draws[:, 5] - 0.5), xp.zeros_like(height), xp.ones_like(height)
    middle = one * (FRAME_SIZE / 2)
    rows = ((focal, zero, middle), (zero, focal, middle), (zero, zero, one))
    intrinsics = xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)
    return Camera(rotation, translation, intrinsics)


def room(draws: Arrays, xp: ModuleType) -> Room:
    """The room of a vector of uniforms `[draws]`."""
    tilt, bearing = 0.45 + 0.45 * draws[0], 2 * np.pi * draws[1]
    light = xp.stack([xp.sin(tilt) * xp.cos(bearing), xp.sin(tilt) * xp.sin(bearing), xp.cos(tilt)])
    floor = hsv_to_rgb(draws[2], 0.45 * draws[3], 0.35 + 0.5 * draws[4], xp)
    wall = hsv_to_rgb(draws[5], 0.4 * draws[6], 0.4 + 0.5 * draws[7], xp)
    return Room(
        floor=floor,
        floor_second=floor * (0.65 + 0.5 * draws[8]),
        wall=wall,
        wall_second=wall * (0.6 + 0.5 * draws[9]),
        floor_wavelength=350.0 + 700.0 * draws[10],
        wall_wavelength=500.0 + 1500.0 * draws[11],
        checks=xp.floor(2 * draws[12]),
        light=light,
        ambient=0.38 + 0.2 * draws[13],
        brightness=0.85 + 0.3 * draws[14],
    )


def to_camera(points: Arrays, camera: Camera) -> Arrays:
    """World points `[..., n, 3]` in the frame of a camera (R `[..., 3, 3]`), written out to keep full
    precision."""
    turned = (points[..., :, None, :] * camera.rotation[..., None, :, :]).sum(-1)
    return turned + camera.translation[..., None, :]


def crop_box(points: Arrays, radii: Arrays, camera: Camera, margin: float, xp: ModuleType) -> Arrays:
    """Square box `[..., 4]` around spheres (`[..., n, 3]` mm in the world, `[..., n]` mm) seen by a camera.

    The outline of a sphere in a picture spans exactly the two tangents from the eye in each image
    direction, so the box is the silhouette's, not the joints'. It grows by `margin` of its side on every
    edge and may leave the frame.
    """
    at = to_camera(points, camera)
    depth = at[..., 2]
    reach = depth * depth - radii * radii
    edges = []
    for axis in (0, 1):
        across = at[..., axis]
        swing = radii * xp.sqrt(across * across + reach)
        focal = camera.intrinsics[..., axis, axis]
        centre = camera.intrinsics[..., axis, 2]
        low = xp.min((across * depth - swing) / reach, axis=-1) * focal + centre
        high = xp.max((across * depth + swing) / reach, axis=-1) * focal + centre
        edges.append((low, high))
    (left, right), (top, bottom) = edges
    half = (0.5 + margin) * xp.maximum(right - left, bottom - top)
    x, y = 0.5 * (left + right), 0.5 * (top + bottom)
    return xp.stack([x - half, y - half, x + half, y + half], axis=-1)


def crop_intrinsics(intrinsics: Arrays, box: Arrays, size: int, xp: ModuleType) -> Arrays:
    """Intrinsics `[..., 3, 3]` of the crop `box` (`[..., 4]`) resized to `size` x `size` pixels."""
    scale = size / (box[..., 2] - box[..., 0])
    zero = xp.zeros_like(scale)
    shift = xp.stack([xp.stack([zero, zero, -box[..., 0]], -1), xp.stack([zero, zero, -box[..., 1]], -1),
                      xp.stack([zero, zero, zero], -1)], axis=-2)  # fmt: skip
    moved = intrinsics + shift
    stretch = xp.stack([scale, scale, xp.ones_like(scale)], axis=-1)
    return moved * stretch[..., :, None]
