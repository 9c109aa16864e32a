"""Whether batches hold negatives that the method can learn from, looked at before the first update."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from datasets.tuples.records import SequenceRow
from launch.runs import settings
from launch.training import sources
from mcss_jax import mining
from mcss_jax.errors import UserError
from mcss_jax.pairs import Instants

# Planned batches that are looked at.
BATCHES = 8
# Instants of a group that can be each other's negatives, below which they say little: a block's worth. Groups of 14
# instants of one action gave no gain (docs/method.md#batches).
FEW = 24


def check(config: settings.Train, source: sources.Source) -> str:
    """What is to be said of the negatives that a run will find; empty where all is well.

    Raises UserError for a batch in which no anchor has a negative.
    """
    learns = config.method == "mcss" and config.objective.metric_weight > 0
    if not learns:
        return ""
    rule = config.objective
    for step in range(min(BATCHES, config.optimiser.steps)):
        if not _mask(source.instants(step), rule.min_negative_gap, rule.across_groups).any():
            raise UserError(
                f"no unlabelled instant in the batch of step {step + 1} has a negative: one of its own group, in "
                f"another sequence or at least {rule.min_negative_gap:g} s away (--min_negative_gap). Record each "
                f"person for longer, lower --min_negative_gap, {_larger_blocks(config)}or count other groups too "
                "(--across_groups)"
            )
    table = source.recorded()
    if not table or rule.across_groups:
        return ""
    capacity = typical_capacity(table, rule.min_negative_gap)
    if capacity >= FEW:
        return ""
    return (
        f"few negatives: a typical group (one person in one room and clothes) holds {capacity} instants that are "
        f"{rule.min_negative_gap:g} s apart (--min_negative_gap), and under {FEW} the method has shown no gain; record "
        f"each person for {FEW * max(rule.min_negative_gap, _spacing(table)):g} s or more, in one room and clothes, "
        "moving in many ways, or lower --min_negative_gap"
    )


def _mask(instants: Instants, min_gap: float, across_groups: bool) -> Bool[np.ndarray, "n n"]:
    mask = mining.negative_mask(instants.group, instants.sequence, instants.time, min_gap, across_groups)
    return np.asarray(mask)


def _larger_blocks(config: settings.Train) -> str:
    blocks = settings.blocks_of(config)
    few = blocks is not None and blocks.sequences * blocks.instants < 2
    return "raise --sequences or --instants, " if few else ""


def typical_capacity(table: Sequence[SequenceRow], min_gap: float) -> int:
    """Instants that can be each other's negatives in the group that half of all records are in or in smaller ones."""
    groups: dict[int, list[SequenceRow]] = {}
    for row in table:
        groups.setdefault(row.group, []).append(row)
    by_size = sorted(groups.values(), key=lambda rows: sum(row.length for row in rows))
    sizes = np.cumsum([sum(row.length for row in rows) for rows in by_size])
    typical = by_size[int(np.searchsorted(sizes, sizes[-1] / 2))]
    return sum(_apart(row, min_gap) for row in typical)


def _apart(row: SequenceRow, min_gap: float) -> int:
    """Records of a sequence, each at least the gap after the last."""
    if row.seconds_per_record <= 0:
        return 1
    every = max(1, int(np.ceil((min_gap - mining.TIME_TOLERANCE) / row.seconds_per_record)))
    return (row.length - 1) // every + 1


def _spacing(table: Sequence[SequenceRow]) -> float:
    return max(row.seconds_per_record for row in table)
