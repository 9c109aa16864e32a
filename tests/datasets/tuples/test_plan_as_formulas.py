"""What every setting of a batch does to it, as a formula: plans of a run against loops that share no code with it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from datasets.tuples import pipeline, sampling
from datasets.tuples.records import SequenceRow
from launch.cli import options
from launch.runs import settings
from launch.runs.settings import Train
from launch.training import sources

# (subject, group) of sequences, and their lengths; groups and sequences are of unequal length.
SEQUENCES = [
    *(("S1", 7, n) for n in (40, 8)),
    *(("S2", 3, n) for n in (30, 12, 6, 24)),
    *(("S2", 5, n) for n in (16,)),
    *(("S3", 9, n) for n in (4, 60)),
]
SECONDS, VIEWS = 0.1, 4
GOOD = options.build(
    Train, workdir="x", labelled="S1", labelled_batch=6, blocks=3, sequences=2, instants=4, instant_gap=0.25,
    validate_every=0, seed=5,
)  # fmt: skip


def table() -> tuple[SequenceRow, ...]:
    """Sequences one after another."""
    rows, first = [], 0
    for number, (subject, group, length) in enumerate(SEQUENCES):
        rows.append(SequenceRow(subject, "walk", str(number), group, first, length, SECONDS))
        first += length
    return tuple(rows)


TABLE = table()
RECORDS = TABLE[-1].first + TABLE[-1].length


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's data is the table above, and its loader hands on the plans."""
    record = {"pose": np.zeros((VIEWS, 17, 3), np.float32), "view_valid": np.ones(VIEWS, bool), "images": ()}
    split = pipeline.Split(
        "set/1.0.0:train", TABLE, VIEWS, "print", [record] * RECORDS, "mask", 8, 8,
        np.repeat(np.arange(len(TABLE)), [row.length for row in TABLE]),
    )  # fmt: skip
    monkeypatch.setattr(pipeline, "open_split", lambda *_: split)
    monkeypatch.setattr(pipeline, "Loader", lambda *_: lambda plan: plan)


def planned(config: Train, step: int = 3) -> sampling.Plan:
    """The plan of one step of a run."""
    ((number, plan),) = sources.open_source(config).batches(step, step + 1, pipeline.Waiting())
    assert number == step
    return plan


def draws(seed: int, stream: int, number: int) -> np.random.Generator:
    """A stream's draws for a step, an epoch or a sequence; a run that is resumed relies on them for ever."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, number])))


def spaced(rng: np.random.Generator, length: int, count: int, seconds: float) -> list[int]:
    """Places in a sequence: sorted draws without repetition, spread by what the gap adds to a step of one."""
    step = 1
    while step * SECONDS < seconds - 1e-9:
        step += 1
    while step > 1 and (count - 1) * step > length - 1:  # too short a sequence: as far apart as it can
        step -= 1
    if (count - 1) * step > length - 1:
        return [int(place) for place in rng.choice(length, count, replace=True)]
    places = sorted(rng.choice(length - (count - 1) * (step - 1), count, replace=False))
    return [int(place) + i * (step - 1) for i, place in enumerate(places)]


def unlabelled(
    blocks: int,
    sequences: int,
    instants: int,
    seconds: float,
    mix: bool,
    seed: int,
    step: int,
    rows_of_all: tuple[SequenceRow, ...],
) -> list[int]:
    """Groups and their sequences by their share of the records, each once while there are others."""
    rng = draws(seed, 0, step)
    whole = [row.first + k for row in rows_of_all for k in range(row.length)]
    if mix:
        return rng.choice(whole, blocks * sequences * instants, replace=False).tolist()
    groups = list(dict.fromkeys(row.group for row in rows_of_all))
    of_group = {group: [row for row in rows_of_all if row.group == group] for group in groups}
    shares = np.asarray([sum(row.length for row in of_group[group]) for group in groups]) / len(whole)
    numbers: list[int] = []
    while len(numbers) < blocks:
        numbers += rng.choice(
            len(groups), min(blocks - len(numbers), len(groups)), replace=False, p=shares
        ).tolist()
    out: list[int] = []
    for number in numbers:
        rows = of_group[groups[number]]
        lengths = np.asarray([row.length for row in rows])
        several = min(sequences, len(rows))
        order = rng.choice(len(rows), several, replace=False, p=lengths / lengths.sum())
        for place, chosen in enumerate(order):
            count = len(range(place, sequences * instants, several))  # dealt out in turn
            out += [rows[chosen].first + k for k in spaced(rng, rows[chosen].length, count, seconds)]
    return out


def labelled(records: list[int], size: int, seed: int, step: int) -> list[int]:
    """The walk through all records, shuffled anew for every epoch."""
    out = []
    for position in range(step * size, (step + 1) * size):
        epoch, place = divmod(position, len(records))
        out.append(records[draws(seed, 1, epoch).permutation(len(records))[place]])
    return out


def orders(count: int, seed: int, stream: int, step: int) -> list[list[int]]:
    """Views by a uniform draw for each."""
    marks = draws(seed, stream, step).random((count, VIEWS))
    return [sorted(range(VIEWS), key=lambda view, row=row: row[view]) for row in marks]


S1 = [record for row in TABLE if row.subject == "S1" for record in range(row.first, row.first + row.length)]


def expected(
    blocks: int = 3,
    sequences: int = 2,
    instants: int = 4,
    seconds: float = 0.25,
    mix: bool = False,
    repeats: int = 1,
    records: list[int] = S1,
    size: int = 6,
    seed: int = 5,
    step: int = 3,
    of: tuple[SequenceRow, ...] = TABLE,
) -> dict[str, list[Any]]:
    """A plan's four columns, by loops."""
    pairs = orders(blocks * sequences * instants, seed, 2, step)
    return {
        "unlabelled": unlabelled(blocks, sequences, instants, seconds, mix, seed, step, of),
        "unlabelled_views": [[view for view in order for _ in range(repeats)] for order in pairs],
        "labelled": labelled(records, size, seed, step),
        "labelled_views": orders(size, seed, 3, step),
    }


