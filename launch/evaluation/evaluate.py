"""The figures of a run on a split, its protocol card, and both as tables."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from datasets.tuples import pipeline
from launch.cli.options import option
from launch.evaluation import inference, protocols
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.setting import Role

NAMES = {
    "mpjpe": "MPJPE, camera frame (mm)",
    "n_mpjpe": "N-MPJPE, camera frame (mm)",
    "pa_mpjpe": "PA-MPJPE (mm)",
    "mpjpe_canonical": "MPJPE, canonical frame (mm)",
    "n_mpjpe_canonical": "N-MPJPE, canonical frame (mm)",
    "pck_150mm": "3DPCK at 150 mm (%)",
    "auc": "AUC, 0 to 150 mm (%)",
}
ACTION_MEAN = "_action_mean"
# Columns of the printed table of each kind of group; the JSON has them all.
COLUMNS = {
    "action": {"mpjpe": "MPJPE", "n_mpjpe": "N-MPJPE", "pa_mpjpe": "PA-MPJPE"},
    "sequence": {"pck_150mm": "3DPCK", "auc": "AUC", "mpjpe": "MPJPE"},
    "activity": {"pck_150mm": "3DPCK", "auc": "AUC", "mpjpe": "MPJPE"},
}


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """See `python -m launch.evaluate --help`."""

    workdir: str = option("", "Folder of the run. Required.", "Run")
    step: int = option(0, "Checkpoint to evaluate; 0 for the newest.", "Run")
    dataset: str = option("", "Prepared data set; by default the one the run was trained on.", "Data")
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", "Data")
    split: str = option("test", "Split to evaluate on.", "Data")
    batch: int = option(256, "Pictures at a time.", "Data", roles={Role.MEMORY})
    every: int = option(
        0,
        "Evaluate frames whose number in the original video is a multiple of this (64, 5, 1); 0 for all that the "
        "split holds, or, where it holds two samplings, those of the denser one.",
        "Protocol",
    )
    stride: int = option(1, "Of these instants, every n-th: for a quick look.", "Protocol")
    damaged: protocols.Damaged = option(
        "keep", "Takes with a known defect: keep them, or drop them.", "Protocol"
    )
    cameras: str = option("", "Only these cameras, names separated by commas; empty for all.", "Protocol")
    exclude: str = option(
        "",
        "Sequences to leave out, names as in the tables ('S11 Directions 2'), separated by commas.",
        "Protocol",
    )


Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """Figures of the run and of the constant mean pose, and the protocol they were measured under.

    `groups` are the run's figures by kind of group (`action`, or `sequence` and `activity`) and by label.
    """

    figures: Figures
    mean_pose: Figures
    groups: dict[str, dict[str, Figures]]
    card: dict[str, Any]
    views: inference.Views


def open_data(run: run_folder.Run, dataset: str, data_dir: str, split: str) -> pipeline.Split:
    """The split to judge a run on.

    Pictures are resized to the run's. Raises UserError when they are smaller, or a streamed run names no data set.
    """
    if run.config.data.stream and not dataset:
        raise UserError("the run was trained on a stream; name a prepared data set with --dataset")
    return pipeline.open_split(
        data_dir or run.config.data.data_dir,
        dataset or run.config.data.dataset,
        split,
        run.card["image_size"],
    )


def protocol(
    run: run_folder.Run,
    split: pipeline.Split,
    choice: protocols.Choice,
    views: inference.Views,
    kinds: Collection[str] = (),
) -> dict[str, Any]:
    """What a reader must know to compare the figures with others; `kinds` are those that views are grouped by."""
    chosen = protocols.card(choice, split, views.sequence, views.camera)
    actions = len({split.table[s].action for s in np.unique(views.sequence)}) if "action" in kinds else 0
    tests_3dhp = "activity" in kinds
    if tests_3dhp and chosen.get("annotation") == "annot3":
        chosen["annotation"] += " (the official 3DPCK and AUC are on univ_annot3: these are not they)"
    mapping = protocols.joint_mapping(run.card["dataset"], split.name)
    return {
        "units": f"millimetres; mean over all views, or ({ACTION_MEAN}) mean of the means of {actions} actions"
        if actions > 1
        else "millimetres; mean over all views",
        "joints": "17 of Human3.6M, root included; 3DPCK and AUC: 14 of them, without Hip, Spine and Neck/Nose "
        "(MPI-INF-3DHP's pelvis, spine and head)",
        **({"joint mapping": mapping} if mapping else {}),
        "root": "Hip; predictions and truth are root-relative",
        "alignment": "MPJPE, 3DPCK and AUC none; N-MPJPE least-squares scale; PA-MPJPE similarity Procrustes, "
        "proper rotation",
        "thresholds": "3DPCK: errors below 150 mm, strictly; AUC: mean over 0, 5, ..., 150 mm",
        "coordinates": "camera frame: rotation predicted in the crop's virtual camera, turned by box and "
        "intrinsics; canonical frame: body axes from hips and spine",
        "uses at test time": "box and intrinsics (camera-frame figures only"
        + (", fitted to the test annotations" if tests_3dhp else "")
        + "); no true root, scale or depth",
        "data": split.name,
        "fingerprint": split.fingerprint,
        "subjects": list(dict.fromkeys(split.table[s].subject for s in np.unique(views.sequence))),
        "instants": len(np.unique(views.record)),
        "views": len(views),
        **chosen,
        "uses labels of unlabelled people for boxes": protocols.boxes_from_labels(
            run.card["boxes"], chosen["boxes"]
        ),
        "trained on": run.card["dataset"],
        "boxes in training": run.card["boxes"],
        "labels used": run.card["labelled"],
        # Runs that are older than the setting had, in effect, its default.
        "label sampling": run.card.get("label_sampling", "uniform"),
        "labelled subjects": run.card["labelled_subjects"],
        "labelled instants": run.card["labelled_instants"],
        "unlabelled subjects": run.card["unlabelled_subjects"],
        "method": run.config.method,
        "seed": run.config.run.seed,
        "step": run.step,
    }


def _figures(
    views: inference.Views, labels: dict[str, np.ndarray]
) -> tuple[Figures, dict[str, dict[str, Figures]]]:
    """Means over all views, with the means of the actions' means where there are several; means by group."""
    errors = inference.pose_errors(views)
    figures = {name: float(values.mean()) for name, values in errors.items()}
    groups = {kind: inference.means_by(errors, of_view) for kind, of_view in labels.items()}
    actions = list(groups.get("action", {}).values())
    if len(actions) > 1:
        figures |= {name + ACTION_MEAN: float(np.mean([row[name] for row in actions])) for name in errors}
    return figures, groups


