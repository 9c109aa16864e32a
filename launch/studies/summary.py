"""What the results of a study say: means and spreads over seeds, gains over the baseline, what is missing."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from datasets.tuples import block_numbers
from launch.studies.plan import describe
from launch.studies.results import Line, key_of, labels_of, methods_of

METRICS = {
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe": "MPJPE, camera frame (mm)",
    "n_mpjpe": "N-MPJPE, camera frame (mm)",
    "retrieval_pa_mpjpe_at_1": "PA-MPJPE of the nearest view of another camera (mm)",
}
REFERENCE, CONTROL = "baseline", "mean pose"


@dataclasses.dataclass(frozen=True)
class Spread:
    """Values by seed, of `planned` seeds; their mean and, from two on, their standard deviation (n - 1)."""

    values: dict[int, float]
    planned: int

    @property
    def mean(self) -> float | None:
        """None when there is no value."""
        return float(np.mean(list(self.values.values()))) if self.values else None

    @property
    def sd(self) -> float | None:
        """None when there are fewer than two values."""
        return float(np.std(list(self.values.values()), ddof=1)) if len(self.values) > 1 else None

    def __str__(self) -> str:
        if not self.planned:
            return "-"
        missing = f" ({len(self.values)} of {self.planned})" if len(self.values) < self.planned else ""
        if self.mean is None:
            return f"none{missing}"
        mean = round(self.mean, 1) + 0.0  # no negative zero
        return f"{mean:.1f}" + ("" if self.sd is None else f" ± {self.sd:.1f}") + missing


@dataclasses.dataclass(frozen=True)
class Unlabelled:
    """An amount of recordings without labels, and the error with it; `whole`: all that there are."""

    people: int
    minutes: float
    error: Spread
    whole: bool


def by_unlabelled(lines: Sequence[Line], metric: str) -> list[Unlabelled]:
    """Errors by what was recorded without labels, the least first, of MCSS and runs that differ in that alone.

    Of the label amount that most of them have.
    """
    finished = [line for line in lines if line["status"] == "finished" and "unlabelled_minutes" in line]
    reference = next((_beside_unlabelled(line) for line in finished if line["method"] == "mcss"), None)
    same = [line for line in finished if _beside_unlabelled(line) == reference]
    names = {line["method"] for line in same}
    others = [line["labelled"] for line in same if line["method"] != "mcss"]
    if len(names) < 2 or not others:
        return []
    labelled = max(dict.fromkeys(others), key=others.count)
    cells: dict[tuple[int, float], list[Line]] = {}
    for line in same:
        if line["labelled"] == labelled and line.get(metric) is not None:
            cells.setdefault((line["unlabelled_people"], line["unlabelled_minutes"]), []).append(line)
    most = max((minutes for _, minutes in cells), default=0.0)
    amounts = [
        Unlabelled(
            people, minutes, Spread({line["seed"]: line[metric] for line in of}, len(of)), minutes == most
        )
        for (people, minutes), of in cells.items()
    ]
    return sorted(amounts, key=lambda amount: amount.minutes)


def _beside_unlabelled(line: Line) -> dict[str, Any]:
    """Settings of a run but for those that tell it apart, play no part, or follow from what is unlabelled."""
    settings_of = line["configuration"]
    free = {"unlabelled", "labelled", "seed", "workdir", "data_dir", *block_numbers.NAMES}
    return {name: value for name, value in settings_of.items() if name not in free}


Table = dict[str, dict[str, Spread]]
"""Spreads by method and label amount."""


def _tabulated(lines: Sequence[Line], value: Callable[[Line], float | None]) -> Table:
    out: Table = {}
    for method in methods_of(lines):
        for labelled in labels_of(lines):
            inside = [line for line in lines if (line["method"], line["labelled"]) == (method, labelled)]
            figures = {line["seed"]: value(line) for line in inside if line["status"] == "finished"}
            values = {seed: figure for seed, figure in figures.items() if figure is not None}
            out.setdefault(method, {})[labelled] = Spread(values, len(inside))
    return out


def errors(lines: Sequence[Line], metric: str) -> Table:
    """A figure of the finished runs; the constant mean pose of the baseline's labels as a method of its own."""
    table = _tabulated(lines, lambda line: line.get(metric))
    control = _tabulated(
        [line for line in lines if line["method"] == REFERENCE], lambda line: line.get(f"mean_pose_{metric}")
    )
    has_control = any(spread.values for spread in control.get(REFERENCE, {}).values())
    return ({CONTROL: control[REFERENCE]} if has_control else {}) | table


def gains(lines: Sequence[Line], metric: str) -> Table:
    """By how many percent a run's figure is below the baseline's with the same labels and seed."""
    reference = {
        (line["labelled"], line["seed"]): line.get(metric)
        for line in lines
        if line["method"] == REFERENCE and line["status"] == "finished"
    }

    def gain(line: Line) -> float | None:
        before, now = reference.get((line["labelled"], line["seed"])), line.get(metric)
        return None if before is None or now is None else 100 * (1 - now / before)

    others = [line for line in lines if line["method"] != REFERENCE]
    return _tabulated(others, gain) if reference else {}


def missing(lines: Sequence[Line]) -> list[str]:
    """A sentence for every run without figures."""
    return [
        f"{describe(key_of(line))}: " + (line["error"] if line["status"] == "failed" else "unfinished")
        for line in lines
        if line["status"] != "finished"
    ]


def text(lines: Sequence[Line]) -> str:
    """Tables of all figures that there are, gains under each, and the runs that are missing in them."""
    amounts = labels_of(lines)
    parts = []
    for metric, name in METRICS.items():
        table = errors(lines, metric)
        if any(spread.values for row in table.values() for spread in row.values()):
            parts.append(_table(name, table, amounts))
            gained = gains(lines, metric)
            if gained:
                parts.append(_table("  below the baseline, % (paired)", gained, amounts))
    done = sum(line["status"] == "finished" for line in lines)
    parts.append(f"{done} of {len(lines)} runs finished; mean ± standard deviation over seeds")
    absent = missing(lines)
    if absent:
        parts.append("\n".join(["without figures, and in no mean:", *(f"  {line}" for line in absent)]))
    return "\n\n".join(parts)


def _table(title: str, table: Table, amounts: Sequence[str]) -> str:
    wide = max(len(title), *(len(method) for method in table)) + 2
    columns = {
        amount: [amount, *(str(row[amount]) if amount in row else "-" for row in table.values())]
        for amount in amounts
    }
    widths = [max(map(len, cells)) + 3 for cells in columns.values()]
    heads = [title, *table]
    return "\n".join(
        f"{head:<{wide}}"
        + "".join(f"{cells[i]:>{w}}" for cells, w in zip(columns.values(), widths, strict=True))
        for i, head in enumerate(heads)
    )


def content(lines: Sequence[Line]) -> dict[str, Any]:
    """The summary as JSON: `errors` (what the plot shows) and `gains_percent` by metric, method and label amount."""

    def plain(table: Table) -> dict[str, Any]:
        return {
            method: {
                labelled: {
                    "mean": spread.mean,
                    "sd": spread.sd,
                    "planned": spread.planned,
                    "by_seed": spread.values,
                }
                for labelled, spread in row.items()
                if spread.planned
            }
            for method, row in table.items()
        }

    return {
        "runs": len(lines),
        "finished": sum(line["status"] == "finished" for line in lines),
        "without_figures": missing(lines),
        "errors": {metric: plain(errors(lines, metric)) for metric in METRICS},
        "gains_percent": {metric: plain(gains(lines, metric)) for metric in METRICS},
    }
