"""TFDS builder of Human3.6M from the original downloads. README.md has the files and the choices."""

import dataclasses
from collections.abc import Sequence

import tensorflow_datasets as tfds

from datasets.distributions import originals
from datasets.distributions.builder import DistributionBuilder
from datasets.distributions.takes import Inventory
from datasets.human36m.catalogue import SPLITS, take_inventory


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """Every `step`-th frame is kept; in the test split multiples of 64 are kept too."""

    step: int = 1


class Builder(DistributionBuilder):
    """Seven people, fifteen actions, four cameras; people of the test split are in no other."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        Config(
            name="fps10",
            version=tfds.core.Version("1.0.0"),
            description="Every 5th frame; in the test split every 64th too, so that both usual protocols can be read.",
            step=5,
        ),
        Config(name="fps50", version=tfds.core.Version("1.0.0"), description="Every frame."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "Human3.6M is downloaded by hand, after registration, from http://vision.imar.ro/human3.6m/. Needed are, for "
        "each of the subjects S1, S5, S6, S7, S8, S9, S11 (SubjectSpecific_N.tgz with N = 1, 6, 7, 2, 3, 4, 5), Videos "
        "and Poses D3 Positions, and metadata.xml out of the owners' code (code-v1.2.zip, Release v1.1 or v1.2). At "
        "will: Poses D3 Positions mono (checks the cameras) and Segments BBoxes MAT (boxes of the person). Archives "
        "need not be unpacked, and names of archives and outer folders do not matter."
    )

    @property
    def views(self) -> int:
        return 4

    @property
    def split_names(self) -> tuple[str, ...]:
        """Those that the source has takes of."""
        return tuple(split for split in SPLITS if self.takes(split))

    def take_inventory(self, files: Sequence[originals.File]) -> Inventory:
        return take_inventory(files, self.builder_config.step, self._boxes)
