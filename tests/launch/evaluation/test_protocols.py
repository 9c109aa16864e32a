"""Which records an evaluation takes, from tables by hand; what its card says; how its figures are grouped."""

import re
from typing import Any

import numpy as np
import pytest

from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow, runs_of
from launch.evaluation import protocols
from mcss_jax.errors import UserError
from tests.refusals import refused

CAMERAS = [b"left", b"right"]


def split_of(*sequences: tuple[str, list[int], str], **record: Any) -> pipeline.Split:
    """A split that never was on disk, from (subject, frame numbers, defect) of each sequence."""
    rows: list[SequenceRow] = []
    for subject, frames, defect in sequences:
        first = rows[-1].first + rows[-1].length if rows else 0
        runs = runs_of(frames)
        rows.append(SequenceRow(subject, "walk", "1", 0, first, len(frames), 0.1, defect=defect, runs=runs))
    lengths = [row.length for row in rows]
    every = {"camera": CAMERAS, "images": [b"", b""], "box_source": b"mask", **record}
    return pipeline.Split(
        "set/1.0.0:test", tuple(rows), 2, "", [dict(every) for _ in range(sum(lengths))], "mask", 8, 8,
        np.repeat(np.arange(len(rows)), lengths),
    )  # fmt: skip


def frames_of(split: pipeline.Split, choice: protocols.Choice, frames: list[list[int]]) -> list[list[int]]:
    """Frame numbers of the chosen records, sequence by sequence."""
    every = np.concatenate(frames)
    return [
        every[[r for r in choice.records if split.sequence_of[r] == s]].tolist() for s in range(len(frames))
    ]


def both(last: int) -> list[int]:
    return [frame for frame in range(last) if frame % 5 == 0 or frame % 64 == 0]


@pytest.mark.parametrize(("every", "step"), [(0, 5), (5, 5), (64, 64), (10, 10), (320, 320)])
def test_a_union_of_two_samplings_is_taken_apart(every: int, step: int) -> None:
    frames = [both(701), both(40), both(66)]
    split = split_of(*[("S9", of, "") for of in frames])
    choice = protocols.choose(split, every=every)
    assert frames_of(split, choice, frames) == [[f for f in of if f % step == 0] for of in frames]
    assert choice.every == step


@pytest.mark.parametrize(
    "frames",
    [
        list(range(50)),  # every frame
        list(range(0, 50, 2)),
        [0, 2, 5, 7, 10, 12, 15],  # 25 frames a second at ten instants a second
        [0, 3, 6, 9, 13, 16, 19],  # 29.97
        [4, 9, 14, 16, 19],  # does not begin at frame 0
        [7],
    ],
)
def test_any_other_set_is_taken_whole(frames: list[int]) -> None:
    split = split_of(("S9", frames, ""), ("S9", [], ""))
    choice = protocols.choose(split)
    assert choice.every == 0 and choice.records.tolist() == list(range(len(frames)))


def test_a_set_without_frame_numbers_is_taken_whole_or_not_at_all() -> None:
    split = split_of(("S9", [0, 1, 2], ""))
    split.table = (SequenceRow("S9", "walk", "1", 0, 0, 3, 0.1),)
    assert len(protocols.choose(split).records) == 3
    with refused("S9", "1", "--overwrite"):
        protocols.choose(split, every=1)


@pytest.mark.parametrize(
    ("every", "frames", "missing", "held"),
    [
        (1, list(range(0, 51, 5)), 1, "0, 5, 10, 15, ..., 50"),
        (64, list(range(0, 201, 5)), 64, "0, 5, 10, 15, ..., 200"),
        (5, [1, 6, 11], 0, "1, 6, 11"),
    ],
)
def test_frames_that_are_not_held_are_named(every: int, frames: list[int], missing: int, held: str) -> None:
    split = split_of(("S9", [0], ""), ("S11", frames, ""))
    told = f"--every={every} needs frame {missing} of S11 walk 1, which set/1.0.0:test does not hold; "
    with pytest.raises(UserError, match=re.escape(told + f"it holds frames {held}") + "$"):
        protocols.choose(split, every=every)


