"""Evaluates a trained run on people it never saw: MPJPE, N-MPJPE, PA-MPJPE, 3DPCK and AUC, beside the mean pose.

    python -m launch.evaluate --workdir=runs/mcss --split=test
    python -m launch.evaluate --workdir=runs/human36m/mcss_s1 --every=64 --damaged=drop

Every figure is a mean over all views and, where a split has several actions, also the mean of the actions' means.
"""

import json
from pathlib import Path

from launch.cli import flags, progress
from launch.evaluation import protocols
from launch.evaluation.evaluate import (
    Evaluate,
    card_text,
    content,
    evaluate,
    file_name,
    group_table,
    open_data,
    table,
)
from launch.runs import run_folder
from mcss_jax.errors import UserError


def main(config: Evaluate) -> None:
    """Prints the tables and the card, and writes all of it beside the run."""
    if not config.workdir:
        raise UserError("--workdir is missing; name the folder of a run")
    if config.batch < 1:
        raise UserError(f"--batch={config.batch}; expected at least 1")
    run = run_folder.open_run(config.workdir, config.step or None)
    split = open_data(run, config.dataset, config.data_dir, config.split)
    choice = protocols.choose(
        split,
        every=config.every,
        damaged=config.damaged,
        cameras=config.cameras,
        stride=config.stride,
        exclude=config.exclude,
    )
    result = evaluate(run, split, choice, batch=config.batch)
    if "joint mapping" in result.card:
        progress.say(f"joint mapping: {result.card['joint mapping']}")
    progress.say(table({"mean pose": result.mean_pose, run.config.method: result.figures}))
    for kind, groups in result.groups.items():
        progress.say(group_table(kind, groups))
    progress.say("Protocol:\n" + card_text(result.card))
    output = Path(config.workdir).expanduser() / file_name(config, run, split)
    run_folder.write_text(output, json.dumps(content(result), indent=2) + "\n")
    progress.say(f"written to {output}")


if __name__ == "__main__":
    flags.run(Evaluate, "launch.evaluate", __doc__ or "", main)