def columns(plan: sampling.Plan) -> dict[str, list[Any]]:
    """A plan's four columns as lists."""
    assert (plan.first_unlabelled, plan.first_labelled) == (0, 0)
    return {name: getattr(plan, name).tolist() for name in expected()}


def stretches(share: float, seed: int) -> list[int]:
    """One stretch of every sequence of S1, its place by one draw of a stream of its own."""
    out: list[int] = []
    for row in (row for row in TABLE if row.subject == "S1"):
        count = max(1, round(share * row.length))
        place = int(draws(seed, 4, row.first).random() * (row.length - count + 1))
        out += range(row.first + place, row.first + place + count)
    return out


# By field: values that it is changed to, each with what the plan then is.
BATCH: dict[str, dict[Any, dict[str, Any]]] = {
    "labelled_batch": {0: {"size": 0}, 1: {"size": 1}, 50: {"size": 50}},
    "blocks": {1: {"blocks": 1}, 4: {"blocks": 4}, 9: {"blocks": 9}},
    "sequences": {1: {"sequences": 1}, 3: {"sequences": 3}, 7: {"sequences": 7}},
    "instants": {1: {"instants": 1}, 2: {"instants": 2}, 6: {"instants": 6}},
    "accumulate": {2: {}},  # an update is made in parts, and is of the same batch
    # 0.25 s are three records of 0.1 s, as 0.3 s are
    "instant_gap": {
        0.0: {"seconds": 0.0},
        0.3: {},
        0.4: {"seconds": 0.4},
        1.5: {"seconds": 1.5},
        -1.0: {"seconds": 0.5},
    },
    "mix_groups": {True: {"mix": True}},
    "positives": {"augmented": {"repeats": 2}},
}
DATA: dict[str, dict[Any, dict[str, Any]]] = {
    # Of a subject's sequences as many whole ones as the fraction says, evenly spread: of two, the second for a half.
    "unlabelled": {
        "S1,S3": {"of": tuple(TABLE[i] for i in (0, 1, 7, 8))},
        "all:0.5": {"of": tuple(TABLE[i] for i in (1, 3, 5, 8))},
        "S2:0.19": {"of": (dataclasses.replace(TABLE[2], length=28),)},
    },
    "labelled": {
        "none": {"size": 0},
        "S1,S3": {"records": [*S1, *range(RECORDS - 64, RECORDS)]},
        "all": {"records": list(range(RECORDS))},
        "S1:0.25": {"records": [2 + 4 * k for k in range(12)]},
    },
    "label_sampling": {"chunk": {}},  # of whole subjects there is but one choice
}
# Which pictures are read, and how large they are given out: not which of them are drawn.
ELSEWHERE = {
    "dataset", "data_dir", "train_split", "validation_split", "image_size", "cache", "stream", "stream_size",
    "stream_rooms",
}  # fmt: skip
CASES = [
    pytest.param(field, value, changes, id=f"{field}={value}")
    for field, values in (BATCH | DATA).items()
    for value, changes in values.items()
]


