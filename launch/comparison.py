"""Trained runs side by side on people none of them saw: each one's figures, and what it retrieves across cameras."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from datasets import pipeline
from launch import (
    evaluate,
    inference,
    metric_log,
    progress,
    protocols,
    retrieval_protocol,
    retrieve,
    run_folder,
    settings,
)

MEAN_POSE, TRUTH, ORACLE, CHANCE = "mean pose", "truth", "oracle", "chance"
_TAKEN = {MEAN_POSE, TRUTH, ORACLE, CHANCE}
MIN_GAP = 0.5  # seconds between a query and the instants of its sequence that it may retrieve


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The k nearest views of n queries in all other cameras, nearest first: indices (-1: fewer) and PA-MPJPE (mm)."""

    indices: Int[np.ndarray, "n k"]
    errors: Float[np.ndarray, "n k"]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Everything a report shows of its runs, by name.

    Attributes:
      configs: the settings that they were trained with; logs: their training figures by step.
      evaluated: their figures; all have the same views in the same order.
      retrieval: figures of each run, of the oracle and of chance.
      nearest: what each run and the oracle retrieve.
      pairs: mean PA-MPJPE@1 by query and gallery camera; cameras: their names.
      split: the people that they are compared on.
    """

    configs: dict[str, settings.Train]
    logs: dict[str, list[dict[str, Any]]]
    evaluated: dict[str, evaluate.Evaluated]
    retrieval: dict[str, dict[str, float]]
    nearest: dict[str, Nearest]
    pairs: dict[str, Float[np.ndarray, "c c"]]
    cameras: tuple[str, ...]
    split: pipeline.Split

    @property
    def views(self) -> dict[str, inference.Views]:
        """What every run makes of the views."""
        return {name: result.views for name, result in self.evaluated.items()}

    @property
    def first(self) -> evaluate.Evaluated:
        """The first run's evaluation: what all share is read from it."""
        return next(iter(self.evaluated.values()))

    @property
    def results(self) -> dict[str, dict[str, float]]:
        """The figures of `results.json`: millimetres, unseen people."""
        poses = {"mean_pose": self.first.mean_pose} | {n: r.figures for n, r in self.evaluated.items()}
        found = {
            name: {f"retrieval_{key.replace('@', '_at_')}": value for key, value in row.items()}
            for name, row in self.retrieval.items()
        }
        names = dict.fromkeys([*poses, *found])
        return {name: poses.get(name, {}) | found.get(name, {}) for name in names}


def names_of(runs: Sequence[run_folder.Run], folders: Sequence[str]) -> list[str]:
    """Short, distinct names: the methods where they are enough, else the folders' names, else the folders.

    Raises ValueError when a folder is named twice, or has the name of a row of its own.
    """
    for names in ([run.config.method for run in runs], [Path(f).name for f in folders], list(folders)):
        if len(_TAKEN.union(names)) == len(_TAKEN) + len(names):
            return list(names)
    raise ValueError(
        f"--runs={','.join(folders)}; expected different folders, none of them called {', '.join(sorted(_TAKEN))}"
    )


def compare(
    folders: Sequence[str], dataset: str, data_dir: str, split_name: str, stride: int = 1
) -> Compared:
    """Opens, evaluates and retrieves with every run.

    Raises ValueError when the runs cannot be compared, and ValueError and FileNotFoundError as
    `run_folder.open_run`, `evaluate.open_data` and `protocols.choose` do.
    """
    runs = [run_folder.open_run(folder) for folder in folders]
    named = dict(zip(names_of(runs, folders), runs, strict=True))
    split = evaluate.open_data(runs[0], dataset, data_dir, split_name)
    for folder, run in zip(folders, runs, strict=True):
        if run.card["image_size"] != split.image_size:
            raise ValueError(
                f"{folder} was trained on pictures of {run.card['image_size']} px, {folders[0]} on "
                f"{split.image_size}; compare runs of one size"
            )
    choice = protocols.choose(split, stride=stride)
    rule = retrieve.rule_of(same_instant=False, min_gap=MIN_GAP)
    evaluated = {name: evaluate.evaluate(run, split, choice) for name, run in named.items()}
    searched = retrieval_protocol.search_set(split, next(iter(evaluated.values())).views)
    found = {
        name: retrieval_protocol.search(searched, result.views.embedding, rule)
        for name, result in evaluated.items()
    }
    progress.say("oracle and chance: aligning every query with every candidate")
    found[ORACLE] = retrieval_protocol.oracle(searched, rule)
    scores = {name: retrieval_protocol.score(searched, result) for name, result in found.items()}
    scores[CHANCE] = retrieval_protocol.chance(searched, rule, retrieval_protocol.KS, found[ORACLE])
    return Compared(
        configs={name: run.config for name, run in named.items()},
        logs={name: metric_log.read(folder) for name, folder in zip(named, folders, strict=True)},
        evaluated=evaluated,
        retrieval={name: score.pooled for name, score in scores.items()},
        nearest={name: Nearest(*result.pooled()) for name, result in found.items()},
        pairs={name: scores[name].pairs["pa_mpjpe@1"] for name in named},
        cameras=tuple(searched.cameras.values()),
        split=split,
    )
