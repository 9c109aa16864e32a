"""How many blocks, sequences and instants the unlabelled part of a batch has, by what a sequence table holds.

Negatives are instants of the anchor's own group, so a block should hold many of one group, and a batch some groups
(docs/method.md#batches).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from datasets.tuples.records import SequenceRow

# Instants of a batch, and blocks and sequences of a block, where the data hold as many: those that the figures of
# docs/results.md are of.
SIZE, BLOCKS, SEQUENCES = 96, 4, 4


class Numbers(NamedTuple):
    """`blocks` of one group each, of `sequences` x `instants` instants."""

    blocks: int
    sequences: int
    instants: int

    @property
    def size(self) -> int:
        """Instants in the batch."""
        return self.blocks * self.sequences * self.instants


NAMES = Numbers._fields
LARGE: tuple[SequenceRow, ...] = tuple(
    SequenceRow("", "", "", i // SEQUENCES, i << 20, 1 << 20, 1.0) for i in range(BLOCKS * SEQUENCES)
)
"""The table of a set that holds as much as can be asked for: for streams, and programs that have no set at hand."""


def choose(table: Sequence[SequenceRow], shares: int = 1, fixed: Mapping[str, int] | None = None) -> Numbers:
    """The numbers for a table; those that are `fixed`, by name, are kept.

    1. A block for every group, 4 at most; the batch's 96 instants are shared among them. A block takes no more
       instants than the typical group has records: the one that half of all records are in or in smaller ones.
    2. They come from 4 sequences, or as many as that group has, the same number from each.
    3. Small groups leave room for more blocks, as far as there are groups.
    4. The batch is no larger than the table, and a multiple of `shares` (devices x accumulation): more blocks, or else
       fewer instants, or more. Where no batch is, what came before stands, for the caller to refuse.
    """
    fixed = {} if fixed is None else fixed
    records, sequences_of_group, groups = _typical_group(table)
    blocks = fixed.get("blocks", min(BLOCKS, groups))
    in_block = min(max(SIZE // blocks, 1), records)
    wanted = min(SEQUENCES, sequences_of_group, max(1, in_block // fixed.get("instants", 1)))
    sequences = fixed.get("sequences", wanted)
    instants = fixed.get("instants", max(1, in_block // sequences))
    blocks = fixed.get("blocks", max(1, min(groups, SIZE // (sequences * instants))))
    first = Numbers(blocks, sequences, instants)
    total = sum(row.length for row in table)
    for numbers in _nearby(first, shares, fixed):
        if numbers.size <= total and numbers.size % shares == 0:
            return numbers
    return first


def _typical_group(table: Sequence[SequenceRow]) -> tuple[int, int, int]:
    """Records and sequences of the group in which half of all records, small groups first, are reached; groups."""
    rows: dict[int, list[int]] = {}
    for row in table:
        if row.length:
            rows.setdefault(row.group, []).append(row.length)
    by_size = sorted(rows.values(), key=sum)
    half, reached = sum(map(sum, by_size)) / 2, 0
    for lengths in by_size:
        reached += sum(lengths)
        if reached >= half:
            return sum(lengths), len(lengths), len(by_size)
    return 1, 1, 1


def _nearby(first: Numbers, shares: int, fixed: Mapping[str, int]) -> Iterator[Numbers]:
    """Numbers to try: more blocks, then fewer instants, fewer sequences or blocks as well, at last more instants."""
    free = {name: name not in fixed for name in NAMES}

    def down(name: str) -> range:
        value = int(getattr(first, name))
        return range(value, 0 if free[name] else value - 1, -1)

    for blocks in range(first.blocks, first.blocks + (shares if free["blocks"] else 1)):
        yield first._replace(blocks=blocks)
    for blocks in down("blocks"):
        for sequences in down("sequences"):
            for instants in down("instants"):
                yield Numbers(blocks, sequences, instants)
    if free["instants"]:
        for instants in range(first.instants + 1, first.instants + shares):
            yield first._replace(instants=instants)
