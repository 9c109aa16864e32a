"""TFDS builder for MPI-INF-3DHP, from the files its owners distribute. README.md has what is done with them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
import tensorflow_datasets as tfds

from datasets.distributions.builder import DistributionBuilder
from datasets.distributions.originals import File
from datasets.distributions.takes import BoxSource, Inventory
from datasets.mpi_inf_3dhp.annotations import Annotation
from datasets.mpi_inf_3dhp.catalogue import take_inventory
from datasets.mpi_inf_3dhp.footage import Options
from datasets.mpi_inf_3dhp.layout import SUBJECTS
from mcss_jax.errors import UserError

# Source: docs/data_formats.md#mpi-inf-3dhp-training-files-and-cameras; the default download is `vnect`.
CAMERA_SETS = {
    "vnect": (0, 1, 2, 4, 5, 6, 7, 8),
    "chest": (0, 2, 4, 7, 8),
    "relevant": tuple(range(11)),
    "all": tuple(range(14)),
}
_WHAT = {
    "vnect": "eight cameras at chest and knee height and angled down, those that are downloaded by default",
    "chest": "five cameras at chest height",
    "relevant": "all eleven cameras but those of the ceiling",
    "all": "all fourteen cameras",
}


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """A camera set and a sampling of the training sequences.

    Attributes:
      cameras: by number.
      native: every frame, in place of about ten per second.
    """

    cameras: tuple[int, ...] = ()
    native: bool = False


def _config(name: str, native: bool) -> Config:
    sampling = "every frame" if native else "about 10 frames per second"
    return Config(
        name=f"{name}_{'native' if native else 'fps10'}",
        version=tfds.core.Version("1.0.0"),
        description=f"{_WHAT[name]}; {sampling}".capitalize() + " of the training sequences.",
        cameras=CAMERA_SETS[name],
        native=native,
    )


class Builder(DistributionBuilder):
    """Training sequences as splits `train` and `retrieval` (by subject), the test set as `test`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [_config(name, native) for native in (False, True) for name in CAMERA_SETS]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "From https://vcai.mpi-inf.mpg.de/3dhp-dataset/ (after its licence was accepted), for S1 to S8, Seq1 and "
        "Seq2: annot.mat, camera.calibration and imageSequence/vnect_cameras.zip (for the sets `relevant` and `all` "
        "also other_angled_cameras.zip, for `all` also ceiling_cameras.zip), in folders as its get_dataset.sh makes "
        "them; and mpi_inf_3dhp_test_set.zip. Zips may stay as they are or be extracted."
    )
    megapixels = 2048**2 / 1e6

    def __init__(
        self,
        *,
        boxes: BoxSource = "auto",
        annotation: str = "univ_annot3",
        retrieval_subjects: Sequence[str] = ("S7", "S8"),
        **kwargs: Any,
    ) -> None:
        """As `DistributionBuilder`, and:

        Args:
            boxes: `mask` is refused: silhouettes of this distribution are not read.
            annotation: which 3D annotation is the pose; the official evaluation is on `univ_annot3`.
            retrieval_subjects: training subjects that make the split `retrieval`; the others make `train`.

        Raises:
            UserError: an unknown annotation, subject or box source.
        """
        if boxes == "mask":
            raise UserError(
                "boxes is 'mask', but no masks of MPI-INF-3DHP are read; auto, static or joints was expected"
            )
        if annotation not in get_args(Annotation):
            raise UserError(
                f"annotation is {annotation!r}; one of {', '.join(get_args(Annotation))} was expected"
            )
        unknown = sorted(set(retrieval_subjects) - set(SUBJECTS))
        if unknown:
            raise UserError(
                f"retrieval_subjects names {', '.join(unknown)}; training subjects, {SUBJECTS[0]} to {SUBJECTS[-1]}, "
                "were expected"
            )
        self._annotation = cast(Annotation, annotation)
        self._retrieval_subjects = tuple(sorted(set(retrieval_subjects)))
        super().__init__(boxes=boxes, **kwargs)

    @property
    def views(self) -> int:
        return len(self.builder_config.cameras)

    @property
    def split_names(self) -> tuple[str, ...]:
        """Those of `train`, `retrieval` and `test` that the source holds anything of."""
        return tuple(dict.fromkeys(take.split for take in self.inventory.takes))

    @property
    def extra_features(self) -> dict[str, tfds.features.FeatureConnector]:
        """Of the test set: whether the official evaluation counts the instant, and its activity."""
        return {"valid_frame": tfds.features.Scalar(np.bool_), "activity": tfds.features.Text()}

    @property
    def specification(self) -> dict[str, Any]:
        return {
            **super().specification,
            "annotation": self._annotation,
            "retrieval_subjects": list(self._retrieval_subjects),
        }

    def take_inventory(self, files: Sequence[File]) -> Inventory:
        return take_inventory(
            files,
            Options(
                cameras=self.builder_config.cameras,
                native=self.builder_config.native,
                annotation=self._annotation,
                boxes=self._boxes,
                retrieval_subjects=self._retrieval_subjects,
            ),
        )