def evaluate(
    run: run_folder.Run, split: pipeline.Split, choice: protocols.Choice, *, batch: int = 256
) -> Evaluated:
    """Predicts the chosen views of a split and compares with the truth. Raises UserError when it has no poses."""
    rows = [split.table[s] for s in np.unique(split.sequence_of[choice.records])]
    # Frames that are not valid need have no pose, and are not looked at.
    if not all(row.has_pose or "valid_frame" in split[row.first] for row in rows):
        raise UserError(
            f"{split.name} has instants without poses; it can be retrieved from, but not evaluated"
        )
    views = inference.predict_split(run.state, split, choice, batch=batch)
    constant = inference.mean_pose(
        views, run.state.statistics, np.asarray(run.card["mean_in_camera"], np.float32)
    )
    labels = protocols.labels_of(split, views.record, views.sequence)
    figures, groups = _figures(views, labels)
    return Evaluated(
        figures=figures,
        mean_pose=_figures(constant, labels)[0],
        groups=groups,
        card=protocol(run, split, choice, views, groups),
        views=views,
    )


def table(columns: dict[str, Figures]) -> str:
    """Figures side by side, one column for each name: means over all views, then means of the actions' means."""
    width = max(len(name) for name in NAMES.values())
    lines = []
    for suffix, title in (("", "Mean over all views"), (ACTION_MEAN, "Mean of the actions' means")):
        if all("mpjpe" + suffix in figures for figures in columns.values()):
            lines.append(f"{title:<{width}}" + "".join(f"{name:>14}" for name in columns))
            lines += [
                f"{text:<{width}}" + "".join(f"{figures[key + suffix]:14.1f}" for figures in columns.values())
                for key, text in NAMES.items()
            ]
    return "\n".join(lines)


def group_table(kind: str, groups: dict[str, Figures]) -> str:
    """Figures by group, one row each; `kind` decides the columns."""
    columns = COLUMNS[kind]
    width = max(len(kind) + 3, *(len(label) for label in groups))
    head = f"{'By ' + kind:<{width}}{'views':>10}" + "".join(f"{text:>11}" for text in columns.values())
    rows = [
        f"{label:<{width}}{row['views']:>10,}" + "".join(f"{row[key]:11.1f}" for key in columns)
        for label, row in groups.items()
    ]
    return "\n".join([head, *rows])


def card_text(card: dict[str, Any]) -> str:
    """A protocol card as lines."""
    width = max(len(name) for name in card)
    return "\n".join(
        f"  {name:<{width}}  {', '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in card.items()
    )


def content(result: Evaluated) -> dict[str, Any]:
    """A result as JSON values."""
    return {
        "figures": result.figures,
        "mean_pose": result.mean_pose,
        **{f"by_{kind}": groups for kind, groups in result.groups.items()},
        "protocol": result.card,
    }


def file_name(config: Evaluate, run: run_folder.Run, split: pipeline.Split) -> str:
    """Tells evaluations of one run apart: another set (also one of the same name), checkpoint or choice."""
    return protocols.file_name(
        config.split,
        (
            protocols.another_set(config.dataset, run, split),
            f"step{config.step}" if config.step else "",
            f"every{config.every}" if config.every else "",
            f"stride{config.stride}" if config.stride > 1 else "",
            "undamaged" if config.damaged == "drop" else "",
            config.cameras,
            f"without {config.exclude}" if config.exclude else "",
        ),
    )
