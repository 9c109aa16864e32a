"""One run of a study: trained in a folder of its own, then judged from its last checkpoint."""

import json
import time
from typing import Any

from launch.cli import options
from launch.runs import provenance, run_folder
from launch.studies import results as study_results
from launch.studies.judge import Judge
from launch.studies.plan import PlannedRun
from launch.training import train
from mcss_jax.errors import UserError
from mcss_jax.storage import checkpoint

# What the study notes in a run's folder: whether it is trained, and of every call of the training its machine, its
# revision and, when the call ends, its seconds.
TRAINING = "training.json"
_CALL = ("seconds", "hardware", "revision")


def calls(run: PlannedRun) -> list[dict[str, Any]]:
    """What is noted of the calls that trained a run, the first one first."""
    content = _note(run)
    # Studies of before kept one entry in the place of all.
    single_entry = {name: content[name] for name in _CALL if name in content}
    entries = content.get("calls", [single_entry] if single_entry else [])
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and set(_CALL) <= set(entry) for entry in entries
    ):
        raise UserError(
            f"{run.folder / TRAINING} is damaged: calls with {', '.join(_CALL)} were expected; remove it"
        )
    return entries


def _note(run: PlannedRun) -> dict[str, Any]:
    file = run.folder / TRAINING
    return run_folder.read_json(file) if file.is_file() else {}


def trained(run: PlannedRun) -> bool:
    """Whether a run has made all its updates."""
    return bool(_note(run).get("finished", False))


def train_run(run: PlannedRun) -> train.Trained:
    """Trains what is left of a run, and notes on what and for how long, whatever ends it."""
    before = calls(run)
    # Whoever is killed has noted what it worked on, and that its seconds are not known.
    call = {"seconds": None, "hardware": provenance.hardware(), "revision": provenance.revision()}
    finished, start = False, time.perf_counter()
    _write(run, finished, [*before, call])
    try:
        result = train.train(run.config)
        finished = result.finished
    finally:
        _write(run, finished, [*before, call | {"seconds": time.perf_counter() - start}])
    return result


def _write(run: PlannedRun, finished: bool, entries: list[dict[str, Any]]) -> None:
    content = {"finished": finished, "calls": entries}
    run_folder.write_text(run.folder / TRAINING, json.dumps(content, indent=2) + "\n")


def judge_run(run: PlannedRun, judge: Judge | None, judged: dict[str, Any]) -> study_results.Line:
    """The finished line of a trained run; without a judge it has no figures.

    `wall_seconds` is None where a call was killed; `hardware` and `revision` are lists where calls had different ones.
    Raises UserError and OSError when its last checkpoint cannot be read: an older one would not be this run.
    """
    figures = {} if judge is None else judge(run_folder.open_run(run.folder, run.config.optimiser.steps))
    entries = calls(run)
    seconds = [entry["seconds"] for entry in entries]
    card = run_folder.read_json(run.folder / run_folder.CARD)
    about = {
        "judged": judged,
        "fingerprint": card["fingerprint"],
        "wall_seconds": None if None in seconds else sum(seconds),
        "hardware": _without_repeats([entry["hardware"] for entry in entries]),
        "revision": _without_repeats([entry["revision"] for entry in entries]),
        "configuration": options.values(run_folder.settings_in(run.folder)),
        **_unlabelled(card),
    }
    return study_results.finished(run, figures, about)


def _unlabelled(card: dict[str, Any]) -> dict[str, float]:
    """How much a run saw without labels; nothing where it saw none, or has no end."""
    seconds = card.get("unlabelled_seconds")
    if not isinstance(seconds, float | int) or not seconds:
        return {}
    return {"unlabelled_people": len(card["unlabelled_subjects"]), "unlabelled_minutes": seconds / 60}


def _without_repeats(values: list[Any]) -> Any:
    different = [value for k, value in enumerate(values) if value not in values[:k]]
    return different[0] if len(different) == 1 else different


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
    return "not started" if step is None else f"at step {step} of {run.config.optimiser.steps}"
