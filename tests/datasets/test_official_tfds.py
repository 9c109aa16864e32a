"""TFDS's own test case on the builders, as `bash tests/extra.sh` runs it; `test_builders.py` is its twin without
TensorFlow."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "tensorflow", reason="TensorFlow is not installed: tests/extra.sh runs TFDS's own test case"
)

import tensorflow_datasets as tfds  # noqa: E402

from datasets.human36m import human36m_dataset_builder  # noqa: E402
from datasets.mpi_inf_3dhp import mpi_inf_3dhp_dataset_builder  # noqa: E402
from datasets.synthetic_multiview import synthetic_multiview_dataset_builder  # noqa: E402
from tests.distributions import human36m, mpi_inf_3dhp  # noqa: E402

pytestmark = pytest.mark.tf


class _Case(tfds.testing.DatasetBuilderTestCase):
    """What is the same for all: TFDS reads ArrayRecord as no `tf.data`, so the case writes TFRecord."""

    __test__ = False
    EXAMPLE_DIR: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.EXAMPLE_DIR = tempfile.mkdtemp()
        cls.write(Path(cls.EXAMPLE_DIR))
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        shutil.rmtree(cls.EXAMPLE_DIR)

    @classmethod
    def write(cls, folder: Path) -> None:
        """Makes the original files."""

    def _make_builder(self, config: Any = None) -> tfds.core.DatasetBuilder:
        return self.dataset_class(data_dir=self.tmp_dir, config=config, file_format="tfrecord")


class Human36mTest(_Case):
    __test__ = True
    DATASET_CLASS = human36m_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["fps10"]
    SPLITS = {"train": 12, "test": 6}

    @classmethod
    def write(cls, folder: Path) -> None:
        human36m.write(folder, human36m.Distribution())


class MpiInf3dhpTest(_Case):
    __test__ = True
    DATASET_CLASS = mpi_inf_3dhp_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["chest_fps10"]
    SPLITS = {"train": 24, "retrieval": 10, "test": 12}

    @classmethod
    def write(cls, folder: Path) -> None:
        mpi_inf_3dhp.write(folder, mpi_inf_3dhp.Distribution())


class SyntheticMultiviewTest(_Case):
    __test__ = True
    DATASET_CLASS = synthetic_multiview_dataset_builder.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = ["tiny"]
    SPLITS = {"train": 96, "validation": 48, "test": 48}
