"""From the original files to stored tuples: pictures, numbers and poses belong together."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.human36m.human36m_dataset_builder import Builder
from datasets.tuples import tuple_builder
from tests.distributions import human36m, human36m_scene
from tests.refusals import refused

SUBJECTS = {"train": ("S1",), "test": ("S11",)}


@pytest.fixture(scope="module", params=["mpeg4", "h264"])
def prepared(request, tmp_path_factory) -> Builder:
    """Two takes of two people; S11's Directions has a video of 0 bytes and one far longer than its poses."""
    folder = tmp_path_factory.mktemp(request.param)
    distribution = human36m.Distribution(
        subjects=("S1", "S11"),
        takes=((2, 2), (9, 1)),
        frames=6,
        codec=request.param,
        spare={("S11", 2, 2): 9},
    )
    human36m.write(folder / "source", distribution)
    builder = Builder(config="fps50", source=folder / "source", boxes="joints", data_dir=folder / "data")
    tfds.disable_progress_bar()
    builder.download_and_prepare()
    return builder


@pytest.mark.parametrize("split", ["train", "test"])
def test_pictures_numbers_and_poses_belong_together(prepared, split) -> None:
    rows = tuple_builder.sequence_table(prepared.info, split)
    assert [(row.subject, row.action, row.length) for row in rows] == [
        (subject, *take) for subject in SUBJECTS[split] for take in (("Directions", 6), ("Sitting", 8))
    ]
    records = prepared.as_data_source(split=split)
    assert len(records) == 14
    for example in records:
        shown = example["view_valid"]
        assert shown.tolist() == [split == "train" or example["action"] == b"Sitting", True, True, True]
        for v in np.flatnonzero(shown):
            human36m_scene.check_view(example, v)


def test_what_a_builder_says_of_itself(human36m_source: Path, tmp_path: Path) -> None:
    builder = Builder(source=human36m_source, data_dir=tmp_path)
    assert builder.builder_config.name == "fps10" and builder.views == 4
    assert builder.split_names == ("train", "test")
    assert [len(builder.takes(split)) for split in builder.split_names] == [4, 2]
    assert {take.step for take in builder.inventory.takes} == {5}
    for word in (
        "SubjectSpecific_N.tgz",
        "metadata.xml",
        "code-v1.2.zip",
        "D3 Positions",
        "Segments BBoxes MAT",
    ):
        assert word in builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert "Ionescu" in builder.info.citation and "Human3.6M" in builder.info.description


def test_a_split_of_nobody_is_left_out(tmp_path: Path) -> None:
    human36m.write(tmp_path / "source", human36m.Distribution(subjects=("S9",), takes=((9, 1),), frames=2))
    assert Builder(source=tmp_path / "source", data_dir=tmp_path).split_names == ("test",)


def test_a_source_is_needed(tmp_path: Path) -> None:
    with refused("source", "SubjectSpecific_N.tgz"):
        _ = Builder(data_dir=tmp_path).inventory
