"""Whose poses a run may use: `--labelled` against a sequence table, and whether a batch can be had from it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from datasets.tuples import sampling
from datasets.tuples.records import SequenceRow
from launch.runs import settings
from mcss_jax.errors import UserError


def choose(
    config: settings.Train, table: Sequence[SequenceRow], views: int, name: str
) -> tuple[sampling.Labels, Int[np.ndarray, " n"]]:
    """The labelled subjects and their labelled records; `views` are the cameras of the data set `name`.

    Raises UserError for a bad `--labelled` and for batches that are too large for what it leaves.
    """
    labels = sampling.parse_labelled(config.data.labelled, table)
    records = sampling.labelled_records(table, labels, config.data.label_sampling, config.run.seed)
    if config.method == "baseline" and not len(records):
        raise UserError(
            f"--method=baseline learns from labels alone, but --labelled={config.data.labelled} leaves none; "
            f"name subjects whose poses {name} holds"
        )
    blocks = None if config.data.stream else settings.blocks_of(config)  # a stream has no end
    unlabelled = () if blocks is None else unlabelled_table(config, table)
    sampling.check(unlabelled, views, blocks, len(records), settings.labelled_size(config))
    return labels, records


def unlabelled_table(config: settings.Train, table: Sequence[SequenceRow]) -> tuple[SequenceRow, ...]:
    """What `--unlabelled` leaves of a sequence table. Raises UserError where that cannot be."""
    return sampling.unlabelled_table(config.data.unlabelled, table)
