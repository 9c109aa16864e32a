"""Prepared from end to end: videos that are damaged, short, or taller, and poses that end long before them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.human36m import metadata
from datasets.human36m.human36m_dataset_builder import Builder
from datasets.tuples import tuple_builder
from tests.distributions import human36m
from tests.distributions.human36m_scene import check_view

SUSPECT = ("S11", 2, 2, human36m.CAMERAS[0])


def prepare(folder: Path, **what: Any) -> tuple[Builder, str]:
    """A builder that has prepared the only take of its only split."""
    human36m.write(folder / "source", human36m.Distribution(unreadable=(), **what))
    builder = Builder(config="fps50", source=folder / "source", boxes="joints", data_dir=folder / "data")
    tfds.disable_progress_bar()
    builder.download_and_prepare()
    (split,) = builder.split_names
    return builder, split


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize("damage", [{"damaged": (SUSPECT,)}, {"cut_short": {SUSPECT: 7}}])
def test_a_damaged_video_is_used_as_far_as_it_goes(
    tmp_path: Path, codec: str, damage: dict[str, Any]
) -> None:
    frames = 18
    builder, split = prepare(
        tmp_path, subjects=("S11",), takes=((2, 2),), frames=frames, codec=codec, **damage
    )
    (row,) = tuple_builder.sequence_table(builder.info, split)
    assert (row.action, row.length, row.defect) == ("Directions", frames, "")
    records = list(builder.as_data_source(split=split))
    shown = np.stack([example["view_valid"] for example in records])
    assert shown[:, 1:].all()
    readable = int(shown[:, 0].sum())
    assert readable == 7 if "cut_short" in damage else 1 < readable < frames - 1
    assert shown[:readable, 0].all()
    for k, example in enumerate(records):
        assert example["frame"] == k
        assert (example["images"][0] == b"") == (k >= readable)
        for v in range(1, 4):
            check_view(example, v)
    # A decoder may patch up the frame in which the hole begins.
    for example in records[: readable if "cut_short" in damage else readable - 1]:
        check_view(example, 0)


def test_poses_that_end_long_before_the_videos(tmp_path: Path) -> None:
    """As S9's Greeting has them: 1447 poses and 1452 frames more."""
    builder, split = prepare(tmp_path, subjects=("S9",), takes=((5, 2),), frames=6, spare={("S9", 5, 2): 60})
    (row,) = tuple_builder.sequence_table(builder.info, split)
    assert (row.action, row.subaction, row.length) == ("Greeting", "2", 6)
    assert row.defect == "file Greeting, id 5.2: annotation offset against the image"
    for example in builder.as_data_source(split=split):
        assert example["view_valid"].all()
        for v in range(4):
            check_view(example, v)


@pytest.mark.parametrize("tall", [(), ("S7",)])
def test_sizes_of_s7_are_those_of_its_videos(tmp_path: Path, tall: tuple[str, ...]) -> None:
    """`metadata.xml` says that all four are tall; whether they are does not matter."""
    what = human36m.Distribution(subjects=("S7",), takes=((9, 1),), frames=4, tall=tall)
    sizes = re.findall(r"<td>(\[\d+ \d+;.*?)</td>", human36m.metadata_xml(what))
    assert sizes[metadata.SUBJECTS.index("S7")] == "[242 240;242 240;242 240;242 240]"
    builder, split = prepare(tmp_path, subjects=("S7",), takes=((9, 1),), frames=4, tall=tall)
    records = list(builder.as_data_source(split=split))
    assert len(records) == 4
    for example in records:
        assert example["view_valid"].all()
        for v in range(4):
            check_view(example, v)