def test_every_field_has_a_formula() -> None:
    assert set(BATCH) == {field.name for field in dataclasses.fields(settings.Batch)}
    assert set(DATA) | ELSEWHERE == {field.name for field in dataclasses.fields(settings.Data)}


@pytest.mark.parametrize(("field", "value", "changes"), CASES)
def test_a_setting_changes_the_plan_as_its_formula_says(
    field: str, value: Any, changes: dict[str, Any]
) -> None:
    base = expected()
    plan = columns(planned(options.replace(GOOD, **{field: value})))
    assert plan == expected(**changes)
    assert (plan != base) == bool(changes)


@pytest.mark.parametrize("step", [0, 1, 8, 9, 1000])
def test_plans_of_other_steps_and_seeds(step: int) -> None:
    assert columns(planned(GOOD, step)) == expected(step=step)
    assert columns(planned(options.replace(GOOD, seed=11), step)) == expected(step=step, seed=11)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_stretches_are_those_of_the_seed(share: float, seed: int) -> None:
    config = options.replace(
        GOOD, labelled=f"S1:{share}", label_sampling="chunk", seed=seed, labelled_batch=5
    )
    plan = columns(planned(config))
    assert plan == expected(records=stretches(share, seed), size=5, seed=seed)


@pytest.mark.parametrize("gap", [-1.0, 0.4])
def test_the_gap_of_instants_is_that_of_negatives_unless_it_is_given(gap: float) -> None:
    config = options.replace(GOOD, instant_gap=gap, min_negative_gap=0.7)
    assert columns(planned(config)) == expected(seconds=0.7 if gap == -1 else gap)


def test_a_baseline_plans_labels_alone_and_a_control_what_the_method_plans() -> None:
    labels = {name: [] if name.startswith("un") else of for name, of in expected().items()}
    assert columns(planned(options.replace(GOOD, method="baseline"))) == labels
    assert columns(planned(options.replace(GOOD, method="batchnorm"))) == expected()


@pytest.mark.parametrize("hosts", [2, 3, 6])
def test_hosts_read_their_rows_of_it(hosts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = expected()
    monkeypatch.setattr("jax.process_count", lambda: hosts)
    for host in range(hosts):
        monkeypatch.setattr("jax.process_index", lambda host=host: host)
        plan = planned(GOOD)
        for part, size in (("unlabelled", 24 // hosts), ("labelled", 6 // hosts)):
            at = slice(host * size, host * size + size)
            assert getattr(plan, f"first_{part}") == at.start
            for name in (part, f"{part}_views"):
                assert getattr(plan, name).tolist() == whole[name][at]


def frequencies(
    make_up: sampling.Blocks, of: Callable[[np.ndarray], list[int]], count: int = 1500
) -> dict[int, float]:
    """How often each answer comes up over many steps."""
    drawn = [
        answer
        for step in range(count)
        for answer in of(sampling.unlabelled_records(TABLE, make_up, seed=1, step=step))
    ]
    return {answer: drawn.count(answer) / count for answer in set(drawn)}


SEQUENCE_OF = np.repeat(np.arange(len(TABLE)), [row.length for row in TABLE])


def test_groups_and_their_sequences_are_drawn_by_length() -> None:
    """Every record of the set is as likely as any other; four standard deviations of 1500 draws are 0.05."""
    drawn = frequencies(sampling.Blocks(1, 1, 1, 0.5), lambda records: SEQUENCE_OF[records].tolist())
    assert drawn == pytest.approx({i: row.length / RECORDS for i, row in enumerate(TABLE)}, abs=0.05)


def test_instants_from_anywhere_are_uniform() -> None:
    mixed = sampling.Blocks(1, 1, 8, 0.5, mix_groups=True)
    drawn = frequencies(mixed, lambda records: [int(records[0]) * 4 // RECORDS])
    assert drawn == pytest.approx(dict.fromkeys(range(4), 0.25), abs=0.05)


def test_view_orders_are_of_independent_streams() -> None:
    """Two parts of equal size agree in as many first views as chance has it, and so do two steps."""
    config = options.replace(GOOD, labelled="all", labelled_batch=192, blocks=6, sequences=4, instants=8)
    first, second = planned(config, 0), planned(config, 1)
    assert len(first.unlabelled) == len(first.labelled) == 192
    columns = [plan.unlabelled_views[:, 0] for plan in (first, second)]
    columns += [plan.labelled_views[:, 0] for plan in (first, second)]
    for i, one in enumerate(columns):
        assert np.bincount(one, minlength=VIEWS) == pytest.approx(48, abs=24)
        for other in columns[:i]:
            assert (one == other).mean() == pytest.approx(0.25, abs=0.125)