def test_mixed_frame_rates_meet_at_their_common_multiple() -> None:
    frames = [list(range(0, 60, 2)), list(range(0, 60, 5))]
    split = split_of(*[("S1", of, "") for of in frames])
    assert frames_of(split, protocols.choose(split, every=10), frames) == [[0, 10, 20, 30, 40, 50]] * 2


def test_samplings_that_differ_between_sequences_are_not_guessed_about() -> None:
    """Multiples of 5 or 64 in one sequence, of 10 or 64 in the other: the user has to say which."""
    tens = [frame for frame in range(701) if frame % 10 == 0 or frame % 64 == 0]
    frames = [tens, both(701)]
    split = split_of(("S9", tens, ""), ("S11", both(701), ""))
    with refused("--every=5", "5", "S9", "1"):
        protocols.choose(split)
    chosen = frames_of(split, protocols.choose(split, every=10), frames)
    assert chosen == [list(range(0, 701, 10))] * 2


def test_damaged_takes_are_kept_or_dropped_by_name() -> None:
    split = split_of(("S9", [0, 5], ""), ("S9", [0, 5, 10], "poses off the pictures"), ("S11", [0], ""))
    kept, dropped = (protocols.choose(split, damaged=how) for how in ("keep", "drop"))
    assert kept.records.tolist() == [0, 1, 2, 3, 4, 5] and not kept.dropped
    assert dropped.records.tolist() == [0, 1, 5] and dropped.dropped
    assert kept.damaged == dropped.damaged == ("S9 walk 1 (poses off the pictures)",)
    with refused("--damaged=drop", "--exclude=", "set/1.0.0:test"):
        protocols.choose(split_of(("S9", [0, 5], "bad")), damaged="drop")


def test_sequences_are_left_out_by_name() -> None:
    split = split_of(("S9", [0, 5], ""), ("S11", [0, 5, 10], ""))
    chosen = protocols.choose(split, exclude="S9 walk 1")
    assert chosen.records.tolist() == [2, 3, 4] and chosen.excluded == ("S9 walk 1",)
    sequence, view = np.asarray([1]), np.asarray([0])
    assert protocols.card(chosen, split, sequence, view)["excluded"] == ["S9 walk 1"]
    with refused("--exclude", "set/1.0.0:test", "S9", "1", "S11"):
        protocols.choose(split, exclude="S9 run")


def test_stride_thins_what_is_chosen() -> None:
    split = split_of(("S9", list(range(0, 100, 5)), ""))
    assert protocols.choose(split, every=10, stride=3).records.tolist() == [0, 6, 12, 18]


@pytest.mark.parametrize("wrong", [{"every": -1}, {"stride": 0}])
def test_impossible_steps(wrong: dict[str, int]) -> None:
    with refused("0", "1"):
        protocols.choose(split_of(("S9", [0], "")), **wrong)  # type: ignore[arg-type]


def test_cameras_by_name() -> None:
    split = split_of(("S9", [0, 5], ""), camera=[b"left", b""])
    assert protocols.choose(split).cameras == ()
    assert protocols.choose(split, cameras=" left, left").cameras == ("left",)
    with refused("--cameras", "'right'", "set/1.0.0:test"):
        protocols.choose(split, cameras="left,right")


