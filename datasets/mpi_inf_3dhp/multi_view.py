"""A training sequence: S1 to S8, Seq1 and Seq2, in the cameras of a set."""

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from datasets.distributions.takes import Footage, Locate, Take, View
from datasets.footage import video
from datasets.mpi_inf_3dhp import alignment, defects
from datasets.mpi_inf_3dhp.annotations import Annotations, read_training
from datasets.mpi_inf_3dhp.calibration import Camera, read_calibration
from datasets.mpi_inf_3dhp.footage import Options, joint_boxes, picture_size
from mcss_jax.errors import UserError

# The videos have 50 frames per second; all others 25: docs/data_formats.md#mpi-inf-3dhp-annotations-and-frame-rates.
FIFTY = ("S1/Seq2", "S3/Seq1", "S3/Seq2", "S5/Seq1", "S5/Seq2")
# Frames of the videos, of which some annotations have more: margipose's
# sequence_info.json, mmpose's preprocess_mpi_inf_3dhp.py and a third table agree.
FRAMES = {
    "S1/Seq1": 6416, "S2/Seq1": 6502, "S3/Seq1": 12488, "S4/Seq1": 6171,
    "S1/Seq2": 12430, "S2/Seq2": 6081, "S3/Seq2": 12283, "S4/Seq2": 6675,
    "S5/Seq1": 12820, "S6/Seq1": 6188, "S7/Seq1": 6239, "S8/Seq1": 6468,
    "S5/Seq2": 12312, "S6/Seq2": 6145, "S7/Seq2": 6320, "S8/Seq2": 6054,
}  # fmt: skip
SAMPLED = 10.0  # instants per second that are aimed at
RATE_TOLERANCE = 0.01


def frame_rate(take: str) -> float:
    """Of the videos of `S1/Seq1`, say, as published; frames per second."""
    return 50.0 if take in FIFTY else 25.0


