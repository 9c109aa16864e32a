"""The table of known defects, and when left and right are put right."""

import numpy as np
import pytest

from datasets.mpi_inf_3dhp import defects, joints
from mcss_jax.skeleton import JOINTS
from tests.distributions import mpi_inf_3dhp as distribution

FIRST, LAST = 8, 15


def walk(frames: int = 24) -> np.ndarray:
    world = np.stack([distribution.world_pose("S4/Seq2", frame) for frame in range(frames)])
    return world[:, joints.FROM_ANNOTATED]


def exchanged(pose: np.ndarray, first: int, last: int) -> np.ndarray:
    """Joint by joint, by name."""
    result = pose.copy()
    for k, name in enumerate(JOINTS):
        other = {"L": "R", "R": "L"}.get(name[0], name[0]) + name[1:]
        result[first : last + 1, JOINTS.index(other)] = pose[first : last + 1, k]
    return result


@pytest.mark.parametrize("shift", [0, 1, -2])
def test_an_exchange_is_found_where_it_is(shift: int) -> None:
    """Whether the report counts from 0 or 1 does not matter."""
    wrong = exchanged(walk(), FIRST, LAST)
    assert defects.exchanged_stretch(wrong, (FIRST + shift, LAST + shift)) == (FIRST, LAST)
    np.testing.assert_array_equal(defects.put_right(wrong, (FIRST, LAST)), walk())
    views = np.stack([wrong, wrong + 1])
    np.testing.assert_array_equal(defects.put_right(views, (FIRST, LAST)), np.stack([walk(), walk() + 1]))


def test_poses_that_are_right_stay() -> None:
    assert defects.exchanged_stretch(walk(), (FIRST, LAST)) is None


def test_one_end_is_not_enough() -> None:
    assert defects.exchanged_stretch(exchanged(walk(), FIRST, 23), (FIRST, LAST)) is None
    assert defects.exchanged_stretch(exchanged(walk(), 0, LAST), (FIRST, LAST)) is None
    # An exchange elsewhere is not the reported one.
    assert defects.exchanged_stretch(exchanged(walk(), FIRST + 4, LAST + 4), (FIRST, LAST)) is None


def test_what_lies_outside_or_is_unknown_shows_nothing() -> None:
    wrong = exchanged(walk(), FIRST, LAST)
    assert defects.exchanged_stretch(wrong[: LAST - 2], (FIRST, LAST)) is None
    assert defects.exchanged_stretch(wrong, (100, 200)) is None
    assert defects.exchanged_stretch(wrong * np.nan, (FIRST, LAST)) is None
    assert defects.exchanged_stretch(np.zeros((24, 17, 3)), (FIRST, LAST)) is None
    # Both ends may not be one and the same change.
    assert defects.exchanged_stretch(exchanged(walk(), FIRST, 23), (FIRST, FIRST)) is None


def test_a_narrow_person_shows_nothing() -> None:
    """Sides 30 mm apart, 40 mm from frame to frame: exchanged, 40 mm in place of 50 are no proof."""
    pose = np.zeros((24, 17, 3))
    pose[:, [k for k, name in enumerate(JOINTS) if name.startswith("L")], 0] = 30
    pose[..., 2] = 40 * np.arange(24)[:, None]
    assert defects.exchanged_stretch(exchanged(pose, FIRST, LAST), (FIRST, LAST)) is None
    pose[..., 2] /= 4  # 10 mm in place of 32
    assert defects.exchanged_stretch(exchanged(pose, FIRST, LAST), (FIRST, LAST)) == (FIRST, LAST)


def test_a_fast_turn_is_no_exchange() -> None:
    """Half a turn in ten frames: 300 mm from frame to frame at the hands."""
    pose = walk()
    centre = pose[:, :1]
    for frame in range(24):
        angle = np.clip((frame - 6) / 10, 0, 1) * np.pi
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        pose[frame] = (pose[frame] - centre[frame]) @ turn.T + centre[frame]
    assert defects.exchanged_stretch(pose, (FIRST, LAST)) is None
    assert defects.exchanged_stretch(exchanged(pose, FIRST, LAST), (FIRST, LAST)) == (FIRST, LAST)


def test_table() -> None:
    assert [d.take for d in defects.DEFECTS] == ["S3/Seq1", "S4/Seq2", "S6/Seq2", "TS3", "TS4", "TS6", ""]
    assert all(d.text and d.source for d in defects.DEFECTS)
    (flash,) = defects.of_take("S1/Seq1", "annot3")
    assert "flash" in flash.text and "nothing is done" in flash.text and not flash.stays
    assert defects.of_take("TS6", "annot3") == (flash,)
    assert [d.stays for d in defects.of_take("TS6", "univ_annot3")] == [True, False]
    assert [defects.surplus(defects.of_take(f"TS{k}", "annot3")) for k in range(1, 7)] == [0, 0, 1, 2, 0, 0]
    # What reading tells of an exchange stands for all that is wrong with the take.
    (exchange,) = (d for d in defects.DEFECTS if d.exchanged)
    assert [d for d in defects.DEFECTS if d.take == exchange.take] == [exchange]
    short = defects.of_take("S6/Seq2", "annot3")
    assert [defects.short_by(short, camera, 50) for camera in (0, 2, 3)] == [0, 50, 0]
    assert defects.short_by(defects.of_take("S3/Seq1", "annot3"), 7, 50) == 1
    assert defects.short_by((), 7, 50) == 0
