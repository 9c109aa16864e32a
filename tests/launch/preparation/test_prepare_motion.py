"""`--motion`: from the user's BVH files to a prepared set."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.tuples import pipeline, tuple_builder
from launch.preparation import prepare
from launch.preparation.settings import Prepare
from mcss_jax import skeleton
from tests.datasets.synthetic_multiview import bvh_files
from tests.refusals import refused

JOINTS = bvh_files.skeleton()
# Of synthetic_multiview/tiny before there was --motion: runs on the generated sets go on.
TINY_FINGERPRINT = "484c5e4b4088a963"
PEOPLE = ("ann", "bob", "cat")


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people, a movement of 2.5 seconds each."""
    folder = tmp_path_factory.mktemp("captured")
    for i, person in enumerate(PEOPLE):
        bvh_files.write(folder / person / "move.bvh", JOINTS, bvh_files.moving(JOINTS, 51, i))
    return folder


def settings_of(captured: Path, data_dir: Path, **options: object) -> Prepare:
    defaults = {"dataset": "synthetic_multiview/tiny", "motion": str(captured), "name": "mine"}
    return Prepare(**{**defaults, "data_dir": str(data_dir), **options})  # type: ignore[arg-type]


def test_a_set_of_ones_own_motion(captured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = prepare.prepare(settings_of(captured, tmp_path))
    assert made.fresh and made.dataset == "synthetic_multiview/mine"
    printed = capsys.readouterr().out
    for split, person in zip(("train", "validation", "test"), PEOPLE, strict=True):
        assert (
            f"{split}: 1 subject ({person}), 1 action, 1 sequence with poses, 6 instants x 4 views" in printed
        )
    lengths = []
    for name, person in zip(("train", "validation", "test"), PEOPLE, strict=True):
        split = pipeline.open_split(tmp_path, made.dataset, name)
        (row,) = split.table
        assert (row.subject, row.action, row.subaction, row.length) == (person, "move", "1", 6)
        assert row.runs == ((0, 10, 6),) and row.seconds_per_record == 0.5
        for k in range(6):
            record = split[k]
            assert record["frame"] == 10 * k and record["time"] == 0.5 * k and record["view_valid"].all()
            seen = np.einsum("vij,vnj->vni", record["intrinsics"], record["pose"].astype(float))
            seen = seen[..., :2] / seen[..., 2:]
            box = record["box"].astype(float)
            assert (seen >= box[:, None, :2]).all() and (seen <= box[:, None, 2:]).all()
            pictures = [tuple_builder.decode_jpeg(data) for data in record["images"]]
            assert min(picture.std() for picture in pictures) > 20
            bones = record["pose"][:, 1:] - record["pose"][:, list(skeleton.PARENTS[1:])]
            lengths.append(np.linalg.norm(bones, axis=-1))
    # Every view and instant of a person has their bones, and no two people have the same.
    people = np.stack(lengths).reshape(3, 24, 16)
    np.testing.assert_allclose(people, np.broadcast_to(people[:, :1], people.shape), atol=0.1)
    assert np.abs(people[0, 0] - people[1, 0]).max() > 5 and np.abs(people[1, 0] - people[2, 0]).max() > 5

    assert prepare.prepare(settings_of(captured, tmp_path)).fresh is False
    again = prepare.prepare(settings_of(captured, tmp_path / "again"))
    assert again.fingerprint == made.fingerprint
    here, there = (pipeline.open_split(d, made.dataset, "test") for d in (tmp_path, tmp_path / "again"))
    for k in range(6):
        np.testing.assert_array_equal(here[k]["pose"], there[k]["pose"])


def test_other_files_are_another_set(captured: Path, tmp_path: Path) -> None:
    config = settings_of(captured, tmp_path)
    job = prepare.job_of(config)
    stored = job.builder(tmp_path).specification
    assert job.differences(tmp_path / "a/b/c", stored) == []
    mine = tmp_path / "changed"
    for i, person in enumerate(PEOPLE):
        bvh_files.write(mine / person / "move.bvh", JOINTS, bvh_files.moving(JOINTS, 51, i + (i == 2)))
    for options in ({"motion": str(mine)}, {"up_axis": "y"}):
        other = prepare.job_of(settings_of(captured, tmp_path, **options))
        assert other.differences(tmp_path / "a/b/c", stored) == ["motion differs"]


def test_the_generated_sets_specifications_are_as_they_were(prepared_tiny: Path) -> None:
    info = tfds.builder_from_directory(str(prepared_tiny / "synthetic_multiview/tiny/1.0.0")).info
    assert info.metadata["specification"] == {
        "size": 64, "takes": 1, "instants": 6, "seconds_per_record": 0.5, "wild": False, "samples": 1, "seed": 0,
    }  # fmt: skip
    assert tuple_builder.fingerprint(info) == TINY_FINGERPRINT


def test_wild_sequences_are_groups_of_their_own(captured: Path, tmp_path: Path) -> None:
    job = prepare.job_of(settings_of(captured, tmp_path, dataset="synthetic_multiview/wild"))
    builder = job.builder(tmp_path)
    acts = [act for split in builder.split_names for act in builder.acts(split)]
    # At ten instants a second the same files have more of them.
    assert job.records(builder) == 3 * 26 and len({act.sequence for act in acts}) == 3
    assert builder.expected_bytes("test") == 26 * 4 * tuple_builder.view_bytes(224)


def test_the_folder_names_the_set(captured: Path, tmp_path: Path) -> None:
    job = prepare.job_of(settings_of(captured, tmp_path, name=""))
    assert job.dataset == f"synthetic_multiview/{captured.name}"


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"name": "demo"}, ("--name=demo", "synthetic_multiview", "another name")),
        ({"name": "../x"}, ("--name=../x", "letters, digits")),
        ({"dataset": "multiview_video"}, ("--motion", "--dataset=multiview_video")),
        ({"dataset": "synthetic_multiview"}, ("needs a configuration", "synthetic_multiview/tiny")),
        ({"source": "x"}, ("--source", "--dataset=synthetic_multiview/tiny")),
        ({"motion": "no/where"}, ("no/where", "no such folder")),
        ({"joint_map": "no.txt"}, ("joint map", "no.txt")),
        (
            {"motion": "", "name": "", "joint_map": "x"},
            ("--joint_map", "which has --motion"),
        ),
        ({"motion": "", "name": "", "up_axis": "z"}, ("--up_axis", "which has --motion")),
        ({"motion": ""}, ("--name", "--dataset=synthetic_multiview/tiny")),
    ],
)
def test_wrong_flags(
    options: dict[str, object], facts: tuple[str, ...], captured: Path, tmp_path: Path
) -> None:
    with refused(*facts):
        prepare.prepare(settings_of(captured, tmp_path / "data", **options))
    assert not (tmp_path / "data").exists()


def test_a_bad_file_leaves_nothing_behind(tmp_path: Path) -> None:
    bvh_files.write(tmp_path / "in/a.bvh", JOINTS, bvh_files.moving(JOINTS, 51))
    bvh_files.write(tmp_path / "in/b.bvh", JOINTS, bvh_files.moving(JOINTS, 51))
    (tmp_path / "in/b.bvh").write_text((tmp_path / "in/b.bvh").read_text()[:-400])
    with refused("in/b.bvh", "truncated or damaged", "51 frames of 66"):
        prepare.prepare(settings_of(tmp_path / "in", tmp_path / "data"))
    assert not (tmp_path / "data").exists()
