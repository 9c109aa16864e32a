"""Plans are pure, made up as promised, and complete; what cannot be planned is refused in a sentence."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.tuples import sampling
from datasets.tuples.records import SequenceRow
from datasets.tuples.sampling import Blocks
from tests.refusals import refused


def table_of(
    lengths: dict[tuple[str, int], list[int]], seconds: float = 0.25, has_pose: tuple[str, ...] = ("S1", "S2")
) -> tuple[SequenceRow, ...]:
    """Sequences by (subject, group), numbered through in order."""
    rows, first = [], 0
    for (subject, group), of_group in lengths.items():
        for take, length in enumerate(of_group):
            rows.append(
                SequenceRow(subject, "walk", str(take), group, first, length, seconds, subject in has_pose)
            )
            first += length
    return tuple(rows)


TABLE = table_of({("S1", 10): [20, 30], ("S2", 20): [40], ("S3", 30): [25, 25, 25], ("S1", 11): [15]})
RECORDS = 180
SEEDS = st.integers(0, 2**31 - 1)


def row_of(table: tuple[SequenceRow, ...], record: int) -> SequenceRow:
    return next(row for row in table if row.first <= record < row.first + row.length)


def plan(seed: int, step: int, **changes: object) -> sampling.Plan:
    given = {
        "blocks": Blocks(3, 2, 4, 0.5),
        "labelled": np.arange(0, 50, 2),
        "labelled_size": 8,
        **changes,
    }
    return sampling.plan(TABLE, 4, seed=seed, step=step, **given)


def same(first: sampling.Plan, second: sampling.Plan) -> bool:
    pairs = zip(dataclasses.astuple(first), dataclasses.astuple(second), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 10**6))
def test_a_plan_is_a_function_of_seed_and_step(seed: int, step: int) -> None:
    first = plan(seed, step)
    assert same(first, plan(seed, step))
    assert not same(first, plan(seed, step + 1)) and not same(first, plan(seed + 1, step))


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_one_part_of_the_batch_does_not_disturb_the_other(seed: int) -> None:
    whole = plan(seed, 3)
    other_labels = plan(seed, 3, labelled=np.arange(50), labelled_size=16)
    np.testing.assert_array_equal(whole.unlabelled, other_labels.unlabelled)
    np.testing.assert_array_equal(whole.unlabelled_views, other_labels.unlabelled_views)
    baseline = plan(seed, 3, blocks=None)
    np.testing.assert_array_equal(whole.labelled, baseline.labelled)
    np.testing.assert_array_equal(whole.labelled_views, baseline.labelled_views)
    assert len(baseline.unlabelled) == 0 and len(plan(seed, 3, labelled_size=0).labelled) == 0


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 6), st.integers(1, 3), st.integers(1, 8), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_blocks_are_of_one_group_and_keep_their_gap(
    seed: int, blocks: int, sequences: int, instants: int, gap: float
) -> None:
    make_up = Blocks(blocks, sequences, instants, gap)
    records = sampling.unlabelled_records(TABLE, make_up, seed, 0)
    assert len(records) == make_up.size == blocks * sequences * instants
    assert records.min() >= 0 and records.max() < RECORDS
    in_blocks = records.reshape(blocks, -1)
    groups = [{row_of(TABLE, r).group for r in block} for block in in_blocks]
    assert all(len(group) == 1 for group in groups)
    # Every group comes once before any comes twice.
    counts = [sum(group == {g} for group in groups) for g in (10, 11, 20, 30)]
    assert max(counts) - min(counts) <= 1
    spacing = max(1, int(np.ceil(gap / 0.25)))
    for block in in_blocks:
        of_sequence: dict[int, list[int]] = {}
        for record in block:
            of_sequence.setdefault(row_of(TABLE, record).first, []).append(int(record))
        available = sum(row.group in {row_of(TABLE, block[0]).group} for row in TABLE)
        assert len(of_sequence) == min(sequences, available, len(block))
        for first, members in of_sequence.items():
            length = row_of(TABLE, first).length
            expected = min(spacing, (length - 1) // max(len(members) - 1, 1))
            if len(members) <= length:
                assert np.diff(sorted(members)).min(initial=expected) >= expected


def test_spread_is_uniform_over_the_choices_that_keep_the_gap() -> None:
    """Two of five records two apart: (0,2) (0,3) (0,4) (1,3) (1,4) (2,4), a sixth of the draws each."""
    row = SequenceRow("S1", "", "", 0, 100, 5, 0.25)
    rng = np.random.default_rng(0)
    drawn = [tuple(int(r) for r in sampling.spaced_records(rng, row, 2, 0.5)) for _ in range(3000)]
    expected = {(100 + a, 100 + b) for a in range(5) for b in range(a + 2, 5)}
    counts = [drawn.count(pair) for pair in expected]
    assert set(drawn) == expected
    assert min(counts) > 420 and max(counts) < 580


def test_short_sequences_give_what_they_can() -> None:
    row = SequenceRow("S1", "", "", 0, 7, 3, 0.25)
    rng = np.random.default_rng(0)
    assert sorted(sampling.spaced_records(rng, row, 3, 5.0)) == [7, 8, 9]
    many = sampling.spaced_records(rng, row, 8, 0.5)
    assert len(many) == 8 and set(many) <= {7, 8, 9}
    assert list(sampling.spaced_records(rng, row, 1, 5.0)) != []
    still = dataclasses.replace(row, seconds_per_record=0.0)
    assert len(sampling.spaced_records(rng, still, 2, 0.5)) == 2


def test_an_empty_sequence_is_never_drawn() -> None:
    table = table_of({("S1", 0): [0, 6], ("S2", 1): [0]})
    for step in range(5):
        records = sampling.unlabelled_records(table, Blocks(2, 2, 2, 0.0), 0, step)
        assert set(records) <= set(range(6))


def test_the_ablation_draws_from_anywhere() -> None:
    make_up = Blocks(3, 2, 4, 0.5, mix_groups=True)
    records = sampling.unlabelled_records(TABLE, make_up, 0, 0)
    assert len(set(records)) == 24 and records.max() < RECORDS
    assert len({row_of(TABLE, r).group for r in records[:8]}) > 1
    assert len(sampling.unlabelled_records(TABLE, Blocks(20, 2, 5, 0.5, mix_groups=True), 0, 0)) == 200


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.integers(1, 13), st.integers(1, 40))
def test_every_labelled_record_once_an_epoch(seed: int, size: int, count: int) -> None:
    records = 3 * np.arange(count) + 1
    steps = -(-4 * count // size)
    walked = np.concatenate([sampling.labelled_batch(records, size, seed, step) for step in range(steps)])
    epochs = walked[: 4 * count].reshape(4, count)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), records)
    if count > 8:
        assert len({tuple(epoch) for epoch in epochs}) == 4


def test_views_are_an_order_of_preference() -> None:
    views = plan(0, 0).unlabelled_views
    np.testing.assert_array_equal(np.sort(views, axis=1), np.tile(np.arange(4), (24, 1)))
    assert len(np.unique(views, axis=0)) > 8
    mask = np.asarray([True, False, True, True])
    np.testing.assert_array_equal(sampling.first_valid_views(mask, np.asarray([1, 3, 0, 2]), 2), [3, 0])
    assert sampling.first_valid_views(mask, np.asarray([1, 3, 0, 2]), 4) is None


def test_an_augmented_positive_is_the_preferred_view_twice() -> None:
    views = plan(0, 0)
    augmented = plan(0, 0, blocks=Blocks(3, 2, 4, 0.5, positives="augmented"))
    np.testing.assert_array_equal(augmented.unlabelled_views, np.repeat(views.unlabelled_views, 2, axis=1))
    np.testing.assert_array_equal(augmented.unlabelled, views.unlabelled)
    np.testing.assert_array_equal(augmented.labelled_views, views.labelled_views)
    mask = np.asarray([True, False, True, True])
    np.testing.assert_array_equal(
        sampling.first_valid_views(mask, np.asarray([1, 1, 3, 3, 0, 0, 2, 2]), 2), [3, 3]
    )


def test_parse_labelled() -> None:
    assert sampling.parse_labelled("none", TABLE).fractions == ()
    assert sampling.parse_labelled("all", TABLE).fractions == (("S1", 1.0), ("S2", 1.0))
    assert sampling.parse_labelled("S2, S1:0.1", TABLE).fractions == (("S1", 0.1), ("S2", 1.0))
    assert sampling.parse_labelled("S1:1", TABLE).fractions == (("S1", 1.0),)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("S9", ("--labelled", "'S9'", "S1, S2, S3")),
        ("", ("--labelled", "''", "S1, S2, S3")),
        ("S1,S1:0.5", ("--labelled", "'S1'", "twice", "'S1,S1:0.5'")),
        ("S3", ("--labelled", "'S3'", "no pose")),
        *(
            (f"S1:{share}", ("--labelled", "'S1'", f"'{share}'", "(0, 1]"))
            for share in ("0", "-0.1", "1.01", "nan", "inf", "ten", "")
        ),
    ],
)
def test_parse_labelled_refuses(text: str, facts: tuple[str, ...]) -> None:
    with refused(*facts):
        sampling.parse_labelled(text, TABLE)


def test_labelled_records_are_spread_evenly() -> None:
    def records(text: str) -> list[int]:
        return list(sampling.labelled_records(TABLE, sampling.parse_labelled(text, TABLE)))

    of_s1 = [*range(50), *range(165, 180)]
    assert records("S1") == of_s1
    assert records("none") == []
    tenth = records("S1:0.2")
    assert len(tenth) == 13 and set(tenth) <= set(of_s1)
    places = [of_s1.index(r) for r in tenth]
    assert set(np.diff(places)) == {5}
    assert len(records("S1:0.0001")) == 1, "at least one"
    assert records("S1:0.2,S2") == sorted(tenth + list(range(50, 90)))
    # Half a subject whose second sequence has no poses: only the first counts.
    partly = (*TABLE[:1], dataclasses.replace(TABLE[1], has_pose=False), *TABLE[2:])
    labelled = sampling.labelled_records(partly, sampling.parse_labelled("S1", partly))
    assert set(labelled) == {*range(20), *range(165, 180)}


def stretches(text: str, seed: int = 0, table: tuple[SequenceRow, ...] = TABLE) -> dict[int, list[int]]:
    """Chosen records by the first record of their sequence."""
    labels = sampling.parse_labelled(text, table)
    by_sequence: dict[int, list[int]] = {}
    for record in sampling.labelled_records(table, labels, "chunk", seed):
        by_sequence.setdefault(row_of(table, int(record)).first, []).append(int(record))
    return by_sequence


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.001, 1.0))
def test_a_chunk_is_one_stretch_of_every_sequence(seed: int, share: float) -> None:
    by_sequence = stretches(f"S1:{share!r},S2:{share!r}", seed)
    rows = [row for row in TABLE if row.subject in ("S1", "S2")]
    assert set(by_sequence) == {row.first for row in rows}
    for row in rows:
        of_row = by_sequence[row.first]
        assert of_row == list(range(of_row[0], of_row[0] + max(1, round(share * row.length))))
        assert row.first <= of_row[0] and of_row[-1] < row.first + row.length
    assert by_sequence == stretches(f"S1:{share!r},S2:{share!r}", seed)


def test_chunks_lie_anywhere_and_the_smaller_in_the_larger() -> None:
    starts = [stretches("S2:0.25", seed)[50][0] - 50 for seed in range(400)]
    assert set(starts) == set(range(31)), "ten of forty records, at every place"
    for seed in range(50):
        nested = [stretches(f"S1:{share}", seed) for share in (0.01, 0.05, 0.1, 0.2, 0.5, 1)]
        for small, large in zip(nested, nested[1:], strict=False):
            assert all(set(small[first]) <= set(large[first]) for first in large)
    assert sum(map(len, stretches("S1").values())) == 65, "the whole subject"


def test_chunks_skip_what_has_no_pose_or_no_record() -> None:
    table = table_of({("S1", 0): [10, 0, 10]})
    table = (*table[:2], dataclasses.replace(table[2], has_pose=False))
    assert set(stretches("S1:0.5", 0, table)) == {0}
    # Another sequence beside it moves no stretch.
    assert stretches("S1:0.3")[0] == stretches("S1:0.3", 0, TABLE[:1])[0]


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_hosts_share_a_plan(hosts: int) -> None:
    """Their shares, one after another, are the plan, row by row; each knows where its rows stand."""
    whole = plan(3, 5)
    shares = [sampling.share(whole, host, hosts) for host in range(hosts)]
    for part in ("unlabelled", "labelled"):
        for field in (part, f"{part}_views"):
            rows = np.concatenate([getattr(share, field) for share in shares])
            np.testing.assert_array_equal(rows, getattr(whole, field))
        sizes = {len(getattr(share, part)) for share in shares}
        assert sizes == {len(getattr(whole, part)) // hosts}
        firsts = [getattr(share, f"first_{part}") for share in shares]
        assert firsts == [host * sizes.copy().pop() for host in range(hosts)]


def test_a_plan_that_hosts_cannot_share() -> None:
    with refused("24 unlabelled", "8 labelled", "3 hosts"):
        sampling.share(plan(3, 5), 0, 3)


def test_check() -> None:
    blocks = Blocks(3, 2, 4, 0.5)
    sampling.check(TABLE, 4, blocks, 10, 40)
    sampling.check(TABLE, 1, None, 10, 10)
    sampling.check(TABLE, 2, blocks, 0, 0)
    with refused("2 cameras", "1"):
        sampling.check(TABLE, 1, blocks, 10, 4)
    sampling.check(TABLE, 1, dataclasses.replace(blocks, positives="augmented"), 10, 4)
    with refused("184", "180 instants"):
        sampling.check(TABLE, 4, Blocks(23, 2, 4, 0.5), 10, 4)
    with refused("--labelled", "no labelled instant"):
        sampling.check(TABLE, 4, blocks, 0, 4)
    with refused("--labelled_batch=41", "10", "40"):
        sampling.check(TABLE, 4, None, 10, 41)
