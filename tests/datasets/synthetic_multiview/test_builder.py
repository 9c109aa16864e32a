"""The prepared synthetic set: counts, order, table and records, disjoint people, the same set every time."""

import dataclasses
import hashlib
import sys
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.synthetic_multiview import motion, performance
from datasets.synthetic_multiview import synthetic_multiview_dataset_builder as module
from datasets.tuples import pipeline, tuple_builder

TINY = module.Builder.builder_configs["tiny"]
# Of every joint of S1 walking in four cameras, six instants, in 1/64 mm: exact on every processor.
GOLDEN = "afcc6eb7c810252b9d600ab7badac5f99696c23816cac113882a489946af125e"
# Rounding moves edges between processors and library versions: a few pixels change, never the picture.
PIXEL_MEAN, PIXEL_SHARE = 0.5, 0.01


@pytest.fixture(scope="module")
def splits(prepared_tiny: Path) -> dict[str, pipeline.Split]:
    return {
        name: pipeline.open_split(prepared_tiny, "synthetic_multiview/tiny", name) for name in TINY.subjects
    }


def first_act() -> performance.Act:
    times = np.arange(TINY.instants) * TINY.seconds_per_record
    return performance.generated(1, 0, 0, TINY.seed, times)


@pytest.fixture(scope="module")
def walking() -> list[tuple_builder.Instant]:
    """S1's first sequence, made again."""
    return module.render_sequence(TINY, first_act())


def test_counts(splits: dict[str, pipeline.Split]) -> None:
    builder = module.Builder(config="tiny", data_dir="nowhere")
    assert {name: split.records for name, split in splits.items()} == {
        "train": 96,
        "validation": 48,
        "test": 48,
    }
    assert sum(split.records for split in splits.values()) == builder.expected_records()
    assert builder.split_names == ("train", "validation", "test") and builder.views == 4


def test_every_record_is_what_the_table_says(splits: dict[str, pipeline.Split]) -> None:
    """Keys, types, order, and one line of the table per sequence without gaps."""
    for name, split in splits.items():
        expected = tuple_builder.features(4)
        first = 0
        for number, row in enumerate(split.table):
            assert row.first == first and row.length == TINY.instants and row.has_pose
            assert row.seconds_per_record == TINY.seconds_per_record
            assert row.subject == f"S{row.group}" and row.group in TINY.subjects[name]
            for k in range(row.length):
                record = split[first + k]
                assert set(record) == set(expected)
                assert record["sequence"] == number and record["frame"] == k and record["has_pose"]
                assert record["time"] == k * TINY.seconds_per_record and record["group"] == row.group
                texts = [record[key].decode() for key in ("subject", "action", "subaction", "box_source")]
                assert texts == [row.subject, row.action, row.subaction, "mask"]
                assert record["view_valid"].all() and record["view_valid"].dtype == bool
                for key, shape, dtype in (
                    ("pose", (4, 17, 3), np.float32),
                    ("box", (4, 4), np.float32),
                    ("intrinsics", (4, 3, 3), np.float64),
                    ("extrinsics", (4, 3, 4), np.float64),
                    ("distortion", (4, 5), np.float64),
                ):
                    assert record[key].shape == shape and record[key].dtype == dtype
                    assert np.isfinite(record[key]).all()
            first += row.length
        assert first == split.records
        assert [row.action for row in split.table] == [*motion.ACTIONS] * len(TINY.subjects[name])


def test_pictures_are_square_and_show_something(splits: dict[str, pipeline.Split]) -> None:
    for index in (0, 50, 95):
        pictures = [tuple_builder.decode_jpeg(data) for data in splits["train"][index]["images"]]
        assert [picture.shape for picture in pictures] == [(64, 64, 3)] * 4
        assert min(picture.std() for picture in pictures) > 20


def test_joints_lie_in_their_boxes(splits: dict[str, pipeline.Split]) -> None:
    for split in splits.values():
        for index in range(0, split.records, 5):
            record = split[index]
            seen = np.einsum("vij,vnj->vni", record["intrinsics"], record["pose"].astype(float))
            seen = seen[..., :2] / seen[..., 2:]
            box = record["box"].astype(float)
            assert (seen >= box[:, None, :2]).all() and (seen <= box[:, None, 2:]).all()


@pytest.mark.parametrize("name", list(module.Builder.builder_configs))
def test_subjects_are_disjoint_in_every_configuration(name: str) -> None:
    config = module.Builder.builder_configs[name]
    people = [subject for subjects in config.subjects.values() for subject in subjects]
    assert set(config.subjects) == {"train", "validation", "test"} and len(people) == len(set(people))


