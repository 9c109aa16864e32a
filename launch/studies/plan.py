"""The runs of a study: methods x label amounts x seeds, each a training run with settings of its own."""

import dataclasses
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from launch.cli import options
from launch.runs import settings
from mcss_jax.errors import UserError

# What each method changes of the base settings. Those after the first two are ablations and controls.
METHODS: dict[str, dict[str, Any]] = {
    "baseline": {"method": "baseline"},
    "mcss": {"method": "mcss"},
    # Control: unlabelled pictures pass through BatchNorm and nothing else.
    "batchnorm": {"method": "batchnorm"},
    # Any other instant may be a negative, however near in time, and batches with such instants.
    "no_temporal_rule": {"method": "mcss", "min_negative_gap": 0.0, "instant_gap": -1.0},
    # The same batches with the temporal rule: the rule itself is the difference of these two.
    "near_instants": {"method": "mcss", "instant_gap": 0.0},
    # Instants from anywhere instead of blocks of one person in one room.
    "random_batches": {"method": "mcss", "mix_groups": True},
    # Negatives weighed nearly alike; the hardest alone; from the first to the second over the run.
    "soft_mining": {"method": "mcss", "temperature_start": 1.0, "temperature_end": 1.0},
    "hardest_mining": {"method": "mcss", "temperature_start": 0.0, "temperature_end": 0.0},
    "scheduled_mining": {
        "method": "mcss",
        "temperature_start": 1.0,
        "temperature_end": 0.0,
        "temperature_steps": 0,
    },
    # Negatives from the anchor's own block only.
    "no_global_negatives": {"method": "mcss", "across_groups": False},
    # Positives are one picture augmented twice instead of two views.
    "augmented_views": {"method": "mcss", "positives": "augmented"},
}

Key = tuple[str, str, int]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of the grid."""

    method: str
    labelled: str
    seed: int
    config: settings.Train

    @property
    def key(self) -> Key:
        """What tells runs of one study apart."""
        return self.method, self.labelled, self.seed

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return Path(self.config.run.workdir).expanduser()

    def __str__(self) -> str:
        return describe(self.key)


def describe(key: Key) -> str:
    """A run in words."""
    return f"{key[0]}, labels {key[1]}, seed {key[2]}"


@dataclasses.dataclass(frozen=True)
class Grid:
    """A product of methods, label amounts and seeds."""

    methods: tuple[str, ...]
    amounts: tuple[str, ...]
    seeds: tuple[int, ...]


def grids_of(keys: Sequence[Key]) -> list[Grid]:
    """Products that hold each of these runs once and no other: methods with the same seeds of the same amounts."""
    seeds: dict[tuple[str, str], tuple[int, ...]] = {}
    for method, labelled, seed in keys:
        seeds[method, labelled] = (*seeds.get((method, labelled), ()), seed)
    amounts: dict[tuple[str, tuple[int, ...]], tuple[str, ...]] = {}
    for (method, labelled), cell_seeds in seeds.items():
        amounts[method, cell_seeds] = (*amounts.get((method, cell_seeds), ()), labelled)
    methods: dict[tuple[tuple[str, ...], tuple[int, ...]], tuple[str, ...]] = {}
    for (method, cell_seeds), labels in amounts.items():
        methods[labels, cell_seeds] = (*methods.get((labels, cell_seeds), ()), method)
    return [Grid(names, labels, cell_seeds) for (labels, cell_seeds), names in methods.items()]


def parse_grid(methods: str, amounts: str, seeds: str, prefix: str = "") -> Grid:
    """Methods and seeds separated by commas, label amounts by spaces (`S1:0.05 S1 S1,S5 all`).

    `prefix` is that of the flags' names, for messages. Raises UserError for an unknown method, a seed that is not a
    whole number of at least 0, and an empty or repeated entry.
    """
    names = _entries(f"--{prefix or 'methods'}", methods.split(",") if methods else [])
    for name in names:
        if name not in METHODS:
            raise UserError(f"--{prefix or 'methods'} names {name!r}; expected some of {', '.join(METHODS)}")
    if not names:
        return Grid((), (), ())
    flag = f"--{prefix}_seeds" if prefix else "--seeds"
    seed_list = _entries(flag, seeds.split(","))
    for seed in seed_list:
        if not seed.isdecimal():
            raise UserError(f"{flag} has {seed!r}; expected whole numbers of at least 0, separated by commas")
    labelled = _entries(f"--{prefix}_amounts" if prefix else "--amounts", amounts.split())
    return Grid(names, labelled, tuple(map(int, seed_list)))


def _entries(flag: str, parts: Sequence[str]) -> tuple[str, ...]:
    entries = tuple(part.strip() for part in parts)
    if not all(entries):
        raise UserError(f"{flag} has an empty entry; expected names without gaps between the separators")
    repeated = [name for name in entries if entries.count(name) > 1]
    if repeated:
        raise UserError(f"{flag} names {repeated[0]} twice")
    return entries


def plan(base: settings.Train, workdir: str, grids: Sequence[Grid]) -> tuple[PlannedRun, ...]:
    """The runs of all grids, seed after seed, so that a first whole picture stands early; none twice.

    Raises UserError when there are none, for settings that no data set could satisfy, and when two methods are the
    same with these base settings.
    """
    runs: dict[Key, PlannedRun] = {}
    for grid in grids:
        for seed, labelled, method in product(grid.seeds, grid.amounts, grid.methods):
            run = _run(base, workdir, method, labelled, seed)
            settings.check(run.config)
            runs.setdefault(run.key, run)
    if not runs:
        raise UserError("--methods, --amounts or --seeds is empty; expected at least one of each")
    _refuse_twins(base, tuple(dict.fromkeys(run.method for run in runs.values())))
    return tuple(runs.values())


def _run(base: settings.Train, workdir: str, method: str, labelled: str, seed: int) -> PlannedRun:
    # `S1:0.05` and `S1,S5` as parts of a folder's name.
    amount = re.sub(r"[^\w.+-]", "_", labelled.replace(":", "-").replace(",", "+"))
    folder = str(Path(workdir) / "runs" / f"{method}_{amount}_seed{seed}")
    config = options.replace(base, **METHODS[method], labelled=labelled, seed=seed, workdir=folder)
    return PlannedRun(method, labelled, seed, config)


def _refuse_twins(base: settings.Train, methods: Sequence[str]) -> None:
    method_of: dict[settings.Train, str] = {}
    for method in methods:
        twin = method_of.setdefault(options.replace(base, **METHODS[method]), method)
        if twin != method:
            raise UserError(
                f"with the settings of --base the methods {twin} and {method} are the same; leave one out, or change "
                "the base"
            )
