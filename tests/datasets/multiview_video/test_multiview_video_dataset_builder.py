"""The builder end to end: sessions of different make through TFDS and back, labels, padding, refusals, no
TensorFlow.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.multiview_video import multiview_video_dataset_builder as module
from datasets.tuples import tuple_builder
from tests.datasets import videos
from tests.datasets.multiview_video.test_inspection import session
from tests.refusals import refused


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions: three cameras without labels; two cameras with, in another split."""
    root = tmp_path_factory.mktemp("recordings")
    session(root / "one", ("a.mp4", 25, 0, 1.2), ("b.mkv", 30, 0, 1.2), ("c.mp4", 25, 0, 1.2))
    session(root / "two", ("a.mp4", 25, 0, 1.2), ("b.mp4", 25, 0, 1.2))
    time = np.arange(0, 0.9, 0.1)
    pose = (
        np.broadcast_to(1000 * time[None, :, None, None], (2, 9, 17, 3))
        + np.array([0, 5])[:, None, None, None]
    )
    np.savez(root / "two.npz", pose=pose, time=time, intrinsics=np.tile(np.eye(3) * (1 + 1e-12), (2, 1, 1)))
    (root / "manifest.toml").write_text(
        '[[session]]\nname = "one"\ngroup = "red"\n'
        + "".join(f'[[session.camera]]\nfile = "one/{name}"\n' for name in ("a.mp4", "b.mkv", "c.mp4"))
        + '[[session]]\nname = "two"\nsubject = "bo"\naction = "walk"\nsplit = "test"\nlabels = "two.npz"\n'
        + "".join(f'[[session.camera]]\nfile = "two/{name}"\n' for name in ("a.mp4", "b.mp4"))
    )
    return root


@pytest.fixture(scope="module")
def builder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> module.Builder:
    made = module.Builder(
        source=source,
        fps=10.0,
        size=64,
        name="mine",
        progress=False,
        data_dir=tmp_path_factory.mktemp("data"),
    )
    made.download_and_prepare()
    return made


def test_records_and_table(builder: module.Builder) -> None:
    again = tfds.builder_from_directory(builder.data_dir)
    assert again.info.full_name == "multiview_video/mine/1.0.0"
    (row,) = tuple_builder.sequence_table(again.info, "train")
    assert (row.subject, row.action, row.group, row.first, row.length, row.has_pose) == (
        "one",
        "unknown",
        0,
        0,
        12,
        False,
    )
    assert row.seconds_per_record == pytest.approx(0.1)
    (labelled,) = tuple_builder.sequence_table(again.info, "test")
    assert (labelled.subject, labelled.action, labelled.group) == ("bo", "walk", 1)
    records = again.as_data_source(split="train")
    assert len(records) == 12
    for k, record in enumerate(records):
        assert record["time"] == pytest.approx(0.1 * k) and record["view_valid"].all()
        assert [tuple_builder.decode_jpeg(data).shape for data in record["images"]] == [(64, 64, 3)] * 3
        assert record["box_source"] == b"static" and not record["has_pose"]
        assert np.isnan(record["pose"]).all() and np.isnan(record["intrinsics"]).all()
        sides = record["box"][:, 2:] - record["box"][:, :2]
        np.testing.assert_allclose(sides[:, 0], sides[:, 1], rtol=1e-5)


def test_crop_shows_the_person(builder: module.Builder) -> None:
    """The dark blob fills the middle of every crop and leaves its corners to the wall."""
    for record in builder.as_data_source(split="train"):
        for data in record["images"]:
            crop = tuple_builder.decode_jpeg(data).astype(float)
            assert crop[24:40, 28:36].mean() < 70 < 90 < crop[[4, 4, -5, -5], [4, -5, 4, -5]].mean()


def test_labels_calibration_and_spare_views(builder: module.Builder) -> None:
    records = list(builder.as_data_source(split="test"))
    assert [record["has_pose"] for record in records] == [True] * 9 + [False] * 3
    np.testing.assert_allclose(records[3]["pose"][:2, 0, 0], [300, 305], rtol=1e-6)
    assert np.isnan(records[3]["pose"][2]).all()
    assert records[0]["intrinsics"][0, 0, 0] == 1 + 1e-12  # exact float64
    for record in records:
        np.testing.assert_array_equal(record["view_valid"], [True, True, False])
        assert record["images"][2] == b"" and record["camera"][2] == b"" and np.isnan(record["box"][2]).all()


def test_contact_sheet_from_the_cutting_pass_or_without_it(builder: module.Builder, source: Path) -> None:
    fresh = module.Builder(source=source, size=64, progress=False, reports=builder.reports)
    for report in builder.reports:
        after, before = builder.contact_sheet(report), fresh.contact_sheet(report)
        np.testing.assert_array_equal(np.asarray(after), np.asarray(before))
        assert after.width > 600 and after.height > 260 * len(report.cameras)


def test_same_source_same_fingerprint(builder: module.Builder, source: Path, tmp_path: Path) -> None:
    again = module.Builder(
        source=source, size=64, name="mine", progress=False, data_dir=tmp_path, reports=builder.reports
    )
    again.download_and_prepare()
    assert tuple_builder.fingerprint(again.info) == tuple_builder.fingerprint(builder.info)
    other = module.Builder(
        source=source, size=48, name="mine", progress=False, data_dir=tmp_path / "b", reports=builder.reports
    )
    other.download_and_prepare()
    assert tuple_builder.fingerprint(other.info) != tuple_builder.fingerprint(builder.info)


def test_bad_source_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = session(tmp_path / "s", ("a.mp4", 25, 0, 1.0))
    with refused("1 camera"):
        module.Builder(source=folder, data_dir=tmp_path / "data", progress=False)
    (folder / "b.mp4").write_text("no video at all")
    with refused("b.mp4", "not a readable video"):
        module.Builder(source=folder, data_dir=tmp_path / "data", progress=False)
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 64), np.uint8)
    path = videos.write(folder / "b.mp4", noise, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with refused("b.mp4", "truncated"):
        module.Builder(source=folder, data_dir=tmp_path / "data", progress=False)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "facts"),
    [({"size": 8}, ("size is 8", "16")), ({"margin": -0.1}, ("margin is -0.1", "share"))],
)
def test_wrong_options(options: dict[str, float], facts: tuple[str, ...]) -> None:
    with refused(*facts):
        module.Builder(source="anywhere", **options)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/x/My clip (1)", "My_clip_1"),
        ("/x/walk/manifest.toml", "walk"),
        ("/", "recordings"),
        ("/x/v1.2", "v1.2"),
    ],
)
def test_config_name(source: str, name: str) -> None:
    assert module.config_name(source) == name


def test_tensorflow_is_not_imported(builder: module.Builder) -> None:
    assert builder.info.splits["train"].num_examples == 12
    assert "tensorflow" not in sys.modules
