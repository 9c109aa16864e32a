"""Every defect of the table, prepared from end to end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.mpi_inf_3dhp import defects, multi_view
from datasets.mpi_inf_3dhp.joints import FROM_ANNOTATED
from datasets.mpi_inf_3dhp.mpi_inf_3dhp_dataset_builder import Builder
from datasets.tuples import pipeline
from datasets.tuples.records import decode_jpeg
from mcss_jax import geometry
from mcss_jax.skeleton import JOINTS
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

WHAT = distribution.defective()


def prepare(folder: Path, what: distribution.Distribution, annotation: str) -> Builder:
    distribution.write(folder / "source", what)
    tfds.disable_progress_bar()
    builder = Builder(
        config="chest_native",
        source=folder / "source",
        boxes="joints",
        annotation=annotation,
        size=200,
        data_dir=folder / "data",
    )
    builder.download_and_prepare()
    return builder


def opened(builder: Builder, split: str) -> pipeline.Split:
    return pipeline.open_split(Path(builder._data_dir_root), "mpi_inf_3dhp/chest_native", split)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defects, "DEFECTS", distribution.known_defects(WHAT))
        return prepare(tmp_path_factory.mktemp("measured"), WHAT, "annot3")


def records(builder: Builder, split: str, subject: str) -> list[dict[str, Any]]:
    data = opened(builder, split)
    (row,) = (row for row in data.table if row.subject == subject)
    return [data[row.first + k] for k in range(row.length)]


def check(record: dict[str, Any]) -> None:
    """Every valid view shows the frame, and left and right where the pose has them."""
    for v in np.flatnonzero(record["view_valid"]):
        crop, box = decode_jpeg(record["images"][v]), record["box"][v].astype(float)
        pixels = np.asarray(
            geometry.project(
                record["pose"][v].astype(float), record["intrinsics"][v], record["distortion"][v]
            )
        )
        assert distribution.drawn_number(crop, box, pixels[JOINTS.index("Spine")]) == record["frame"]
        for joint in distribution.MARKERS:
            assert np.abs(distribution.marker(crop, box, joint) - pixels[JOINTS.index(joint)]).max() < 0.5


def test_the_last_annotation_of_s3_is_left_out(measured: Builder) -> None:
    stored = records(measured, "train", "S3")
    assert [record["frame"] for record in stored] == list(range(19))
    assert all(record["view_valid"].all() for record in stored)
    check(stored[-1])


def test_left_and_right_of_s4_are_put_right_and_the_take_is_whole(measured: Builder) -> None:
    stored = records(measured, "train", "S4")
    assert len(stored) == 20
    for record in stored[4:16]:
        check(record)
    assert {row.subject: row.defect for row in opened(measured, "train").table} == {
        "S3": "",
        "S4": "",
        "S6": "",
    }


def test_the_short_camera_of_s6_is_invalid_from_its_end(measured: Builder) -> None:
    stored = records(measured, "train", "S6")
    shown = np.stack([record["view_valid"] for record in stored])
    assert shown.tolist() == [[True, k < 8, True, True, True] for k in range(20)]
    for k in (0, 7, 8, 19):
        check(stored[k])


@pytest.mark.parametrize("subject", ["TS3", "TS4", "TS6"])
def test_pictures_beyond_the_annotations_are_left_out(measured: Builder, subject: str) -> None:
    stored = records(measured, "test", subject)
    assert [record["frame"] for record in stored] == list(range(12))
    check(stored[0])
    check(stored[-1])
    assert not any(row.defect for row in opened(measured, "test").table)


def test_what_stays_is_marked(tmp_path: Path) -> None:
    """The knees of TS6; and S4, whose exchange lies elsewhere than reported."""
    what = distribution.defective(sequences=("S4/Seq2",), tests=("TS3", "TS6"), size=64)
    builder = prepare(tmp_path, what, "univ_annot3")
    (row,) = opened(builder, "train").table
    assert row.defect == defects.not_confirmed((3759, 5852))
    clean, bent = opened(builder, "test").table
    assert clean.defect == "" and bent.defect == "knees and ankles of univ_annot3 are not those of annot3"
    true = distribution.annotated(what, "TS6", 0, 12)["univ_annot3"]
    poses = np.stack([record["pose"][0] for record in records(builder, "test", "TS6")])
    np.testing.assert_allclose(poses, true[:, FROM_ANNOTATED], rtol=0, atol=1e-3)


def test_annotations_beyond_the_videos_do_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`frames` has an entry for every annotation, the published table one for every picture."""
    what = distribution.Distribution(
        sequences=("S1/Seq1",), tests=(), frames=20, size=64, lacking={"S1/Seq1": 5}
    )
    with refused("15 frames", "20 poses"):
        prepare(tmp_path / "without", what, "annot3")
    monkeypatch.setitem(multi_view.FRAMES, "S1/Seq1", 15)
    builder = prepare(tmp_path / "with", what, "annot3")
    stored = records(builder, "train", "S1")
    assert [record["frame"] for record in stored] == list(range(15))
    assert all(record["view_valid"].all() for record in stored)
    (take,) = builder.inventory.takes
    assert take.read(lambda file: Path(file.source) / file.path).notes == (
        "S1/Seq1/annot.mat: 20 frames are annotated, but the videos have 15; the last 5 are left out",
    )
