"""Timing programs against each other, and the rows that a benchmark prints and keeps."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of every repetition, in order; `first_s` is the untimed call before them, with compilation."""

    seconds: tuple[float, ...]
    first_s: float

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles_s(self) -> tuple[float, float]:
        """First and third quartile of the repetitions."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)

    def ratio_to(self, other: "Timing") -> float:
        """How often this program runs in the time of one run of `other`: median over the rounds they shared."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


@dataclasses.dataclass(frozen=True)
class Row:
    """One program's timing, the work of one repetition (`work` of `unit`), and what else was measured."""

    name: str
    timing: Timing
    work: float
    unit: str
    figures: dict[str, float] = dataclasses.field(default_factory=dict)

    def figures_of(self) -> dict[str, Any]:
        """As plain numbers, for JSON."""
        seconds = self.timing.seconds
        low, high = self.timing.quartiles_s
        return {
            "name": self.name,
            "median_s": self.timing.median_s,
            "min_s": min(seconds),
            "quartile_1_s": low,
            "quartile_3_s": high,
            "max_s": max(seconds),
            "repeats": len(seconds),
            "seconds": seconds,
            "first_s": self.timing.first_s,
            "unit": self.unit,
            "per_second": self.work / self.timing.median_s,
            **self.figures,
        }


def in_turn(programs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Timing]:
    """One untimed call each, then `repeats` rounds in which every program runs once.

    In turn, so that whatever else the machine does falls on all of them; compare them within a round.
    """

    def seconds_of(program: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(program())
        return time.perf_counter() - start

    first = {name: seconds_of(program) for name, program in programs.items()}
    rounds = [{name: seconds_of(program) for name, program in programs.items()} for _ in range(repeats)]
    return {name: Timing(tuple(times[name] for times in rounds), first[name]) for name in programs}


def table(rows: Sequence[Row]) -> str:
    """Rows as text: median, spread over the repetitions, and rate."""
    lines = [f"{'':32}{'median ms':>11}{'min':>10}{'max':>10}{'per second':>14}"]
    for row in rows:
        milliseconds = [1e3 * s for s in row.timing.seconds]
        rate = row.work / row.timing.median_s
        lines.append(
            f"{row.name:32}{1e3 * row.timing.median_s:11.2f}{min(milliseconds):10.2f}{max(milliseconds):10.2f}"
            f"{rate:14.6g} {row.unit}"
        )
        lines += [f"  {name}: {value:.4g}" for name, value in row.figures.items()]
    return "\n".join(lines)
