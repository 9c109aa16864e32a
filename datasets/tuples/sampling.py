"""Which records make up the batch of a step: pure functions of (seed, step, sequence table).

No record is read to plan. A plan is the same on every host and after every restart, so a run resumes with
nothing but the number of its step.
"""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from datasets.tuples.records import SequenceRow
from mcss_jax.errors import UserError

# Streams of draws, each with its own generator: changing one part of a batch leaves the other as it was.
_UNLABELLED, _LABELLED, _UNLABELLED_VIEWS, _LABELLED_VIEWS, _STRETCHES = range(5)

LabelSampling = Literal["uniform", "chunk"]
"""How a fraction of a subject's records is chosen: evenly spread, or one stretch of every sequence."""

Positives = Literal["views", "augmented"]
"""The two pictures of an unlabelled instant: two views or, as a control, one view twice, augmented independently."""


@dataclasses.dataclass(frozen=True)
class Labels:
    """Parsed `--labelled`: fraction of each subject's records whose poses may be read."""

    fractions: tuple[tuple[str, float], ...]


def parse_labelled(text: str, table: Sequence[SequenceRow]) -> Labels:
    """`S1`, `S1,S5`, `S1:0.1`, `none` or `all` against the subjects of a table.

    Raises UserError for an unknown or repeated subject, a subject without poses, and a fraction outside
    (0, 1].
    """
    has_poses = {row.subject: False for row in table}
    for row in table:
        has_poses[row.subject] |= row.has_pose
    if text == "none":
        return Labels(())
    if text == "all":
        return Labels(tuple((subject, 1.0) for subject, has_pose in sorted(has_poses.items()) if has_pose))
    fractions = _fractions("--labelled", text, has_poses)
    for subject in fractions:
        if not has_poses[subject]:
            raise UserError(f"--labelled names subject {subject!r}, but the data set holds no pose of theirs")
    return Labels(tuple(sorted(fractions.items())))


def _fractions(flag: str, text: str, subjects: Collection[str]) -> dict[str, float]:
    """The fraction of each subject named. Raises UserError for subjects and fractions that cannot be."""
    fractions: dict[str, float] = {}
    for part in text.split(","):
        subject, colon, share = part.strip().partition(":")
        if subject not in subjects:
            raise UserError(
                f"{flag} names subject {subject!r}; the training split has {', '.join(sorted(subjects))}"
            )
        if subject in fractions:
            raise UserError(f"{flag} names subject {subject!r} twice in {text!r}")
        try:
            fraction = float(share) if colon else 1.0
        except ValueError:
            fraction = float("nan")
        if not 0.0 < fraction <= 1.0:
            raise UserError(
                f"{flag} gives subject {subject!r} the fraction {share!r}; expected a number in (0, 1]"
            )
        fractions[subject] = fraction
    return fractions


def unlabelled_table(text: str, table: Sequence[SequenceRow]) -> tuple[SequenceRow, ...]:
    """The rows of a table that `all`, `S1,S5`, `S1:0.5` or `all:0.5` leaves, for pictures without labels.

    Of a subject's sequences a fraction keeps that many whole ones, evenly spread; where it is less than one sequence,
    the beginning of the first.

    Raises UserError for an unknown or repeated subject and a fraction outside (0, 1].
    """
    subjects = dict.fromkeys(row.subject for row in table)
    if text.partition(":")[0] == "all" and "all" not in subjects:
        share = _fractions("--unlabelled", text, ("all",))["all"]
        fractions = dict.fromkeys(subjects, share)
    else:
        fractions = _fractions("--unlabelled", text, subjects)
    kept: list[SequenceRow] = []
    for subject, fraction in fractions.items():
        rows = [row for row in table if row.subject == subject and row.length]
        wanted = fraction * len(rows)
        if wanted < 1:
            kept += [_beginning(row, wanted) for row in rows[:1]]
        else:
            count = round(wanted)
            kept += [rows[int((i + 0.5) * len(rows) / count)] for i in range(count)]
    return tuple(sorted(kept, key=lambda row: row.first))


def _beginning(row: SequenceRow, fraction: float) -> SequenceRow:
    """The first records of a sequence, at least one."""
    return dataclasses.replace(row, length=max(1, round(fraction * row.length)), runs=())


