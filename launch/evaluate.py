"""Evaluates a trained run on people it never saw: MPJPE, N-MPJPE, PA-MPJPE, PCK and AUC, beside the mean pose.

python -m launch.evaluate --workdir=runs/mcss --split=test
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from datasets import pipeline, tuples
from launch import flags, inference, progress, run_folder
from launch.flags import option
from mcss_jax import metrics

NAMES = {
    "mpjpe": "MPJPE, camera frame (mm)",
    "n_mpjpe": "N-MPJPE, camera frame (mm)",
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe_canonical": "MPJPE, canonical frame (mm)",
    "n_mpjpe_canonical": "N-MPJPE, canonical frame (mm)",
    "pck_150mm": "3DPCK at 150 mm (%)",
    "auc": "AUC, 0 to 150 mm (%)",
}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """See `python -m launch.evaluate --help`."""

    workdir: str = option("", "Folder of the run. Required.", "Run")
    step: int = option(0, "Checkpoint to evaluate; 0 for the newest.", "Run")
    dataset: str = option("", "Prepared data set; by default the one the run was trained on.", "Data")
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", "Data")
    split: str = option("test", "Split to evaluate on.", "Data")
    stride: int = option(1, "Evaluate every n-th instant.", "Data")
    batch: int = option(256, "Pictures at a time.", "Data")


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Figures of the run and of the constant mean pose, and the protocol they were measured under."""

    figures: dict[str, float]
    mean_pose: dict[str, float]
    by_action: dict[str, float]
    card: dict[str, Any]
    views: inference.Views


def open_data(run: run_folder.Run, dataset: str, data_dir: str, split: str) -> pipeline.Split:
    """The split to judge a run on.

    Pictures are resized to the run's. Raises ValueError when they are smaller, or a streamed run names no data set.
    """
    if run.config.stream and not dataset:
        raise ValueError("the run was trained on a stream; name a prepared data set with --dataset")
    return pipeline.open_split(
        data_dir or run.config.data_dir, dataset or run.config.dataset, split, run.card["image_size"]
    )


def protocol(run: run_folder.Run, split: pipeline.Split, views: inference.Views) -> dict[str, Any]:
    """What a reader must know to compare the figures with others."""
    return {
        "units": "millimetres; mean over all views",
        "joints": "17 of Human3.6M, root included",
        "root": "Hip; predictions and truth are root-relative",
        "alignment": "MPJPE none; N-MPJPE least-squares scale; PA-MPJPE similarity Procrustes, proper rotation",
        "frames": "camera frame: rotation predicted in the crop's virtual camera, turned by box and intrinsics; "
        "canonical frame: body axes from hips and spine",
        "uses at test time": "box and intrinsics (camera-frame figures only); no true root, scale or depth",
        "data": split.name,
        "fingerprint": split.fingerprint,
        "subjects": sorted({row.subject for row in split.table}),
        "views": len(views),
        "boxes": split.box_source,
        "trained on": run.card["dataset"],
        "labels used": run.card["labelled"],
        "labelled subjects": run.card["labelled_subjects"],
        "labelled instants": run.card["labelled_instants"],
        "unlabelled subjects": run.card["unlabelled_subjects"],
        "method": run.config.method,
        "seed": run.config.seed,
        "step": run.step,
    }


def by_action(views: inference.Views, table: tuple[tuples.SequenceRow, ...]) -> dict[str, float]:
    """Mean PA-MPJPE of each action."""
    actions = np.asarray([row.action for row in table])[views.sequence]
    errors = np.asarray(metrics.pa_mpjpe(views.canonical, views.true_canonical))
    return {str(action): float(errors[actions == action].mean()) for action in dict.fromkeys(actions)}


def evaluate(run: run_folder.Run, split: pipeline.Split, *, batch: int = 256, stride: int = 1) -> Evaluated:
    """Predicts every view of a split and compares with the truth. Raises ValueError when it has no poses."""
    if not all(row.has_pose for row in split.table):
        raise ValueError(
            f"{split.name} has instants without poses; it can be retrieved from, but not evaluated"
        )
    views = inference.predict_split(run.state, split, batch=batch, stride=stride)
    constant = inference.mean_pose(
        views, run.state.statistics, np.asarray(run.card["mean_in_camera"], np.float32)
    )
    return Evaluated(
        figures=inference.pose_figures(views),
        mean_pose=inference.pose_figures(constant),
        by_action=by_action(views, split.table),
        card=protocol(run, split, views),
        views=views,
    )


def table(columns: dict[str, dict[str, float]]) -> str:
    """Figures side by side, one column for each name."""
    width = max(len(name) for name in NAMES.values())
    head = " " * width + "".join(f"{name:>14}" for name in columns)
    rows = [
        f"{text:<{width}}" + "".join(f"{figures[key]:14.1f}" for figures in columns.values())
        for key, text in NAMES.items()
    ]
    return "\n".join([head, *rows])


def card_text(card: dict[str, Any]) -> str:
    """A protocol card as lines."""
    width = max(len(name) for name in card)
    return "\n".join(
        f"  {name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in card.items()
    )


def main(config: Evaluate) -> None:
    """Prints the table and the card, and writes both beside the run."""
    if not config.workdir:
        raise ValueError("--workdir is missing; name the folder of a run")
    if config.stride < 1 or config.batch < 1:
        raise ValueError(f"--stride={config.stride} and --batch={config.batch} must be at least 1")
    run = run_folder.open_run(config.workdir, config.step or None)
    split = open_data(run, config.dataset, config.data_dir, config.split)
    result = evaluate(run, split, batch=config.batch, stride=config.stride)
    progress.say(table({"mean pose": result.mean_pose, run.config.method: result.figures}))
    progress.say("PA-MPJPE by action: " + ", ".join(f"{a} {e:.1f}" for a, e in result.by_action.items()))
    progress.say("Protocol:\n" + card_text(result.card))
    output = Path(config.workdir).expanduser() / f"evaluation_{config.split}.json"
    content = {
        "figures": result.figures,
        "mean_pose": result.mean_pose,
        "pa_mpjpe_by_action": result.by_action,
        "protocol": result.card,
    }
    run_folder.write_text(output, json.dumps(content, indent=2) + "\n")
    progress.say(f"written to {output}")


if __name__ == "__main__":
    flags.run(Evaluate, "launch.evaluate", __doc__ or "", main)
