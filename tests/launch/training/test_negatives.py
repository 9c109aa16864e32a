"""Whether a run is told what negatives it will find: groups that hold too few, batches that hold none."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow
from launch.cli import options
from launch.runs.settings import Train
from launch.training import negatives, sources, streamed
from mcss_jax.pairs import Instants
from tests.refusals import refused

CONFIG = options.build(Train, workdir="x", blocks=1, sequences=2, instants=6, steps=20)


def row(group: int, length: int, seconds: float = 0.1) -> SequenceRow:
    return SequenceRow("S1", "act", "1", group, 0, length, seconds)


@dataclasses.dataclass
class Held:
    """A source of instants by step, and the rows that they are of."""

    by_step: dict[int, list[tuple[int, int, float]]]
    rows: tuple[SequenceRow, ...] = ()

    def instants(self, step: int) -> Instants:
        group, sequence, time = zip(*self.by_step.get(step, [(1, 1, 0.0), (1, 2, 0.0)]), strict=True)
        whole: Any = jnp.asarray
        return Instants(whole(group), whole(sequence), whole(time, jnp.float32), jnp.ones(len(group), bool))

    def recorded(self) -> tuple[SequenceRow, ...]:
        return self.rows


def said(by_step: Any = None, rows: Any = (), **changes: Any) -> str:
    source: Any = Held(by_step or {}, tuple(rows))
    return negatives.check(options.replace(CONFIG, **changes), source)


@pytest.mark.parametrize("step", [0, 5, negatives.BATCHES - 1])
def test_a_batch_without_a_negative_is_refused(step: int) -> None:
    near = {step: [(1, 1, 0.0), (1, 1, 0.3), (2, 5, 0.0)]}
    with refused(f"step {step + 1}", "--min_negative_gap", "0.5", "--across_groups"):
        said(near)
    # It is the rule of the run that counts.
    assert said(near, min_negative_gap=0.3) == "" == said(near, across_groups=True)
    with refused("--min_negative_gap"):
        said(near, min_negative_gap=0.31)
    # Nor does it matter where no negative is looked for, or the run ends before.
    assert (
        said(near, method="batchnorm") == said(near, metric_weight=0.0) == said(near, method="baseline") == ""
    )
    if step:
        assert said(near, steps=step) == ""
    one_is_enough = {step: [*near[step], (1, 1, 0.5)]}
    assert said(one_is_enough) == ""


def test_groups_that_hold_too_few_are_told_with_their_number() -> None:
    short = [row(group, 14, 0.3) for group in range(9)]
    told = said(rows=short)
    # Of 14 records 0.3 s apart every second is 0.5 s from the last: seven.
    assert " 7 instants " in told and "0.5 s" in told and "12 s" in told and "--min_negative_gap" in told
    assert said(rows=short, min_negative_gap=0.3).count(" 14 instants ") == 1
    assert said(rows=short, across_groups=True) == "" == said(rows=short, method="batchnorm")
    assert said(rows=[row(group, 120) for group in range(9)]) == "", "24 of 120"
    assert " 23 instants " in said(rows=[row(group, 115) for group in range(9)])


@pytest.mark.parametrize(
    ("rows", "gap", "expected"),
    [
        ([row(1, 20)], 0.5, 4),  # 0, 5, 10, 15
        ([row(1, 21)], 0.5, 5),
        ([row(1, 20), row(1, 20)], 0.5, 8),  # sequences of a group add up
        ([row(1, 1)], 0.5, 1),
        ([row(1, 40, 0.5)], 0.5, 40),
        ([row(1, 40, 0.25)], 0.5, 20),
        ([row(1, 40)], 0.0, 40),
        ([row(1, 7, 0.0)], 0.5, 1),  # no time is known
        ([row(k, 10) for k in range(9)] + [row(99, 1000)], 0.5, 200),  # most records are in the long one
        ([row(k, 10) for k in range(200)] + [row(99, 1000)], 0.5, 2),
    ],
)
def test_the_typical_group_by_hand(rows: list[SequenceRow], gap: float, expected: int) -> None:
    assert negatives.typical_capacity(rows, gap) == expected


def test_a_stream_is_looked_at_too() -> None:
    stream = options.replace(CONFIG, stream=True, stream_size=16, labelled="none", validate_every=0)
    single = options.replace(stream, sequences=1, instants=1)
    with refused("step 1", "--sequences", "--instants"):
        negatives.check(single, streamed.Streamed(single))
    assert negatives.check(stream, streamed.Streamed(stream)) == ""


@pytest.mark.parametrize(("rooms", "people"), [("shared", 5), ("person", 10)])
def test_unlabelled_sequences_are_of_those_who_are_named(rooms: str, people: int) -> None:
    config = options.replace(CONFIG, stream=True, stream_size=16, labelled="none", stream_rooms=rooms)
    assert len(streamed.unlabelled_people(config)) == people
    source = streamed.Streamed(options.replace(config, unlabelled="S2,S4"))
    known = source.instants(7)
    assert set(np.asarray(known.group).tolist()) <= {2, 4} and len(known.group) == 12
    assert np.ptp(np.asarray(known.sequence)) == 1
    assert source.card["unlabelled_subjects"] == ["S2", "S4"]
    with refused("--unlabelled", "S2:0.5"):
        streamed.Streamed(options.replace(config, unlabelled="S2:0.5"))


def test_what_a_set_knows_of_its_instants_is_what_its_batches_hold(prepared_tiny: Any) -> None:
    config = options.replace(
        CONFIG, dataset="synthetic_multiview/tiny", data_dir=str(prepared_tiny), labelled="none", blocks=2,
        instants=3, validate_every=0, unlabelled="S2",
    )  # fmt: skip
    source = sources.Prepared(config)
    for step in (0, 4):
        known = source.instants(step)
        ((_, batch),) = source.batches(step, step + 1, pipeline.Waiting())
        np.testing.assert_array_equal(known.group, batch.unlabelled.group)
        mine, theirs = np.asarray(known.sequence), np.asarray(batch.unlabelled.sequence)
        np.testing.assert_array_equal(mine[:, None] == mine, theirs[:, None] == theirs)
        gaps = np.abs(np.subtract.outer(np.asarray(known.time), np.asarray(known.time)))
        real = np.abs(np.subtract.outer(batch.unlabelled.time, batch.unlabelled.time))
        np.testing.assert_allclose(gaps[mine[:, None] == mine], real[mine[:, None] == mine], atol=1e-4)
    assert source.card["unlabelled_subjects"] == ["S2"]
