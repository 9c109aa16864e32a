"""One take of Human3.6M, read: poses in every camera's frame, cameras and person boxes."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from datasets.distributions.takes import BoxSource, Footage, Locate, Take, View
from datasets.footage import boxes
from datasets.human36m.files import Kind
from datasets.human36m.metadata import Camera
from datasets.human36m.poses import JOINTS17, read_mask_boxes, read_pose
from mcss_jax import geometry
from mcss_jax.errors import UserError

FRAME_RATE = 50.0
TEST_STEP = 64
"""Test frames at multiples of this are kept too: one of the two usual protocols (docs/data_formats.md)."""
MONO_TOLERANCE = 1.0  # millimetres
MONO_FRAMES = 10  # of each camera are compared


def role(kind: Kind, camera: str = "") -> str:
    """What a take calls a file of its own."""
    return f"{kind.name.lower()} {camera}".rstrip()


def kept_frames(count: int, split: str, step: int) -> Int[np.ndarray, " n"]:
    """Which of `count` frames are kept: multiples of `step`, in the test split multiples of 64 too."""
    frame = np.arange(count)
    kept = frame % step == 0
    if split == "test":
        kept |= frame % TEST_STEP == 0
    return frame[kept]


def joint_box(
    pose: Float[np.ndarray, "n 17 3"],
    intrinsics: Float[np.ndarray, "3 3"],
    distortion: Float[np.ndarray, "5"],
) -> Float[np.ndarray, "n 4"]:
    """Boxes about the projected joints, widened by 10 % of the longer side; NaN with a joint behind the camera.

    Args:
        pose: joints in the camera's frame, millimetres.
        intrinsics, distortion: the camera's.
    """
    box = np.full((len(pose), 4), np.nan)
    ahead = (pose[..., 2] > 0).all(axis=-1)
    points = np.asarray(geometry.project(pose[ahead], intrinsics, distortion))
    box[ahead] = boxes.around_joints(points)
    return box


@dataclasses.dataclass(frozen=True, kw_only=True)
class Human36mTake(Take):
    """A take of Human3.6M, planned.

    `files` are called by `role`; those of masks are among them only where boxes are to come from them.

    Attributes:
      cameras: of this subject, in the order of `metadata.xml`.
      poses: how many there should be, by `metadata.xml`.
      step: every `step`-th frame is kept.
      boxes: where person boxes come from.
      unreadable: cameras whose video is known to be damaged in most downloads.
    """

    cameras: tuple[Camera, ...]
    poses: int
    step: int
    boxes: BoxSource
    unreadable: tuple[str, ...] = ()

    def read(self, locate: Locate) -> Footage:
        (file,) = self.files[role(Kind.POSES)]
        world = read_pose(locate(file), file.path)[:, JOINTS17]
        frame = kept_frames(len(world), self.split, self.step)
        notes: tuple[str, ...] = ()
        if len(world) != self.poses:
            notes = (f"{self.name}: {len(world)} poses are there, metadata.xml speaks of {self.poses}",)
        return Footage(
            views=tuple(self._view(camera, world, frame, locate) for camera in self.cameras),
            frame=frame,
            time=frame / FRAME_RATE,
            seconds_per_record=self.step / FRAME_RATE,
            frame_rate=FRAME_RATE,
            notes=notes,
        )

    def _view(
        self,
        camera: Camera,
        world: Float[np.ndarray, "f 17 3"],
        frame: Int[np.ndarray, " n"],
        locate: Locate,
    ) -> View:
        self._check_against_mono(camera, world, locate)
        pose = np.asarray(geometry.to_camera(world[frame], camera.extrinsics))
        masks = self.files.get(role(Kind.MASKS, camera.name), ())
        box: Float[np.ndarray, "n 4"] | None = None
        box_source: Literal["mask", "static", "joints"] = "static"
        if self.boxes == "joints":
            box, box_source = joint_box(pose, camera.intrinsics, camera.distortion), "joints"
        elif masks:
            box, box_source = read_mask_boxes(locate(masks[0]), frame, masks[0].path), "mask"
        return View(
            camera=camera.name,
            pictures=tuple(locate(file) for file in self.files.get(role(Kind.VIDEO, camera.name), ())),
            intrinsics=camera.intrinsics,
            extrinsics=camera.extrinsics,
            distortion=camera.distortion,
            pose=pose.astype(np.float32),
            box=box,
            box_source=box_source,
            frames=len(world),
            short_by=len(world) if camera.name in self.unreadable else 0,
        )

    def _check_against_mono(self, camera: Camera, world: Float[np.ndarray, "f 17 3"], locate: Locate) -> None:
        """Where the same poses are there in the camera's frame too, the cameras must bring one onto the other."""
        for file in self.files.get(role(Kind.MONO, camera.name), ()):
            mono = read_pose(locate(file), file.path)[:, JOINTS17]
            if len(mono) != len(world):
                raise UserError(
                    f"{file.path} holds {len(mono)} poses; {len(world)} were expected, as in the world's frame"
                )
            some = np.unique(np.linspace(0, len(world) - 1, MONO_FRAMES).astype(int))
            apart = float(np.abs(geometry.to_camera(world[some], camera.extrinsics) - mono[some]).max())
            if apart > MONO_TOLERANCE:
                raise UserError(
                    f"{self.name}, camera {camera.name}: the poses of {file.path} lie up to {apart:.1f} mm from where "
                    "metadata.xml's camera puts those of the world's frame; metadata.xml does not belong to this data"
                )
