"""One run of a study: trained in a folder of its own, then judged from its last checkpoint."""

import dataclasses
import json
import time
from typing import Any

from launch import provenance, run_folder, study_results, train
from launch.study_judge import Judge
from launch.study_plan import PlannedRun
from mcss_jax import checkpoint

# What the study notes in a run's folder when a call of the training ends.
TRAINING = "training.json"


def note(run: PlannedRun) -> dict[str, Any]:
    """What is noted of a run's training; nothing before its first call ends."""
    file = run.folder / TRAINING
    return run_folder.read_json(file) if file.is_file() else {}


def trained(run: PlannedRun) -> bool:
    """Whether a run has made all its updates."""
    return bool(note(run).get("finished", False))


def train_run(run: PlannedRun) -> bool:
    """Trains what is left of a run, and notes how long it took and on what; False when it was interrupted."""
    start = time.perf_counter() - note(run).get("seconds", 0.0)
    result = train.train(run.config)
    content = {
        "finished": result.finished,
        "seconds": time.perf_counter() - start,
        "hardware": provenance.hardware(),
        "revision": provenance.revision(),
    }
    run_folder.write_text(run.folder / TRAINING, json.dumps(content, indent=2) + "\n")
    return result.finished


def judge_run(run: PlannedRun, judge: Judge | None, judged: dict[str, Any]) -> study_results.Line:
    """The finished line of a trained run; without a judge it has no figures.

    Raises ValueError and OSError when its last checkpoint cannot be read: an older one would not be this run.
    """
    figures = {} if judge is None else judge(run_folder.open_run(run.folder, run.config.steps))
    training = note(run)
    about = {
        "judged": judged,
        "fingerprint": run_folder.read_json(run.folder / run_folder.CARD)["fingerprint"],
        "wall_seconds": training["seconds"],
        "hardware": training["hardware"],
        "revision": training["revision"],
        "configuration": dataclasses.asdict(run.config),
    }
    return study_results.finished(run, figures, about)


def state(run: PlannedRun, results: study_results.Results) -> str:
    """How far a run is, in words."""
    line = results.line(run)
    if line["status"] == "failed":
        return f"failed: {line['error']}"
    if line["status"] == "finished":
        return "finished"
    if trained(run):
        return "trained, not judged"
    step = checkpoint.latest(run.folder / run_folder.CHECKPOINTS)
    return "not started" if step is None else f"at step {step} of {run.config.steps}"
