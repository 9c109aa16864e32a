"""The results of a study: one JSON line a run, rewritten in one piece, never two lines for a run.

Every run of the grid has a line from the start, so that the file says by itself what is missing:

    {"method": "mcss", "labelled": "S1", "seed": 0, "status": "finished", "mpjpe": 91.4, "pa_mpjpe": 77.3, ...}

`status` is `finished`, `failed` (with the `error`) or `unfinished`; figures are millimetres, and only finished runs
have any.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from launch import flags, locks, run_folder
from launch.study_plan import Key, PlannedRun, describe

STATUSES = ("finished", "failed", "unfinished")

Line = dict[str, Any]


def key_of(line: Line) -> Key:
    """The run that a line is about."""
    return line["method"], line["labelled"], line["seed"]


def read(file: str | Path) -> list[Line]:
    """The lines of a result file, in its order.

    Raises FileNotFoundError when there is none, ValueError naming the first line that is no result, or that is about
    a run which another line is about already.
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(
            f"there is no result file {file}; python -m launch.study --workdir={file.parent} writes one"
        )
    lines: list[Line] = []
    number_of: dict[Key, int] = {}
    for number, text in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1):
        line = _parsed(text)
        if line is None:
            raise ValueError(
                f"{file}, line {number}: not a result; expected a JSON object with method, labelled, seed and status "
                f"({', '.join(STATUSES)}); restore the file, or move it away to judge the runs again"
            )
        first = number_of.setdefault(key_of(line), number)
        if first != number:
            raise ValueError(
                f"{file}, line {number}: a second result of {describe(key_of(line))}, which line {first} has already; "
                "remove one of the two"
            )
        lines.append(line)
    return lines


def _parsed(text: str) -> Line | None:
    try:
        line = json.loads(text)
        whole = isinstance(line["seed"], int) and line["status"] in STATUSES
        return line if whole and all(isinstance(line[name], str) for name in ("method", "labelled")) else None
    except (ValueError, LookupError, TypeError):
        return None


class Results:
    """The result file of one study and judge, as it is on disk; made when the first line is put.

    Several processes may put lines of different runs into one file. Raises ValueError for a damaged file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: dict[Key, Line] = {}
        self.reread()

    def reread(self) -> None:
        """Takes in what other processes have put. Raises ValueError for a damaged file."""
        self._lines = {key_of(line): line for line in read(self.file)} if self.file.exists() else {}

    def line(self, run: PlannedRun) -> Line:
        """What is known of a run."""
        return self._lines.get(run.key, unfinished(run))

    def finished(self, run: PlannedRun) -> bool:
        """Whether a run has its figures."""
        return bool(self.line(run)["status"] == "finished")

    def of(self, runs: Iterable[PlannedRun]) -> list[Line]:
        """The lines of a grid, in its order."""
        return [self.line(run) for run in runs]

    def others(self, runs: Sequence[PlannedRun]) -> int:
        """How many lines are about runs that are not in a grid."""
        return len(self._lines.keys() - {run.key for run in runs})

    def put(self, *lines: Line) -> None:
        """Adds or replaces lines. Raises OSError when the file cannot be written; what was there then stays."""
        with locks.waited_for(self.file.parent):
            self.reread()
            self._write(self._lines | {key_of(line): line for line in lines})

    def plan(self, runs: Iterable[PlannedRun]) -> None:
        """Adds a line for every run that has none, so that the file says by itself what is missing."""
        with locks.waited_for(self.file.parent):
            self.reread()
            self._write(self._lines | {run.key: self.line(run) for run in runs})

    def _write(self, known: dict[Key, Line]) -> None:
        run_folder.write_text(self.file, "".join(json.dumps(line) + "\n" for line in known.values()))
        self._lines = known

    def check(self, runs: Iterable[PlannedRun], judged: dict[str, Any]) -> None:
        """Raises ValueError when figures of these runs were made under other settings, or judged in another way."""
        for run in runs:
            line = self.line(run)
            if line["status"] != "finished":
                continue
            found = flags.differences(run.config, line["configuration"])
            found += [
                f"--{name}: {line['judged'].get(name)!r} before, {value!r} now"
                for name, value in judged.items()
                if line["judged"].get(name) != value
            ]
            if found:
                raise ValueError(
                    f"{self.file} holds figures of {run} under other settings; use the same flags or another "
                    f"--workdir. Differences: {'; '.join(found)}"
                )


def _head(run: PlannedRun, status: str) -> Line:
    return {"method": run.method, "labelled": run.labelled, "seed": run.seed, "status": status}


def unfinished(run: PlannedRun) -> Line:
    """The line of a run that has no figures yet."""
    return _head(run, "unfinished")


def failed(run: PlannedRun, error: str) -> Line:
    """The line of a run that ended with an error."""
    return _head(run, "failed") | {"error": error}


def finished(run: PlannedRun, figures: dict[str, Any], about: dict[str, Any]) -> Line:
    """The line of a run with its figures, and what they depend on."""
    return _head(run, "finished") | figures | about
