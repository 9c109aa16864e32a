"""The results of a study: one JSON line a run, rewritten in one piece, never two lines for a run.

Every run of the grid has a line from the start, so that the file says by itself what is missing:

    {"method": "mcss", "labelled": "S1", "seed": 0, "status": "finished", "mpjpe": 91.4, "pa_mpjpe": 77.3, ...}

`status` is `finished`, `failed` (with the `error`) or `unfinished`; figures are millimetres, and only finished runs
have any. `unlabelled_people` and `unlabelled_minutes` (of all of them together) say what a run saw without labels.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets.tuples import block_numbers
from launch.cli import options
from launch.runs import locks, run_folder, settings
from launch.studies.plan import METHODS, Key, PlannedRun, describe
from mcss_jax.errors import UserError
from mcss_jax.setting import AUTO

# What a line must have beside its run, by its status.
NEEDED: dict[str, dict[str, type]] = {
    "finished": {"configuration": dict, "judged": dict},
    "failed": {"error": str},
    "unfinished": {},
}
# Settings in which the runs of a study may differ: what tells them apart, and what plays no part in the result.
_FREE = {"method", "labelled", "seed"} | {
    name for name, setting in options.options(settings.Train).items() if setting.changeable
}
# What lines mean that do not name a setting: they are older than it, or than its default.
_MEANT = {name: setting.meant for name, setting in options.options(settings.Train).items()}

# What, where a line has it, is a number, or null where it is not known.
FIGURES = ("pa_mpjpe", "mpjpe", "n_mpjpe", "retrieval_pa_mpjpe_at_1")
NUMBERS = {
    "wall_seconds",
    "unlabelled_people",
    "unlabelled_minutes",
    *FIGURES,
    *(f"mean_pose_{name}" for name in FIGURES),
}

Line = dict[str, Any]


def key_of(line: Line) -> Key:
    """The run that a line is about."""
    return line["method"], line["labelled"], line["seed"]


def methods_of(lines: Iterable[Line]) -> list[str]:
    """The methods, in their order."""
    return list(dict.fromkeys(line["method"] for line in lines))


def labels_of(lines: Iterable[Line]) -> list[str]:
    """The label amounts, in their order."""
    return list(dict.fromkeys(line["labelled"] for line in lines))


def read(file: str | Path) -> list[Line]:
    """The lines of a result file, in its order.

    Raises UserError when there is none, naming the first line that is no result, or that is about
    a run which another line is about already.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(
            f"there is no result file {file}; python -m launch.study --workdir={file.parent} writes one"
        )
    lines: list[Line] = []
    number_of: dict[Key, int] = {}
    for number, text in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1):
        line = _parsed(text)
        if line is None:
            raise UserError(
                f"{file}, line {number}: not a result; expected a JSON object with method, labelled, seed and status "
                f"({', '.join(NEEDED)}), and with configuration and judged where finished, error where failed; restore "
                "the file, or move it away to judge the runs again"
            )
        first = number_of.setdefault(key_of(line), number)
        if first != number:
            raise UserError(
                f"{file}, line {number}: a second result of {describe(key_of(line))}, which line {first} has already; "
                "remove one of the two"
            )
        lines.append(line)
    return lines


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
        needed = {"method": str, "labelled": str, "seed": int} | NEEDED[line["status"]]
        is_one = all(isinstance(line[name], kind) for name, kind in needed.items())
        return line if is_one and all(_is_number(line[name]) for name in line if name in NUMBERS) else None
    except (ValueError, LookupError, TypeError):
        return None


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def refuse_mixture(file: Path, lines: Iterable[Line]) -> None:
    """Raises UserError when finished lines are of different settings, data, or ways to judge.

    Runs may differ in method, labels and seed, and in what their methods set.
    """
    reference: dict[str, tuple[Any, Line]] = {}
    for line in lines:
        if line["status"] != "finished":
            continue
        conditions = _conditions(line)
        differing = [name for name, value in conditions.items() if reference.get(name, (value,))[0] != value]
        if differing:
            differences = "; ".join(
                f"{name}: {reference[name][0]!r} before, {conditions[name]!r} now" for name in differing
            )
            earlier = describe(key_of(reference[differing[0]][1]))
            raise UserError(
                f"{file} holds figures of {earlier} under other settings than those of {describe(key_of(line))}; "
                f"use the same flags or another --workdir. Differences: {differences}"
            )
        for name, value in conditions.items():
            reference.setdefault(name, (value, line))


