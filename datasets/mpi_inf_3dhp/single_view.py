"""A test sequence: TS1 to TS6, one camera, padded with empty views to as many as a training sequence has."""

import dataclasses

import numpy as np

from datasets.distributions.takes import Footage, Locate, Take, View
from datasets.mpi_inf_3dhp import defects
from datasets.mpi_inf_3dhp.alignment import fit_intrinsics
from datasets.mpi_inf_3dhp.annotations import read_test
from datasets.mpi_inf_3dhp.footage import Options, empty_view, joint_boxes, picture_size
from mcss_jax.errors import UserError

# An assumption: the distribution states none. Only rules about nearness in time depend on it.
FRAME_RATE = 25.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SingleViewTake(Take):
    """Roles of its files: `annotation` and `images`. Every frame is kept, also those that do not count."""

    options: Options

    def read(self, locate: Locate) -> Footage:
        (annotation,), images = self.files["annotation"], self.files["images"]
        annotations = read_test(locate(annotation), annotation.path)
        frames = len(annotations.valid_frame)
        if not annotations.valid_frame.any():
            raise UserError(f"{annotation.path}: no frame counts; `valid_frame` is 1 where one does")
        valid, pictures = annotations.valid_frame, tuple(map(locate, images))
        box = None
        if self.options.box_source == "joints":
            box = joint_boxes(annotations.annot2[0], picture_size(pictures[0], self.name))
        view = View(
            camera="0",
            pictures=pictures,
            intrinsics=fit_intrinsics(
                annotations.annot2[0, valid], annotations.annot3[0, valid], annotation.path
            ),
            extrinsics=np.full((3, 4), np.nan),
            distortion=np.zeros(5),
            pose=annotations.pose(self.options.annotation)[0],
            box=box,
            box_source=self.options.box_source,
            frames=frames,
        )
        padding = [empty_view(frames, self.options.box_source)] * (len(self.options.cameras) - 1)
        return Footage(
            views=(view, *padding),
            frame=np.arange(frames),
            time=np.arange(frames) / FRAME_RATE,
            seconds_per_record=1 / FRAME_RATE,
            frame_rate=FRAME_RATE,
            extra={"valid_frame": valid.tolist(), "activity": annotations.activity},
            notes=self._notes(len(pictures), frames),
        )

    def _notes(self, pictures: int, frames: int) -> tuple[str, ...]:
        """On pictures beyond the annotations, other than the known ones."""
        surplus = pictures - frames
        expected = defects.surplus(defects.of_take(self.name, self.options.annotation))
        if surplus <= 0 or surplus == expected:
            return ()
        return (
            f"{self.name}: there are {pictures} pictures and {frames} annotations, {surplus} pictures more where "
            f"{expected} were expected; those beyond the annotations are left out",
        )