def step(rate: float, native: bool) -> int:
    """Frames from one kept frame to the next: 2 at 25 and 5 at 50 frames per second.

    A divisor of 10, so that the frames whose number is a multiple of 10 are always kept (the retrieval
    protocol's, docs/data_formats.md#pr-vipe-protocol-and-frame-keys).
    """
    return 1 if native else min((1, 2, 5, 10), key=lambda n: abs(np.log(rate / n / SAMPLED)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MultiViewTake(Take):
    """Roles of its files: `annotation`, `calibration`, and the number of each camera that has pictures."""

    place: str
    options: Options

    def read(self, locate: Locate) -> Footage:
        options, take_defects = self.options, defects.of_take(self.place, self.options.annotation)
        (annotation,), (calibration,) = self.files["annotation"], self.files["calibration"]
        cameras = self._cameras(locate(calibration).read_bytes(), calibration.path)
        annotations = read_training(locate(annotation), annotation.path, options.cameras, FRAMES[self.place])
        alignment.check_cameras(cameras, annotations.annot2, annotations.annot3, self.place)
        pose, notes, defect = self._pose(annotations, take_defects)
        if annotations.left_out:
            notes.append(
                f"{annotation.path}: {pose.shape[1] + annotations.left_out} frames are annotated, but the videos have "
                f"{FRAMES[self.place]}; the last {annotations.left_out} are left out"
            )

        pictures = {k: tuple(map(locate, self.files.get(str(k), ()))) for k in options.cameras}
        length = pose.shape[1]
        short = {k: defects.short_by(take_defects, k, length) for k in options.cameras}
        rate = self._rate(
            {k: paths[0] for k, paths in pictures.items() if paths and short[k] < length}, cameras, notes
        )
        spacing = step(rate, options.native)
        frame = np.arange(0, length, spacing)
        views = [
            self._view(v, k, cameras[str(k)], pictures[k], annotations, pose, frame, short[k])
            for v, k in enumerate(options.cameras)
        ]
        return Footage(
            views=tuple(views),
            frame=frame,
            time=frame / rate,
            seconds_per_record=spacing / rate,
            frame_rate=rate,
            extra={"valid_frame": [True] * len(frame), "activity": [""] * len(frame)},
            notes=tuple(notes),
            defect=defect,
        )

    def _cameras(self, content: bytes, name: str) -> dict[str, Camera]:
        """The set's cameras, by name. Raises UserError when one is missing."""
        cameras = read_calibration(content.decode("utf-8", errors="replace"), name)
        for k in self.options.cameras:
            if k not in cameras:
                raise UserError(
                    f"{name}: holds no camera {k}; it has {', '.join(map(str, sorted(cameras))) or 'none'}"
                )
        return {str(k): cameras[k] for k in self.options.cameras}

    def _rate(self, first: dict[int, Path], cameras: dict[str, Camera], notes: list[str]) -> float:
        """Frames per second: the videos' own, or the published one where there are only pictures."""
        published, rate = frame_rate(self.place), 0.0
        for k, path in first.items():
            own_rate = _check_picture(path, cameras[str(k)], f"{self.place}, camera {k}")
            if own_rate is not None and rate and abs(own_rate / rate - 1) > RATE_TOLERANCE:
                raise UserError(
                    f"{self.place}: the video of camera {k} has {own_rate:g} frames per second where others have "
                    f"{rate:g}; synchronised ones were expected: {path} was converted, download it again"
                )
            rate = rate or own_rate or 0.0
        if rate and abs(rate / published - 1) > RATE_TOLERANCE:
            notes.append(
                f"{self.place}: the videos have {rate:g} frames per second where {published:g} were expected; times "
                f"are counted with {rate:g}"
            )
            return rate
        return published

    def _pose(
        self, annotations: Annotations, take_defects: tuple[defects.Defect, ...]
    ) -> tuple[Float[np.ndarray, "v f 17 3"], list[str], str | None]:
        """The chosen annotation, with left and right put right where it shows that they were exchanged.

        Also notes on that, and `Footage.defect`: what is still wrong then.
        """
        pose = annotations.pose(self.options.annotation)
        reported = next((d.exchanged for d in take_defects if d.exchanged is not None), None)
        if reported is None:
            return pose, [], None
        stretch = defects.exchanged_stretch(pose[0], reported)
        if stretch is None:
            defect = defects.not_confirmed(reported)
            return pose, [f"{self.place}: {defect}"], defect
        note = (
            f"{self.place}: left and right were exchanged in frames {stretch[0]} to {stretch[1]} and are put right: "
            "the annotation shows it at both ends"
        )
        return defects.put_right(pose, stretch), [note], ""

    def _view(
        self,
        v: int,
        k: int,
        camera: Camera,
        pictures: tuple[Path, ...],
        annotations: Annotations,
        pose: Float[np.ndarray, "v f 17 3"],
        frame: Int[np.ndarray, " n"],
        short_by: int,
    ) -> View:
        joints = self.options.box_source == "joints"
        return View(
            camera=str(k),
            pictures=pictures,
            intrinsics=camera.intrinsics,
            extrinsics=camera.extrinsics,
            distortion=np.zeros(5),
            pose=pose[v, frame],
            box=joint_boxes(annotations.annot2[v, frame], camera.size) if joints else None,
            box_source=self.options.box_source,
            frames=pose.shape[1],
            short_by=short_by,
        )


def _check_picture(path: Path, camera: Camera, what: str) -> float | None:
    """Frames per second of a video, None of a JPEG file. Raises UserError for another size than the camera's."""
    if path.suffix == ".jpg":
        size, rate = picture_size(path, what), None
    else:
        info = video.probe(path)
        size, rate = (info.width, info.height), info.frame_rate
    if size != camera.size:
        raise UserError(
            f"{what}: {path} has {size[0]} x {size[1]} pixels where camera.calibration has "
            f"{camera.size[0]} x {camera.size[1]}: it was resized, and its joints would not fit"
        )
    return rate
