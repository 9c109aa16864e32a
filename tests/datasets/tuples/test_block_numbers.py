"""The numbers that stand for `auto`, on tables of the shapes that there are."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.tuples import block_numbers, sampling
from datasets.tuples.block_numbers import Numbers, choose
from datasets.tuples.records import SequenceRow


def table(groups: Sequence[Sequence[int]], seconds: float = 0.1) -> tuple[SequenceRow, ...]:
    """Groups of sequences, by their lengths."""
    rows, first = [], 0
    for group, lengths in enumerate(groups):
        for number, length in enumerate(lengths):
            rows.append(SequenceRow(f"S{group}", "act", str(number), group, first, length, seconds))
            first += length
    return tuple(rows)


# Groups by the lengths of their sequences: ten records a second, where nothing else is said.
SHAPES = {
    # Seven people, thirty takes of a minute or two each, at ten per second.
    "Human3.6M": ([[700 + 40 * k for k in range(30)] for _ in range(7)], Numbers(4, 4, 6)),
    # Eight people in two kinds of clothes, one long take of each.
    "MPI-INF-3DHP": ([[2000 + 100 * k] for k in range(16)], Numbers(4, 1, 24)),
    "one long recording": ([[9000]], Numbers(1, 1, 96)),
    "a two-second clip": ([[20]], Numbers(1, 1, 20)),
    "the clip that there was": ([[17]], Numbers(1, 1, 17)),
    "many sessions": ([[300, 280, 350, 310, 90] for _ in range(60)], Numbers(4, 4, 6)),
    "many people, a short take each": ([[30] for _ in range(200)], Numbers(4, 1, 24)),
    "a room for every sequence of four seconds": ([[14] for _ in range(240)], Numbers(6, 1, 14)),
    "two takes of one person": ([[400, 200]], Numbers(1, 2, 48)),
    "two people": ([[100, 100, 100], [100, 100, 100]], Numbers(2, 3, 16)),
    "one record": ([[1]], Numbers(1, 1, 1)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_by_shape(shape: str) -> None:
    groups, expected = SHAPES[shape]
    assert choose(table(groups)) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_can_be_had_and_lies_in_its_groups(shape: str) -> None:
    rows = table(SHAPES[shape][0])
    numbers = choose(rows)
    blocks = sampling.Blocks(*numbers, 0.0)
    sampling.check(rows, 4, blocks, 0, 0)
    records = sampling.unlabelled_records(rows, blocks, seed=3, step=1)
    assert len(records) == numbers.size
    if numbers.size > 1:
        assert len(set(records.tolist())) == len(records), "no record twice"


def test_the_typical_group_holds_the_middle_record() -> None:
    """A few long sessions count for more than many short ones, record by record."""
    assert choose(table([[5]] * 20 + [[500, 500]])) == Numbers(4, 2, 12)
    assert choose(table([[5]] * 300 + [[500, 500]])).instants == 5


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=6), min_size=1, max_size=12),
    st.integers(1, 16),
    st.dictionaries(st.sampled_from(block_numbers.NAMES), st.integers(1, 9)),
)
def test_what_always_holds(groups: list[list[int]], shares: int, fixed: dict[str, int]) -> None:
    rows = table(groups)
    total = sum(map(sum, groups))
    numbers = choose(rows, shares, fixed)
    assert all(value >= 1 for value in numbers)
    assert {name: getattr(numbers, name) for name in fixed} == fixed
    if numbers.size > total or numbers.size % shares:
        most = choose(rows, 1, fixed)._asdict()
        fewer = [[fixed[name]] if name in fixed else range(1, most[name] + 1) for name in block_numbers.NAMES]
        sizes = {a * b * c for a, b, c in itertools.product(*fewer)}
        assert not [size for size in sizes if size <= total and size % shares == 0], (
            "no smaller batch will do"
        )


@pytest.mark.parametrize(("shares", "size"), [(1, 96), (2, 96), (5, 120), (7, 168), (8, 96), (64, 384)])
def test_devices_share_a_batch_evenly(shares: int, size: int) -> None:
    numbers = choose(block_numbers.LARGE, shares)
    assert numbers.size % shares == 0 and numbers.size <= size
    assert numbers[1:] == (4, 6), "more blocks, of the same make-up"


def test_what_is_fixed_decides_the_rest() -> None:
    rows = table(SHAPES["many sessions"][0])
    assert choose(rows, fixed={"blocks": 2}) == Numbers(2, 4, 12)
    assert choose(rows, fixed={"sequences": 2}) == Numbers(4, 2, 12)
    assert choose(rows, fixed={"instants": 12}) == Numbers(4, 2, 12)
    assert choose(rows, fixed={"instants": 48}) == Numbers(2, 1, 48)
