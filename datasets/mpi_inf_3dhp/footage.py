"""What training and test sequences have in common: options, boxes of joints, views without pictures."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from PIL import Image

from datasets.distributions.takes import BoxSource, View
from datasets.footage import boxes
from datasets.mpi_inf_3dhp.annotations import Annotation
from mcss_jax.errors import UserError
from mcss_jax.skeleton import NUM_JOINTS


@dataclasses.dataclass(frozen=True)
class Options:
    """How the distribution is read.

    Attributes:
      cameras: the views of a training sequence, 0 to 13; a test sequence is padded to as many.
      native: every frame of the training sequences in place of about ten per second.
      annotation: which one is the pose.
      boxes: where person boxes come from.
      retrieval_subjects: training subjects of the split `retrieval`.
    """

    cameras: tuple[int, ...]
    native: bool
    annotation: Annotation
    boxes: BoxSource
    retrieval_subjects: tuple[str, ...]

    @property
    def box_source(self) -> Literal["joints", "static"]:
        """Of every view: the finder's, unless joints were asked for; there are no masks."""
        return "joints" if self.boxes == "joints" else "static"


def joint_boxes(joints: Float[np.ndarray, "n 17 2"], size: tuple[int, int]) -> Float[np.ndarray, "n 4"]:
    """Boxes about the joints (pixels), widened on every side by a tenth of the longer one.

    NaN where a joint is unknown, all are in one point, or the box lies outside the picture of `size` (width,
    height).
    """
    box = boxes.around_joints(joints)
    low, high = box[:, :2], box[:, 2:]
    in_picture = ((high > low) & (high > 0) & (low < np.array(size))).all(axis=-1, keepdims=True)
    return np.where(in_picture, box, np.nan)


def picture_size(path: Path, what: str) -> tuple[int, int]:
    """Width and height of a JPEG file of `what`. Raises UserError when it is none."""
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{what}: {path} is not a readable JPEG; it is truncated or damaged") from error


def empty_view(frames: int, box_source: Literal["joints", "static"]) -> View:
    """What a single-view sequence of `frames` kept frames is padded with."""
    return View(
        camera="",
        pictures=(),
        intrinsics=np.full((3, 3), np.nan),
        extrinsics=np.full((3, 4), np.nan),
        distortion=np.full(5, np.nan),
        pose=np.full((frames, NUM_JOINTS, 3), np.nan),
        box=None,
        box_source=box_source,
        frames=0,
    )
