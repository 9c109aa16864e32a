"""Offsets between cameras: known ones are found, unknowable ones carry no confidence."""

from pathlib import Path

import numpy as np
import pytest

from datasets.footage import sync, video
from tests.datasets import videos


def seen(
    offset: float, rate: float, seconds: float, seed: int = 0, gain: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Times and motion energy of a camera that starts `offset` seconds after the clock of one shared
    motion.
    """
    times = np.arange(0.0, seconds, 1 / rate)
    motion = np.exp(videos.irregular(times - 0.5 / rate + offset))
    grain = np.random.default_rng(seed).normal(0, 0.1, len(times))
    return times, gain * motion / rate * np.exp(grain) + 0.05 / rate


@pytest.mark.parametrize("true", [0.0, 0.31, -1.27, 2.004])
@pytest.mark.parametrize(("rate", "gain"), [(50.0, 1.0), (25.0, 7.0), (29.97, 0.3)])
def test_known_offset_is_found_within_half_a_frame(true: float, rate: float, gain: float) -> None:
    estimated = sync.offset(*seen(0.0, 50.0, 16.0), *seen(true, rate, 16.0, seed=1, gain=gain))
    assert estimated.seconds == pytest.approx(true, abs=0.5 / rate)
    assert estimated.confidence > 0.5
    assert estimated.is_clear(1 / rate) == (abs(true) > 0.1)


def test_offset_is_antisymmetric() -> None:
    a, b = seen(0.0, 50.0, 14.0), seen(0.7, 25.0, 14.0, seed=1)
    assert sync.offset(*a, *b).seconds == pytest.approx(-sync.offset(*b, *a).seconds, abs=0.01)


def test_several_cameras_of_different_rate_and_length() -> None:
    true = [0.0, 0.6, -0.9, 1.4]
    rates, lengths = [50.0, 25.0, 30.0, 60.0], [16.0, 18.0, 15.0, 20.0]
    cameras = [seen(o, r, s, seed=i) for i, (o, r, s) in enumerate(zip(true, rates, lengths, strict=True))]
    offsets = sync.offsets([t for t, _ in cameras], [e for _, e in cameras])
    np.testing.assert_allclose([o.seconds for o in offsets], true, atol=0.03)


def test_camera_that_shares_no_motion_with_the_first_is_placed_by_the_others() -> None:
    """The first and third each see half of the motion, the second sees both."""
    times = np.arange(0, 20, 0.04)
    left, right = (np.exp(2 * videos.irregular(times, seed)) for seed in (1, 2))
    late = np.exp(2 * videos.irregular(times + 0.8, 2))
    offsets = sync.offsets([times] * 3, [left, left + right, late + 0.01])
    assert offsets[2].seconds == pytest.approx(0.8, abs=0.1)


def test_independent_motion_and_periodic_motion_carry_no_confidence() -> None:
    times = np.arange(0, 16, 0.04)
    one, other = (np.exp(videos.irregular(times, seed)) for seed in (3, 4))
    assert sync.offset(times, one, times, other).confidence < 0.3
    step = np.exp(np.sin(2 * np.pi * times / 1.1))
    assert sync.offset(times, step, times, step).confidence < 0.3


def test_stillness_and_too_few_frames_give_nothing() -> None:
    times = np.arange(0, 4, 0.04)
    busy = np.exp(videos.irregular(times))
    assert sync.offset(times, busy, times, np.ones(100)) == sync.Offset(0.0, 0.0)
    assert sync.offset(times, np.ones(100), times, busy) == sync.Offset(0.0, 0.0)
    assert sync.offset(times[:5], busy[:5], times, busy) == sync.Offset(0.0, 0.0)
    assert sync.offsets([times[:3]] * 2, [busy[:3]] * 2)[1] == sync.Offset(0.0, 0.0)
    assert sync.offsets([], []) == []
    assert sync.offsets([times], [busy]) == [sync.Offset(0.0, 1.0)]


def test_sentence_names_camera_direction_and_the_value_to_set() -> None:
    offsets = [sync.Offset(0.0, 1.0), sync.Offset(0.5, 0.8), sync.Offset(-0.25, 0.9), sync.Offset(0.4, 0.1)]
    warnings = sync.clear_offsets("monday", ["a", "b", "c", "d"], offsets, [0.0, 0.0, 1.0, 0.0], 0.04)
    assert len(warnings) == 2
    assert (
        "monday: camera b seems to start 0.500 s later against a" in warnings[0]
        and "offset = 0.500" in warnings[0]
    )
    assert "camera c seems to start 0.250 s earlier" in warnings[1] and "offset = 0.750" in warnings[1]


def test_offset_between_two_videos(tmp_path: Path) -> None:
    """Two cameras that see the same person mirrored, at another size and rate, the second started 0.44 s
    later.
    """
    looks = []
    for name, rate, start, side in (("a.mp4", 25, 0.0, 1.0), ("b.mp4", 30, 0.44, -0.7)):
        times = np.arange(0, 9, 1 / rate)
        where = np.stack([80 + side * 50 * videos.irregular(times + start), np.full(len(times), 60.0)], 1)
        looks.append(video.survey(videos.write(tmp_path / name, videos.scene(times, where), rate)))
    offsets = sync.offset(looks[0].times, looks[0].energy, looks[1].times, looks[1].energy)
    assert offsets.seconds == pytest.approx(0.44, abs=0.04)
    assert offsets.is_clear(1 / 25)


def test_real_cameras_that_agree_are_not_warned_of(shared: Path) -> None:
    clip = shared / "data" / "four_camera_clip"
    looks = [videos.survey(clip / f"cam0{number}.mp4") for number in (1, 2)]
    offsets = sync.offsets([look.times for look in looks], [look.energy for look in looks])
    assert abs(offsets[1].seconds) < 0.05
    assert not offsets[1].is_clear(1 / 60)
