"""Judges a finished run of a study on people it never saw, of a prepared set or of the stream."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from datasets.tuples import pipeline
from launch.evaluation import evaluate, inference, protocols
from launch.retrieval import protocol as retrieval_protocol
from launch.runs import run_folder, settings
from launch.training import streamed
from mcss_jax.errors import UserError

CONTROL = ("mpjpe", "n_mpjpe", "pa_mpjpe", "mpjpe_canonical")

Judge = Callable[[run_folder.Run], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Which people judge, and which of their instants; see the flags of these names of launch.evaluate."""

    judge: streamed.Judge
    every: int
    stride: int
    damaged: protocols.Damaged


def open_judge(config: settings.Train, protocol: Protocol) -> Judge:
    """A function from an opened run, trained with settings like `config`, to its figures.

    Raises UserError when the people who judge are not there or have no poses.
    """
    if config.data.stream:
        if protocol.every or protocol.damaged != "keep":
            raise UserError("--every and --damaged have no meaning with --stream; use --stride")
        if protocol.stride < 1:
            raise UserError(f"--stride={protocol.stride}; expected at least 1")
        return partial(_on_stream, protocol=protocol)
    name = config.data.validation_split if protocol.judge == "validation" else "test"
    if not name:
        raise UserError(
            "--judge=validation needs people for it, but --base sets no --validation_split; train with --judge=none, "
            "and judge the finished grid with --judge=test"
        )
    split = pipeline.open_split(config.data.data_dir, config.data.dataset, name, config.data.image_size)
    choice = protocols.choose(split, every=protocol.every, damaged=protocol.damaged, stride=protocol.stride)
    return partial(_on_split, split=split, choice=choice)


def check_fingerprint(run: object, card: Mapping[str, Any], split: pipeline.Split) -> None:
    """Raises UserError when a run with this card was trained on another state of the set that `split` is of."""
    if card["fingerprint"] != split.fingerprint:
        raise UserError(
            f"{run} was trained on data with fingerprint {card['fingerprint']}; {split.name} now has "
            f"{split.fingerprint}. Use the data that the study began with, or another --workdir"
        )


def _on_split(run: run_folder.Run, split: pipeline.Split, choice: protocols.Choice) -> dict[str, Any]:
    check_fingerprint("the run", run.card, split)
    result = evaluate.evaluate(run, split, choice)
    return {
        **result.figures,
        **control(result.mean_pose),
        **retrieved(result.views),
        "split": split.name,
        "subjects": result.card["subjects"],
        "views": len(result.views),
    }


def _on_stream(run: run_folder.Run, protocol: Protocol) -> dict[str, Any]:
    takes = streamed.judged_takes(run.config, protocol.judge)
    records = np.arange(0, len(takes), protocol.stride)
    views = inference.predict(
        run.state, streamed.views_of(takes, records), size=streamed.JUDGED_AT_ONCE, name="the stream"
    )
    constant = inference.mean_pose(
        views, run.state.statistics, np.asarray(run.card["mean_in_camera"], np.float32)
    )
    return {
        **inference.pose_figures(views),
        **control(inference.pose_figures(constant)),
        **retrieved(views),
        "split": f"{run.card['dataset']}: {protocol.judge}",
        "subjects": [f"S{subject}" for subject in takes.subjects],
        "views": len(views),
    }


def control(mean_pose: dict[str, float]) -> dict[str, float]:
    """What the constant mean pose gives, by name."""
    return {f"mean_pose_{name}": mean_pose[name] for name in CONTROL}


def retrieved(views: inference.Views) -> dict[str, float]:
    """Retrieval from the other cameras: PA-MPJPE of the nearest (mm) and Hit@1 (%); nothing for a single camera."""
    cameras = np.unique(views.camera).tolist()
    if len(cameras) < 2:
        return {}
    # The usual rule asks for no subjects.
    searched = retrieval_protocol.set_of(
        views, np.zeros(len(views), np.int32), {camera: str(camera) for camera in cameras}, groups={}
    )
    rule = retrieval_protocol.rule_of()
    neighbours = retrieval_protocol.search(searched, views.embedding, rule, k=1)
    pooled = retrieval_protocol.score(searched, neighbours, ks=(1,)).pooled
    return {
        "retrieval_pa_mpjpe_at_1": pooled["pa_mpjpe@1"],
        "retrieval_hit_at_1": pooled["hit@1"],
    }