def test_the_card_says_what_was_left_out() -> None:
    split = split_of(("S9", [0, 5], ""), ("S9", [0, 5], "bad"))
    sequence, view = np.asarray([0, 0, 1]), np.asarray([0, 1, 0])
    card = protocols.card(protocols.choose(split), split, sequence, view)
    assert card == {
        "frames": "all stored",
        "damaged takes": "1 kept: S9 walk 1 (bad)",
        "cameras": ["left", "right"],
        "absent views": "1: S9 walk 1 camera right (1)",
        "boxes": "mask",
    }
    dropped = protocols.choose(split, damaged="drop", every=5, stride=2)
    card = protocols.card(dropped, split, sequence[:1], view[:1])
    assert card["damaged takes"] == "1 left out: S9 walk 1 (bad)" and card["cameras"] == ["left"]
    assert card["frames"] == "every frame whose number is a multiple of 5, one in 2 of these"
    marked = split_of(("TS1", [0, 1], ""), valid_frame=True, box_source=b"joints")
    marked.specification = {"annotation": "univ_annot3", "retrieval_subjects": ["S7", "S8"]}
    card = protocols.card(protocols.choose(marked), marked, sequence[:1], view[:1])
    assert card["damaged takes"] == "none known" and card["annotation"] == "univ_annot3"
    assert card["prepared with"] == ["annotation=univ_annot3", "retrieval_subjects=['S7', 'S8']"]
    assert card["boxes"] == "joints" and card["frames"].endswith("frames that the data set marks as valid")


@pytest.mark.parametrize(
    ("trained", "evaluated", "said"),
    [
        ("csv", "static", "no"),
        ("mask", "static", "the owners' ground-truth masks of them, in training"),
        ("joints", "static", "yes: their joints, in training"),
        ("static", "joints, static", "yes: their joints, in evaluation"),
        ("joints", "joints", "yes: their joints, in training and evaluation"),
        (
            "mask+static",
            "joints",
            "yes: their joints, in evaluation; the owners' ground-truth masks of them, in training",
        ),
    ],
)
def test_boxes_from_labels_are_said_aloud(trained: str, evaluated: str, said: str) -> None:
    assert protocols.boxes_from_labels(trained, evaluated) == said


def test_another_data_set_maps_joints_by_name_only() -> None:
    assert protocols.joint_mapping("human36m/fps10/1.0.0:train", "human36m/fps50/1.0.0:test") == ""
    assert protocols.joint_mapping("synthetic_multiview stream, 64 px", "synthetic_multiview/a/1.0.0:b") == ""
    said = protocols.joint_mapping("human36m/fps10/1.0.0:train", "mpi_inf_3dhp/vnect_fps10/1.0.0:test")
    assert said.startswith("nominal: trained on human36m, evaluated on mpi_inf_3dhp;")
    for word in ("hip width", "neck against thorax", "spine height", "head", "bone lengths do not match"):
        assert word in said


def test_views_are_grouped_by_action_or_by_sequence_and_activity() -> None:
    record, sequence = np.asarray([0, 0, 1, 2]), np.asarray([0, 0, 0, 1])
    plain = split_of(("S9", [0, 5], ""), ("S11", [0], ""))
    assert {
        kind: labels.tolist() for kind, labels in protocols.labels_of(plain, record, sequence).items()
    } == {"action": ["walk"] * 4}
    marked = split_of(("TS1", [0, 1], ""), ("TS2", [0], ""), activity=b"")
    assert list(protocols.labels_of(marked, record, sequence)) == ["sequence"], "of no action"
    for index, activity in enumerate((b"Sports", b"Sitting", b"Reaching")):
        marked.source[index]["activity"] = activity
    marked.cache.clear()
    labels = {kind: of.tolist() for kind, of in protocols.labels_of(marked, record, sequence).items()}
    assert labels == {
        "sequence": ["TS1 walk 1"] * 3 + ["TS2 walk 1"],
        "activity": ["Sports", "Sports", "Sitting", "Reaching"],
    }


def test_names() -> None:
    assert protocols.sequence_name(SequenceRow("TS1", "TS1", "", 0, 0, 1, 0.1)) == "TS1"
    assert protocols.file_name("test", ("", "")) == "evaluation_test.json"
    assert protocols.file_name("test", ("human36m/fps10", "every64", "a,b")) == (
        "evaluation_test_human36m-fps10_every64_a-b.json"
    )
