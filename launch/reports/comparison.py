"""Trained runs side by side on people none of them saw: each one's figures, and what it retrieves across cameras."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from datasets.tuples import pipeline
from launch.cli import options, progress
from launch.evaluation import evaluate, inference, protocols
from launch.reports import mined
from launch.retrieval import protocol
from launch.runs import metric_log, run_folder, settings
from mcss_jax.errors import UserError
from mcss_jax.setting import Role

MEAN_POSE, TRUTH, ORACLE, CHANCE = "mean pose", "truth", "oracle", "chance"
_TAKEN = {MEAN_POSE, TRUTH, ORACLE, CHANCE}


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
      trained_on: fingerprints of the data that they were trained on.
      evaluated: their figures; all have the same views in the same order.
      retrieval: figures of each run, of the oracle and of chance.
      lists: what must be said of how long the lists are that these figures are of.
      nearest: what each run and the oracle retrieve.
      pairs: mean PA-MPJPE@1 by query and gallery camera; cameras: their names.
      split: the people that they are compared on.
      mined: the negatives that runs mine, of those that do and whose training data are at hand.
    """

    configs: dict[str, settings.Train]
    logs: dict[str, list[dict[str, Any]]]
    trained_on: dict[str, str]
    evaluated: dict[str, evaluate.Evaluated]
    retrieval: dict[str, dict[str, float]]
    lists: str
    nearest: dict[str, Nearest]
    pairs: dict[str, Float[np.ndarray, "c c"]]
    cameras: tuple[str, ...]
    split: pipeline.Split
    mined: dict[str, mined.Mined]

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
        retrieval = {
            name: {f"retrieval_{key.replace('@', '_at_')}": value for key, value in row.items()}
            for name, row in self.retrieval.items()
        }
        names = dict.fromkeys([*poses, *retrieval])
        return {name: poses.get(name, {}) | retrieval.get(name, {}) for name in names}


def names_of(runs: Sequence[run_folder.Run], folders: Sequence[str]) -> list[str]:
    """Short, distinct names: the methods where they are enough, else the folders' names, else the folders.

    Raises UserError when a folder is named twice, or has the name of a row of its own.
    """
    for names in ([run.config.method for run in runs], [Path(f).name for f in folders], list(folders)):
        if len(_TAKEN.union(names)) == len(_TAKEN) + len(names):
            return list(names)
    raise UserError(
        f"--runs={','.join(folders)}; expected different folders, none of them called {', '.join(sorted(_TAKEN))}"
    )


def check_unseen(folder: str, run: run_folder.Run, split: pipeline.Split) -> None:
    """Raises UserError when the run was trained on a person of the split.

    Subjects of one name are one person in all that is prepared from a data set, unless another seed made them up. The
    people of a stream are nobody else.
    """

    def source(name: str, specification: Mapping[str, Any]) -> tuple[str, Any]:
        return re.split("[/:]", name)[0], specification.get("seed")

    trained_on = source(run.card["dataset"], run.card.get("specification", {}))
    if run.config.data.stream or trained_on != source(split.name, split.specification):
        return
    trained_people = {*run.card["labelled_subjects"], *run.card["unlabelled_subjects"]}
    met = [
        subject for subject in dict.fromkeys(row.subject for row in split.table) if subject in trained_people
    ]
    if met:
        raise UserError(
            f"{folder} was trained on {', '.join(met)}, who are in {split.name} too; a report is about people whom no "
            "run saw: name another --split or --dataset"
        )


def confounders(compared: Compared, a: str, b: str) -> list[str]:
    """What two runs differ in beside their method: then the gain of one over the other is not the method's alone."""
    config_a, config_b = compared.configs[a], compared.configs[b]
    names = [
        f"--{name}"
        for name, setting in options.options(settings.Train).items()
        if not setting.changeable
        and Role.METHOD not in setting.roles
        and setting.value(config_a) != setting.value(config_b)
    ]
    beside = {
        "training data": compared.trained_on,
        "step": {name: result.card["step"] for name, result in compared.evaluated.items()},
    }
    return names + [name for name, of_run in beside.items() if of_run[a] != of_run[b]]


def tuning(compared: Compared, a: str, b: str) -> set[str]:
    """Those of `confounders` that say how each is trained: methods may each have what is best for them.

    Optimiser, augmentation, labelled pictures in a batch; and the step, where both runs came to their end.
    """
    names = {
        f"--{name}"
        for name, setting in options.options(settings.Train).items()
        if setting.path[0] in ("optimiser", "augmentation") or name == "labelled_batch"
    }
    ended = all(compared.evaluated[n].card["step"] == compared.configs[n].optimiser.steps for n in (a, b))
    return names | ({"step"} if ended else set())


def _of_lists(sizes: Int[np.ndarray, "n c"], ks: Sequence[int]) -> str:
    """How many lists are short, and which K are left out because a gallery is smaller."""
    left_out = [str(k) for k in protocol.KS if k not in ks]
    text = protocol.shorter_lists(sizes, max(ks))
    return text + (f"; K = {', '.join(left_out)} left out: a camera has fewer views" if left_out else "")


def compare(
    folders: Sequence[str], dataset: str, data_dir: str, split_name: str, stride: int = 1
) -> Compared:
    """Opens, evaluates and retrieves with every run.

    Raises UserError when the runs cannot be compared, and as
    `run_folder.open_run`, `evaluate.open_data` and `protocols.choose` do.
    """
    runs = [run_folder.open_run(folder) for folder in folders]
    named = dict(zip(names_of(runs, folders), runs, strict=True))
    split = evaluate.open_data(runs[0], dataset, data_dir, split_name)
    for folder, run in zip(folders, runs, strict=True):
        if run.card["image_size"] != split.image_size:
            raise UserError(
                f"{folder} was trained on pictures of {run.card['image_size']} px, {folders[0]} on "
                f"{split.image_size}; compare runs of one size"
            )
        check_unseen(folder, run, split)
    choice = protocols.choose(split, stride=stride)
    rule = protocol.rule_of()
    evaluated = {name: evaluate.evaluate(run, split, choice) for name, run in named.items()}
    searched = protocol.search_set(split, next(iter(evaluated.values())).views)
    sizes = protocol.gallery_sizes(searched, rule)
    ks = protocol.ks_within(sizes, protocol.KS)
    neighbours = {
        name: protocol.search(searched, result.views.embedding, rule) for name, result in evaluated.items()
    }
    progress.say("oracle and chance: aligning every query with every candidate")
    neighbours[ORACLE], candidates = protocol.oracle(searched, rule)
    scores = {name: protocol.score(searched, result, ks) for name, result in neighbours.items()}
    scores[CHANCE] = protocol.chance(searched, candidates, ks)
    return Compared(
        configs={name: run.config for name, run in named.items()},
        logs={name: metric_log.read(folder) for name, folder in zip(named, folders, strict=True)},
        trained_on={name: run.card["fingerprint"] for name, run in named.items()},
        evaluated=evaluated,
        retrieval={name: score.pooled for name, score in scores.items()},
        lists=_of_lists(sizes, ks),
        nearest={name: Nearest(*result.pooled()) for name, result in neighbours.items()},
        pairs={name: scores[name].pairs["pa_mpjpe@1"] for name in named},
        cameras=tuple(searched.cameras.values()),
        split=split,
        mined={
            name: found for name, run in named.items() if (found := mined.mine(run, data_dir)) is not None
        },
    )
