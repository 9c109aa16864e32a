"""A record's own joints over its own pictures: a wrong camera, or left and right exchanged, is seen at once."""

from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from mcss_jax import geometry, skeleton

LEFT, RIGHT, CENTRE = (255, 66, 66), (64, 160, 255), (255, 222, 64)
LEGEND = "left red, right blue, spine yellow"
# Far outside any picture; lines longer than that are slow to draw.
_FAR = 1e4


def crop_joints(record: dict[str, Any], view: int, side: int) -> Float[np.ndarray, "17 2"] | None:
    """Where a view's joints lie in its crop when that is drawn `side` pixels wide, by the record's own camera.

    None when pose, intrinsics, distortion or box are not all known, or a joint does not lie before the camera.
    """
    pose, box = record["pose"][view].astype(float), record["box"][view].astype(float)
    intrinsics, distortion = record["intrinsics"][view], record["distortion"][view]
    is_complete = all(np.isfinite(part).all() for part in (pose, intrinsics, distortion, box))
    if not is_complete or (pose[:, 2] <= 0).any():
        return None
    pixels = geometry.project(pose, intrinsics, distortion)
    return (pixels - box[:2]) / (box[2:] - box[:2]) * side


def draw_skeleton(picture: Image.Image, joints: Float[np.ndarray, "17 2"], width: int = 2) -> None:
    """Draws the bones into `picture`, each in the colour of its side; joints at pixel edges, as boxes are."""
    pen = ImageDraw.Draw(picture)
    at = np.clip(joints - 0.5, -_FAR, _FAR)
    for parent, joint in skeleton.BONES:
        colour = LEFT if joint in skeleton.LEFT else RIGHT if joint in skeleton.RIGHT else CENTRE
        pen.line([tuple(at[parent]), tuple(at[joint])], fill=colour, width=width)
