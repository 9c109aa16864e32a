"""The runs of a study: methods x label amounts x seeds, each a training run with settings of its own."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from launch.cli import flags, options
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
    # Instants of other groups are negatives as well; and the opposite, an ablation once, which the method now is.
    "all_groups": {"method": "mcss", "across_groups": True},
    "no_global_negatives": {"method": "mcss", "across_groups": False},
    # Another metric loss over the same negatives.
    "infonce": {"method": "mcss", "metric_loss": "infonce"},
    # Positives are one picture augmented twice instead of two views.
    "augmented_views": {"method": "mcss", "positives": "augmented"},
}

# Of a method's own flag file these play no part: they are the grid's.
_OF_GRID = {"labelled", "seed", "workdir"}
# What all runs of a study share, so that their figures can stand beside each other.
_OF_STUDY = (
    "dataset",
    "data_dir",
    "train_split",
    "validation_split",
    "image_size",
    "stream",
    "stream_size",
    "stream_rooms",
    "stop_after",
)

Key = tuple[str, str, int]
Own = Mapping[str, Mapping[str, Any]]
"""By method, the settings of its own: those that its flag file names."""


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One run of the grid; `own` are the settings in which its method differs from the base by its own flag files."""

    method: str
    labelled: str
    seed: int
    config: settings.Train
    own: tuple[str, ...] = ()

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


def parse_grid(
    methods: str, amounts: str, seeds: str, prefix: str = "", known: Collection[str] = tuple(METHODS)
) -> Grid:
    """Methods and seeds separated by commas, label amounts by spaces (`S1:0.05 S1 S1,S5 all`).

    `known` are the methods that there are, `prefix` that of the flags' names, for messages.

    Raises UserError for an unknown method, a seed that is not a whole number of at least 0, and an empty or repeated
    entry.
    """
    names = _entries(f"--{prefix or 'methods'}", methods.split(",") if methods else [])
    for name in names:
        if name not in known:
            raise UserError(f"--{prefix or 'methods'} names {name!r}; expected some of {', '.join(known)}")
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


def own_settings(base: settings.Train, files: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `METHOD:FILE` gives each method: the settings that the flag file names, the grid's own aside.

    Raises UserError for an entry that is none, a method named twice, and a file that sets what all runs of a study
    share, or the opposite of what the method is.
    """
    own: dict[str, dict[str, Any]] = {}
    for entry in files:
        method, colon, file = entry.partition(":")
        if not (re.fullmatch(r"[A-Za-z]\w*", method) and colon and file):
            raise UserError(f"--settings={entry}; expected METHOD:FILE, for example mcss:mcss.flags")
        if method in own:
            raise UserError(f"--settings names {method} twice; put its settings into one file")
        named = flags.named_in(settings.Train, Path(file).expanduser())
        own[method] = {name: value for name, value in named.items() if name not in _OF_GRID}
        shared = options.values(base)
        for name, value in own[method].items():
            if name in _OF_STUDY and value != shared[name]:
                raise UserError(
                    f"--settings={entry} sets --{name}={value}, but all runs of a study share that, and --base has "
                    f"{shared[name]!r}; take it out of {file}, or set it in the base"
                )
            expected = METHODS.get(method, {}).get(name, value)
            if value != expected:
                raise UserError(
                    f"--settings={entry} sets --{name}={value}, but {method} is what has {expected!r}; take it out, or "
                    "name a method of your own"
                )
    return own


def changes(method: str, own: Own | None = None) -> dict[str, Any]:
    """What a method changes of the base settings.

    All but the baseline begin with the settings of mcss, those of its own file among them, so that each differs from
    it in what it is called after; a method of its own name is mcss with its file's settings.
    """
    own = {} if own is None else own
    inherited = {} if method == "baseline" else own.get("mcss", {})
    return {**inherited, **METHODS.get(method, METHODS["mcss"]), **own.get(method, {})}


def plan(
    base: settings.Train, workdir: str, grids: Sequence[Grid], own: Own | None = None
) -> tuple[PlannedRun, ...]:
    """The runs of all grids, seed after seed, so that a first whole picture stands early; none twice.

    Raises UserError when there are none, for settings that no data set could satisfy, and when two methods are the
    same with these base settings.
    """
    runs: dict[Key, PlannedRun] = {}
    for grid in grids:
        for seed, labelled, method in product(grid.seeds, grid.amounts, grid.methods):
            run = _run(base, workdir, method, labelled, seed, own)
            settings.check(run.config)
            runs.setdefault(run.key, run)
    if not runs:
        raise UserError("--methods, --amounts or --seeds is empty; expected at least one of each")
    _refuse_twins(base, tuple(dict.fromkeys(run.method for run in runs.values())), own)
    return tuple(runs.values())


def _run(
    base: settings.Train, workdir: str, method: str, labelled: str, seed: int, own: Own | None
) -> PlannedRun:
    # `S1:0.05` and `S1,S5` as parts of a folder's name.
    amount = re.sub(r"[^\w.+-]", "_", labelled.replace(":", "-").replace(",", "+"))
    folder = str(Path(workdir) / "runs" / f"{method}_{amount}_seed{seed}")
    of_method = options.replace(base, **changes(method, own))
    before, now = options.values(base), options.values(of_method)
    by_file = tuple(
        sorted(name for name in now if now[name] != before[name] and name not in METHODS.get(method, {}))
    )
    config = options.replace(of_method, labelled=labelled, seed=seed, workdir=folder)
    return PlannedRun(method, labelled, seed, config, by_file)


def _refuse_twins(base: settings.Train, methods: Sequence[str], own: Own | None) -> None:
    method_of: dict[settings.Train, str] = {}
    for method in methods:
        twin = method_of.setdefault(options.replace(base, **changes(method, own)), method)
        if twin != method:
            raise UserError(
                f"with the settings of --base the methods {twin} and {method} are the same; leave one out, or change "
                "the base"
            )
