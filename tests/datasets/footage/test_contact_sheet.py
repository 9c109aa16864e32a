"""The contact sheet: its size, what it draws where, and how it is saved."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.footage import overlay
from datasets.footage.contact_sheet import BOX, contact_sheet, records_sheet, save, spread_records
from datasets.tuples import pipeline, tuple_builder
from tests.refusals import refused


def example() -> Image.Image:
    def picture(view: int, instant: int) -> np.ndarray | None:
        return None if (view, instant) == (1, 2) else np.full((200, 120 + 20 * view, 3), 120, np.uint8)

    boxes = np.tile(np.array([30.0, 40, 90, 160]), (2, 3, 1))
    boxes[0, 1] = np.nan
    boxes[1, 0] = [-50, -50, 500, 500]  # leaves the picture on every side
    return contact_sheet(
        ["left", "right"], np.array([0.0, 0.5, 1.0]), picture, boxes, "monday", ["csv", ""], tile=100
    )


def test_boxes_are_drawn_where_they_are_and_nowhere_else() -> None:
    pixels = np.asarray(example())
    drawn = (pixels == BOX).all(-1)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    assert 0 < rows[0] and rows[-1] < pixels.shape[0] - 1 and columns[-1] < pixels.shape[1] - 1
    # The first row's first tile: the box is 30 x 60 there, and drawn once in that row (NaN in the middle,
    # then again).
    first = drawn[92:192]
    assert np.flatnonzero(first.any(1))[[0, -1]].tolist() == [20, 79]
    starts = np.flatnonzero(np.diff(np.flatnonzero(first.any(0))) > 40)
    assert len(starts) == 1


def test_outside_of_the_box_is_dimmed() -> None:
    pixels = np.asarray(example()).astype(int)
    tile = pixels[92:192]
    column = np.flatnonzero((tile == BOX).all(-1).any(0))[0] + 15
    assert abs(tile[50, column, 0] - 120) <= 2  # inside, as filmed
    assert tile[5, column, 0] < 90  # above the box


@pytest.mark.parametrize("name", ["a.png", "deep/b.jpg", "c.JPEG"])
def test_saves_by_the_ending(tmp_path: Path, name: str) -> None:
    path = save(example(), tmp_path / name)
    with Image.open(path) as again:
        assert again.size == example().size
        assert again.format == ("PNG" if name.endswith("png") else "JPEG")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with refused("a.bmp", ".png", ".jpg", ".jpeg", "'.bmp'"):
        save(example(), tmp_path / "a.bmp")


def split(name: str, *sequences: tuple[str, str], length: int = 6) -> pipeline.Split:
    """A split that never was on disk: (subject, action) by sequence; view 2 of record 0 is invalid."""
    table = tuple(
        tuple_builder.SequenceRow(subject, action, "", 0, length * n, length, 0.5)
        for n, (subject, action) in enumerate(sequences)
    )
    picture = tuple_builder.encode_jpeg(np.full((32, 32, 3), (200, 40, 40), np.uint8))
    records = [
        {
            "images": [picture, picture if k else b""],
            "view_valid": np.array([True, k > 0]),
            "camera": [b"left", b"right"],
            "time": 0.5 * (k % length),
            "pose": tuple_builder.unknown_pose(2),
            "box": np.full((2, 4), np.nan, np.float32),
            **tuple_builder.unknown_camera(2),
        }
        for k in range(length * len(table))
    ]
    sequence_of = np.repeat(np.arange(len(table)), length)
    return pipeline.Split(f"set/1.0.0:{name}", table, 2, "", records, "frame", 32, 32, sequence_of)


def test_records_are_spread_over_people_and_actions() -> None:
    train = split("train", *[(f"S{s}", a) for s in (1, 2) for a in ("walk", "sit", "kick")])
    test = split("test", ("S7", "walk"), ("S7", "sit"), ("S7", "kick"))
    shown = [
        (part.table[n].subject, part.table[n].action, k) for part, n, k in spread_records([train, test], 3)
    ]
    # Everybody once, every action once, each in the middle of its sequence.
    assert {subject for subject, _, _ in shown} == {"S1", "S2", "S7"}
    assert {action for _, action, _ in shown} == {"walk", "sit", "kick"}
    assert [k % 6 for _, _, k in shown] == [3, 3, 3]
    (only,) = {n for _, n, _ in spread_records([split("train", ("S1", "walk"))], 4)}
    assert only == 0
    assert [k for *_, k in spread_records([split("train", ("S1", "walk"))], 3)] == [1, 3, 5]


def test_records_sheet_draws_every_valid_view() -> None:
    sheet = np.asarray(records_sheet([split("train", ("S1", "walk"), length=2)], rows=2, tile=40)).astype(int)
    red = (np.abs(sheet - (200, 40, 40)) < 12).all(-1)
    assert red.sum() == 3 * 40 * 40  # of four views one is invalid


def test_records_sheet_draws_the_skeleton_in_every_view_that_has_one() -> None:
    """The right view's person stands at the right: its bones lie there, and the left view, without pose, has none."""
    part = split("train", ("S1", "walk"), length=1)
    part.source[0]["view_valid"] = np.array([True, True])
    part.source[0]["images"] = [part.source[0]["images"][0]] * 2
    without = np.asarray(records_sheet([part], rows=1, tile=40))
    joints = np.stack([np.full(17, 300.0), np.linspace(-300, 300, 17), np.full(17, 1000.0)], -1)
    part.source[0]["pose"][1] = joints
    part.source[0]["intrinsics"][1] = [[100.0, 0, 50], [0, 100, 50], [0, 0, 1]]
    part.source[0]["distortion"][1] = 0
    part.source[0]["box"][1] = [0, 0, 100, 100]
    sheet = np.asarray(records_sheet([part], rows=1, tile=40))
    colours = (overlay.LEFT, overlay.RIGHT, overlay.CENTRE)
    drawn = np.any([(sheet == colour).all(-1) for colour in colours], axis=0)
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    first = sheet.shape[1] - 10 - 10 - 40  # the last column's left edge
    assert np.abs(columns - (first + 0.8 * 40)).max() <= 2, "u = 50 + 100 * 0.3 of 100"
    assert rows[0] >= 92 + 0.2 * 40 - 2 and rows[-1] <= 92 + 0.8 * 40 + 2 and len(rows) > 20
    changed = (sheet[92:] != without[92:]).any(-1)
    assert changed.sum() == drawn.sum(), "nothing else differs"
    assert (sheet[:92] != without[:92]).any(), "the title explains the colours"


def test_views_that_a_sequence_does_not_have_name_no_column() -> None:
    part = split("train", ("S1", "walk"), ("S2", "sit"))
    for record in part.source[6:]:
        record["camera"] = [b"left", b""]
    named = np.asarray(records_sheet([part], rows=2, tile=40))
    np.testing.assert_array_equal(
        named[60:92],
        np.asarray(records_sheet([split("train", ("S1", "walk"), ("S2", "sit"))], rows=2, tile=40))[60:92],
    )