def labelled_records(
    table: Sequence[SequenceRow], labels: Labels, how: LabelSampling = "uniform", seed: int = 0
) -> Int[np.ndarray, " n"]:
    """Records whose poses may be read, in order. Sequences without poses hold none.

    `uniform`: evenly spread over each labelled subject's records, at least one per subject; `seed` plays no
    part. `chunk`: of every sequence of the subject one contiguous stretch of that share, at least one record,
    at a place drawn from `seed` and the sequence alone: it depends on no other setting of a run, and the
    stretches of a smaller share lie inside those of a larger one.
    """
    chosen: list[np.ndarray] = []
    for subject, fraction in labels.fractions:
        rows = [row for row in table if row.subject == subject and row.has_pose and row.length]
        if how == "chunk":
            chosen.extend(_stretch(row, fraction, seed) for row in rows)
            continue
        records = np.concatenate([np.arange(row.first, row.first + row.length) for row in rows])
        count = max(1, round(fraction * len(records)))
        chosen.append(records[np.floor((np.arange(count) + 0.5) * len(records) / count).astype(int)])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def _stretch(row: SequenceRow, fraction: float, seed: int) -> Int[np.ndarray, " k"]:
    """A contiguous share of a sequence's records."""
    count = max(1, round(fraction * row.length))
    # One draw whatever the share is, so that a larger stretch covers a smaller one.
    place = _generator(seed, row.first, _STRETCHES).random()
    return row.first + int(place * (row.length - count + 1)) + np.arange(count)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Make-up of the unlabelled part: `blocks` of one group each, of `sequences` x `instants` instants."""

    blocks: int
    sequences: int
    instants: int
    min_gap: float  # seconds between the instants of a sequence
    mix_groups: bool = False  # control: instants from anywhere instead of blocks of one group
    positives: Positives = "views"

    @property
    def size(self) -> int:
        """Instants in the batch."""
        return self.blocks * self.sequences * self.instants


@dataclasses.dataclass(frozen=True)
class Plan:
    """Records and views of one step. `views[i]` is an order of preference: the first valid ones are used.

    With augmented positives every view stands twice in a row, so that the first valid one is used twice. `first_*` is
    the place in the step's batch of a part's first row: not 0 in one host's share.
    """

    unlabelled: Int[np.ndarray, " b"]
    unlabelled_views: Int[np.ndarray, "b o"]
    labelled: Int[np.ndarray, " l"]
    labelled_views: Int[np.ndarray, "l v"]
    first_unlabelled: int = 0
    first_labelled: int = 0


def _generator(seed: int, step: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, step])))


def spaced_records(
    rng: np.random.Generator, row: SequenceRow, count: int, min_gap: float
) -> Int[np.ndarray, " k"]:
    """`count` records of a sequence, at least `min_gap` seconds apart wherever the sequence is long enough.

    Too short a sequence gives instants as far apart as it can; the temporal rule masks those that are too
    near.
    """
    spacing = int(np.ceil(min_gap / row.seconds_per_record - 1e-9)) if row.seconds_per_record > 0 else 1
    spacing = max(1, min(spacing, (row.length - 1) // max(count - 1, 1)))
    slack = row.length - (count - 1) * spacing
    if slack < 1:
        return row.first + rng.choice(row.length, count, replace=True)
    # Different draws, sorted, plus what the spacing adds to one: uniform over all choices that keep it.
    draws = np.sort(rng.choice(slack + count - 1, count, replace=False))
    offsets = draws + np.arange(count) * (spacing - 1)
    return row.first + offsets


def _block(rng: np.random.Generator, rows: Sequence[SequenceRow], blocks: Blocks) -> Int[np.ndarray, " k"]:
    weights = np.asarray([row.length for row in rows], float)
    available = min(blocks.sequences, len(rows))
    picked = rng.choice(len(rows), available, replace=False, p=weights / weights.sum())
    # A group with fewer sequences gives more instants of those it has.
    counts = np.full(available, blocks.sequences * blocks.instants // available)
    counts[: blocks.sequences * blocks.instants % available] += 1
    return np.concatenate(
        [spaced_records(rng, rows[p], int(n), blocks.min_gap) for p, n in zip(picked, counts, strict=True)]
    )


def unlabelled_records(
    table: Sequence[SequenceRow], blocks: Blocks, seed: int, step: int
) -> Int[np.ndarray, " b"]:
    """Records of the unlabelled part of a step, block after block.

    Groups are drawn in proportion to their length, without repetition while there are enough.
    """
    rng = _generator(seed, step, _UNLABELLED)
    if blocks.mix_groups:
        records = np.concatenate([row.first + np.arange(row.length) for row in table])
        return rng.choice(records, blocks.size, replace=blocks.size > len(records))
    groups: dict[int, list[SequenceRow]] = {}
    for row in (row for row in table if row.length > 0):
        groups.setdefault(row.group, []).append(row)
    lengths = np.asarray([sum(row.length for row in rows) for rows in groups.values()], float)
    rows_of = list(groups.values())
    picked: list[int] = []
    while len(picked) < blocks.blocks:
        take = min(blocks.blocks - len(picked), len(rows_of))
        picked.extend(rng.choice(len(rows_of), take, replace=False, p=lengths / lengths.sum()))
    return np.concatenate([_block(rng, rows_of[g], blocks) for g in picked])


def labelled_batch(records: Int[np.ndarray, " n"], size: int, seed: int, step: int) -> Int[np.ndarray, " l"]:
    """`size` labelled records of a step: walks through a fresh permutation of all of them in every epoch."""
    position = step * size + np.arange(size)
    epochs = position // len(records)
    out = np.empty(size, np.int64)
    for epoch in np.unique(epochs):
        order = _generator(seed, int(epoch), _LABELLED).permutation(len(records))
        inside = epochs == epoch
        out[inside] = records[order[position[inside] % len(records)]]
    return out


def plan(
    table: Sequence[SequenceRow],
    views: int,
    *,
    seed: int,
    step: int,
    blocks: Blocks | None,
    labelled: Int[np.ndarray, " n"],
    labelled_size: int,
) -> Plan:
    """The plan of a step. `blocks=None` plans no unlabelled part, `labelled_size=0` no labelled one."""
    empty = np.zeros(0, np.int64)
    unlabelled = empty if blocks is None else unlabelled_records(table, blocks, seed, step)
    labelled_rows = labelled_batch(labelled, labelled_size, seed, step) if labelled_size else empty

    def orders(count: int, stream: int) -> Int[np.ndarray, "n v"]:
        return np.argsort(_generator(seed, step, stream).random((count, views)), axis=1)

    pairs = orders(len(unlabelled), _UNLABELLED_VIEWS)
    if blocks is not None and blocks.positives == "augmented":
        pairs = np.repeat(pairs, 2, axis=1)
    return Plan(
        unlabelled=unlabelled,
        unlabelled_views=pairs,
        labelled=labelled_rows,
        labelled_views=orders(len(labelled_rows), _LABELLED_VIEWS),
    )


def share(batch_plan: Plan, host: int, hosts: int) -> Plan:
    """One host's rows of a step's plan, an equal stretch of each part: all that this host reads and decodes.

    Raises UserError when the hosts cannot share a part evenly.
    """
    unlabelled, labelled = len(batch_plan.unlabelled), len(batch_plan.labelled)
    if unlabelled % hosts or labelled % hosts:
        raise UserError(
            f"{unlabelled} unlabelled and {labelled} labelled rows of a batch cannot be shared evenly by {hosts} hosts"
        )
    u = slice(host * unlabelled // hosts, (host + 1) * unlabelled // hosts)
    l = slice(host * labelled // hosts, (host + 1) * labelled // hosts)
    return Plan(
        batch_plan.unlabelled[u],
        batch_plan.unlabelled_views[u],
        batch_plan.labelled[l],
        batch_plan.labelled_views[l],
        u.start,
        l.start,
    )


def check(table: Sequence[SequenceRow], views: int, blocks: Blocks | None, labelled: int, size: int) -> None:
    """Raises UserError when batches of this make-up cannot be had from a table."""
    records = sum(row.length for row in table)
    if blocks is not None:
        if views < 2 and blocks.positives == "views":
            raise UserError(f"multi-view training needs at least 2 cameras; the data set has {views}")
        if blocks.size > records:
            raise UserError(
                f"a batch of {blocks.size} unlabelled instants (--blocks x --sequences x --instants) is "
                f"larger than the training split of {records} instants; lower one of the three, or set them to auto"
            )
    if size > 0 and labelled == 0:
        raise UserError("a labelled batch was asked for, but --labelled leaves no labelled instant")
    if size > labelled * views and size > 0:
        raise UserError(
            f"--labelled_batch={size} is larger than the {labelled} labelled instants x {views} views; lower "
            f"it to at most {labelled * views}"
        )


def first_valid_views(
    mask: Bool[np.ndarray, " v"], order: Int[np.ndarray, " o"], count: int
) -> Int[np.ndarray, " k"] | None:
    """The first `count` valid views in order of preference, or None when there are fewer."""
    valid = [int(v) for v in order if mask[v]]
    return np.asarray(valid[:count]) if len(valid) >= count else None