def _conditions(line: Line) -> dict[str, Any]:
    """What the finished lines of a file have in common where they have it, by name."""
    settings_of = _MEANT | line["configuration"]
    # How large a batch may be depends on whose pictures a method uses.
    of_method = {*METHODS.get(line["method"], {}), *line.get("settings", ()), *block_numbers.NAMES}
    conditions = {
        f"--{name}" + (f" of {line['method']}" if name in of_method else ""): value
        for name, value in settings_of.items()
        if name not in _FREE and value != AUTO
    }
    conditions |= {f"--{name}": value for name, value in line["judged"].items()}
    if "fingerprint" in line:
        # A stream's people are those of its seed.
        of_seed = f" of seed {line['seed']}" if settings_of["stream"] else ""
        conditions[f"fingerprint of the data{of_seed}"] = line["fingerprint"]
    return conditions


class Results:
    """The result file of one study and judge, as it is on disk; made when the first line is put.

    Several processes may put lines of different runs into one file. Raises UserError for a damaged file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[Key, Line] = {}
        self.reread()

    def reread(self) -> None:
        """Takes in what other processes have put. Raises UserError for a damaged file."""
        self._lines = {key_of(line): line for line in read(self.file)} if self.file.exists() else {}

    def line(self, run: PlannedRun) -> Line:
        """What is known of a run."""
        return self._lines.get(run.key, unfinished(run))

    def finished(self, run: PlannedRun) -> bool:
        """Whether a run has its figures."""
        return bool(self.line(run)["status"] == "finished")

    def keys(self) -> list[Key]:
        """The runs that have a line."""
        return list(self._lines)

    def finished_keys(self) -> list[Key]:
        """The runs that are finished."""
        return [key for key, line in self._lines.items() if line["status"] == "finished"]

    def lines_of(self, runs: Iterable[PlannedRun]) -> list[Line]:
        """The lines of a grid, in its order."""
        return [self.line(run) for run in runs]

    def others(self, runs: Sequence[PlannedRun]) -> int:
        """How many lines are about runs that are not in a grid."""
        return len(self._lines.keys() - {run.key for run in runs})

    def put(self, *lines: Line) -> None:
        """Adds or replaces lines.

        Raises OSError when the file cannot be written and UserError as `refuse_mixture` does; what was there then
        stays.
        """
        with locks.waited_for(self.file.parent):
            self.reread()
            updated = self._lines | {key_of(line): line for line in lines}
            refuse_mixture(self.file, updated.values())
            self._write(updated)

    def plan(self, runs: Iterable[PlannedRun]) -> None:
        """Adds a line for every run that has none, so that the file says by itself what is missing; in their order."""
        with locks.waited_for(self.file.parent):
            self.reread()
            self._write({run.key: self.line(run) for run in runs} | self._lines)

    def _write(self, updated: dict[Key, Line]) -> None:
        run_folder.write_text(self.file, "".join(json.dumps(line) + "\n" for line in updated.values()))
        self._lines = updated

    def check(self, runs: Iterable[PlannedRun], judged: dict[str, Any]) -> None:
        """Raises UserError when the file's figures cannot stand beside those that these runs would have."""
        planned = [
            finished(run, {}, {"judged": judged, "configuration": options.values(run.config)}) for run in runs
        ]
        refuse_mixture(self.file, [*self._lines.values(), *planned])


def _head(run: PlannedRun, status: str) -> Line:
    return {"method": run.method, "labelled": run.labelled, "seed": run.seed, "status": status}


def unfinished(run: PlannedRun) -> Line:
    """The line of a run that has no figures yet."""
    return _head(run, "unfinished")


def failed(run: PlannedRun, error: str) -> Line:
    """The line of a run that ended with an error."""
    return _head(run, "failed") | {"error": error}


def finished(run: PlannedRun, figures: dict[str, Any], about: dict[str, Any]) -> Line:
    """The line of a run with its figures, and what they depend on; `settings` names those of its method's own files."""
    own = {"settings": list(run.own)} if run.own else {}
    return _head(run, "finished") | figures | about | own