def test_studio_is_large_and_split_as_said() -> None:
    config = module.Builder.builder_configs["studio"]
    assert config.subjects == {"train": (1, 2, 3, 4, 5), "validation": (6,), "test": (7, 8)}
    builder = module.Builder(config="studio", data_dir="nowhere")
    assert config.size == 224 and builder.expected_records() * builder.views > 200_000


def test_geometry_is_the_same_again_and_pixels_nearly(
    splits: dict[str, pipeline.Split], walking: list[tuple_builder.Instant]
) -> None:
    for k, instant in enumerate(walking):
        record = splits["train"][k]
        np.testing.assert_array_equal(record["pose"], instant.pose)
        np.testing.assert_array_equal(record["box"], instant.box)
        for key in ("intrinsics", "extrinsics", "distortion"):
            np.testing.assert_array_equal(record[key], getattr(instant, key))
        for stored, made in zip(record["images"], instant.images, strict=True):
            close(tuple_builder.decode_jpeg(stored), tuple_builder.decode_jpeg(made))


def close(a: np.ndarray, b: np.ndarray) -> None:
    apart = np.abs(a.astype(int) - b.astype(int))
    assert apart.mean() <= PIXEL_MEAN and (apart.max(-1) > 16).mean() <= PIXEL_SHARE


def test_golden_geometry(walking: list[tuple_builder.Instant]) -> None:
    steps = np.stack([instant.pose for instant in walking]).astype(np.float64) / module.GRID_MM
    np.testing.assert_array_equal(steps, np.round(steps))
    assert hashlib.sha256(steps.astype("<i8").tobytes()).hexdigest() == GOLDEN


def test_wild_sequences_are_groups_of_their_own() -> None:
    config = module.Builder.builder_configs["wild"]
    numbers = {
        performance.generated(subject, action, take, 0, np.zeros(1)).sequence
        for subject in range(1, 9)
        for action in range(len(motion.ACTIONS))
        for take in range(config.takes)
    }
    assert len(numbers) == 8 * len(motion.ACTIONS) * config.takes


def test_a_person_keeps_their_room_in_sessions_and_nobody_shares_it() -> None:
    """Rig, light and clothes too; a group is a person. In the demo one room is everybody's."""

    def seen(name: str, person: int, action: int) -> tuple_builder.Instant:
        config = dataclasses.replace(module.Builder.builder_configs[name], instants=1)
        act = performance.generated(person, action, 0, config.seed, np.zeros(1))
        return module.render_sequence(config, act)[0]

    def same(a: tuple_builder.Instant, b: tuple_builder.Instant) -> bool:
        return bool(np.array_equal(a.extrinsics, b.extrinsics))

    first, again, other = seen("sessions", 1, 0), seen("sessions", 1, 5), seen("sessions", 9, 0)
    assert same(first, again) and not same(first, other)
    assert same(seen("demo", 1, 0), seen("demo", 9, 0))
    # Nobody is where the demo has them, wherever the number is the same.
    assert not same(first, seen("demo", 1, 0))
    backgrounds = [
        np.median(tuple_builder.decode_jpeg(i.images[0])[:8], axis=(0, 1)) for i in (first, again, other)
    ]
    assert np.abs(backgrounds[0] - backgrounds[1]).max() < np.abs(backgrounds[0] - backgrounds[2]).max()


def test_the_people_of_sessions_are_as_many_as_said_and_none_has_been_tested() -> None:
    configs = module.Builder.builder_configs
    tested = {
        person for name in ("tiny", "demo", "studio", "wild") for person in configs[name].subjects["test"]
    }
    for name in ("sessions", "sessions_studio"):
        people = configs[name].subjects
        assert {split: len(of) for split, of in people.items()} == {"train": 10, "validation": 4, "test": 6}
        assert not set(people["test"]) & tested
        specification = module.Builder(config=name, data_dir="nowhere").specification
        assert specification["rooms"] == "person" and specification["wild"] is False
    assert (configs["sessions"].size, configs["sessions_studio"].size) == (64, 224)
    assert "rooms" not in module.Builder(config="demo", data_dir="nowhere").specification


def test_a_stopped_sequence_is_cancelled() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        module.render_sequence(TINY, first_act(), stop)


def test_nobody_renders_on_when_the_rest_is_not_wanted(tmp_path: Path) -> None:
    recordings = module.Builder(config="tiny", data_dir=tmp_path).recordings("test")
    assert next(recordings).subject == "S7"
    recordings.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("render")]


def test_no_tensorflow(prepared_tiny: Path) -> None:
    info = tfds.builder_from_directory(str(prepared_tiny / "synthetic_multiview/tiny/1.0.0")).info
    assert info.splits["train"].num_examples == 96 and "tensorflow" not in sys.modules
