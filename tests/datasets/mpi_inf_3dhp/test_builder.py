"""The builder: options, names of configurations, and a set made from a miniature from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.mpi_inf_3dhp.mpi_inf_3dhp_dataset_builder import Builder
from datasets.tuples import pipeline
from datasets.tuples.records import decode_jpeg
from mcss_jax import geometry
from mcss_jax.skeleton import JOINTS
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

WHAT = distribution.Distribution(
    sequences=("S1/Seq1", "S3/Seq1", "S7/Seq2"), tests=("TS1",), frames=21, lacking={"S3/Seq1": 1}
)
NAME = "mpi_inf_3dhp/chest_fps10"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, data_dir = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("data")
    distribution.write(source, WHAT)
    tfds.disable_progress_bar()
    builder = Builder(
        config="chest_fps10", source=source, boxes="joints", annotation="annot3", size=200, data_dir=data_dir
    )
    builder.download_and_prepare()
    return data_dir


def test_configurations() -> None:
    assert list(Builder.builder_configs) == [
        f"{cameras}_{sampling}"
        for sampling in ("fps10", "native")
        for cameras in ("vnect", "chest", "relevant", "all")
    ]
    views = {name: config.cameras for name, config in Builder.builder_configs.items()}
    assert views["vnect_native"] == (0, 1, 2, 4, 5, 6, 7, 8) and views["chest_fps10"] == (0, 2, 4, 7, 8)
    assert views["relevant_fps10"] == tuple(range(11)) and views["all_fps10"] == tuple(range(14))
    builder = Builder(data_dir="nowhere")
    assert builder.builder_config.name == "vnect_fps10" and builder.views == 8
    assert set(builder.info.features) >= {"valid_frame", "activity", "images"}


def test_specification_names_what_decides_the_poses() -> None:
    builder = Builder(data_dir="nowhere", retrieval_subjects=["S8", "S2", "S8"])
    assert builder.specification == {
        "boxes": "auto", "size": 256, "margin": 0.1, "annotation": "univ_annot3", "retrieval_subjects": ["S2", "S8"],
    }  # fmt: skip
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    assert "annot.mat" in instructions and "mpi_inf_3dhp_test_set.zip" in instructions


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"boxes": "mask"}, ("boxes is 'mask'", "MPI-INF-3DHP")),
        ({"annotation": "annot2"}, ("annotation is 'annot2'", "univ_annot3, annot3")),
        ({"retrieval_subjects": ("S7", "S9", "TS1")}, ("retrieval_subjects", "S9, TS1", "S1 to S8")),
    ],
)  # fmt: skip
def test_refused_options(options: dict[str, Any], facts: tuple[str, ...]) -> None:
    with refused(*facts):
        Builder(data_dir="nowhere", **options)


def test_splits_are_those_that_there_is_something_of(prepared: Path, tmp_path: Path) -> None:
    rows = {
        split: [(row.subject, row.action) for row in pipeline.open_split(prepared, NAME, split).table]
        for split in ("train", "retrieval", "test")
    }
    assert rows == {
        "train": [("S1", "Seq1"), ("S3", "Seq1")],
        "retrieval": [("S7", "Seq2")],
        "test": [("TS1", "TS1")],
    }
    distribution.write(
        tmp_path, distribution.Distribution(sequences=("S1/Seq1",), tests=(), frames=2, size=64)
    )
    assert Builder(data_dir="nowhere", source=tmp_path).split_names == ("train",)
    alone = Builder(data_dir="nowhere", source=tmp_path, retrieval_subjects=("S1",))
    assert alone.split_names == ("retrieval",)


def in_crop(record: dict[str, Any], v: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Crop, its box, and the joints of the record's own pose in the picture."""
    pixels = geometry.project(
        record["pose"][v].astype(np.float64), record["intrinsics"][v], record["distortion"][v]
    )
    return decode_jpeg(record["images"][v]), record["box"][v].astype(np.float64), np.asarray(pixels)


@pytest.mark.parametrize(
    ("split", "sequence", "step"), [("train", 0, 2), ("train", 1, 5), ("retrieval", 0, 2)]
)
def test_every_view_shows_the_frame_and_the_pose(
    prepared: Path, split: str, sequence: int, step: int
) -> None:
    data = pipeline.open_split(prepared, NAME, split)
    row = data.table[sequence]
    for k in range(row.length):
        record = data[row.first + k]
        assert record["frame"] == k * step
        assert record["view_valid"].all() and record["has_pose"] and record["valid_frame"]
        for v in range(5):
            crop, box, pixels = in_crop(record, v)
            assert distribution.drawn_number(crop, box, pixels[JOINTS.index("Spine")]) == record["frame"]
            for joint in distribution.MARKERS:
                marked = distribution.marker(crop, box, joint)
                assert np.abs(marked - pixels[JOINTS.index(joint)]).max() < 0.5, (joint, v, k)


def test_an_annotation_without_a_picture_is_left_out(prepared: Path) -> None:
    """S3 Seq1 has poses for 21 frames and pictures of 20."""
    assert pipeline.open_split(prepared, NAME, "train").table[1].runs == ((0, 5, 4),)
    assert pipeline.open_split(prepared, NAME, "train").table[0].runs == ((0, 2, 11),)


def test_test_set_has_one_view_and_says_what_counts(prepared: Path) -> None:
    data = pipeline.open_split(prepared, NAME, "test")
    assert data.records == 12
    for k in range(12):
        record = data[k]
        assert record["view_valid"].tolist() == [True, False, False, False, False]
        assert record["frame"] == k and bool(record["valid_frame"]) == distribution.counts(k)
        assert record["has_pose"] and np.isnan(record["extrinsics"]).all()
        crop, box, pixels = in_crop(record, 0)
        assert distribution.drawn_number(crop, box, pixels[JOINTS.index("Spine")]) == k
        assert np.abs(distribution.marker(crop, box, "Head") - pixels[JOINTS.index("Head")]).max() < 0.5
    assert bytes(data[3]["activity"]).decode() == "Reaching/Crouching"
