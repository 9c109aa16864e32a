"""What a run leaves in its folder, and how other programs open it again."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from launch.cli import options
from launch.runs import settings
from mcss_jax import skeleton, streams
from mcss_jax.errors import UserError
from mcss_jax.storage import checkpoint, loading
from mcss_jax.storage.loading import CARD, CHECKPOINTS, CONFIG, IMPORTED, read_json
from mcss_jax.training.state import PoseStatistics, TrainState, init_state

FINISHED = "finished.json"
# What entries of a card are, where it has them.
KINDS: dict[str, type] = {
    **dict.fromkeys(("dataset", "fingerprint", "boxes", "labelled", "label_sampling"), str),
    **dict.fromkeys(("labelled_subjects", "unlabelled_subjects"), list),
    "specification": dict,
}
# What advice to change settings ends with once a run's folder takes no others (`claim`).
ELSEWHERE = "in another --workdir: this run's settings are fixed since its first checkpoint"


@dataclasses.dataclass(frozen=True)
class Run:
    """An opened run: its settings, its protocol card, its newest whole state and that state's step."""

    config: settings.Train
    card: dict[str, Any]
    state: TrainState
    step: int


def write_text(path: Path, text: str) -> None:
    """Writes a small file in one piece: complete, or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a small file in one piece: complete, or not at all; of several processes the last one's stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def initial_state(config: settings.Train, image_size: int, statistics: PoseStatistics) -> TrainState:
    """The state before the first update."""
    method = settings.method_of(config)
    init = jax.jit(lambda key, stats: init_state(method, key, image_size, stats))
    return init(streams.stream(config.run.seed, "init"), statistics)


def settings_in(folder: Path) -> settings.Train:
    """The settings that a run's folder keeps. Raises UserError for a file that is damaged or of another version."""
    return options.stored(settings.Train, read_json(folder / CONFIG), folder / CONFIG)


def open_run(workdir: str | Path, step: int | None = None, *, encoder_alone: bool = False) -> Run:
    """Opens a run's newest whole checkpoint, or that of `step`.

    Raises UserError when the folder is not a run or has no checkpoint, when a file is damaged or of another version of
    the settings, for weights that are not finite, and for imported weights where more than their encoder is wanted.
    """
    folder = Path(workdir).expanduser()
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is not the folder of a run (it has no {CONFIG}); train one with "
            f"python -m launch.train --workdir={workdir}"
        )
    config = settings_in(folder)
    card = read_json(folder / CARD)
    if IMPORTED in card and not encoder_alone:
        raise UserError(
            f"{folder} holds imported weights: an encoder, and a head that nobody has trained; train from them with "
            f"python -m launch.train --init_from={workdir}"
        )
    _check_card(card, folder / CARD)
    restored = loading.restore(folder, settings.method_of(config), card, step)
    return Run(config, card, restored.state, restored.step)


def _check_card(card: dict[str, Any], source: Path) -> None:
    """Raises UserError for an entry that no training would have written; `source` is where it was found."""
    for name, kind in KINDS.items():
        if name in card and not isinstance(card[name], kind):
            raise UserError(f"{source} has {name} {card[name]!r}; expected a value of type {kind.__name__}")
    if "mean_in_camera" not in card:
        return
    try:
        mean = np.asarray(card["mean_in_camera"], np.float32)
    except (ValueError, TypeError):
        mean = np.zeros(0, np.float32)
    if mean.shape != (skeleton.NUM_JOINTS, 3):
        raise UserError(
            f"{source} has a mean_in_camera that is no pose; expected three numbers for each joint"
        )


def begun(folder: Path) -> bool:
    """Whether a run has left something in `folder` that was trained: a checkpoint, or the mark of its end."""
    return checkpoint.latest(folder / CHECKPOINTS) is not None or (folder / FINISHED).exists()


def claim(config: settings.Train, card: dict[str, Any]) -> Path:
    """Makes the run's folder and writes settings and card, or checks that those of a run that has begun are the same.

    Settings of a start that came to nothing (too little memory, a rate too high) are replaced.

    Raises UserError listing the differences, OSError when the folder cannot be written.
    """
    folder = Path(config.run.workdir).expanduser()
    if (folder / CONFIG).exists() and begun(folder):
        options.refuse_differences(config, folder / CONFIG)
        before = read_json(folder / CARD)
        if before["fingerprint"] != card["fingerprint"]:
            raise UserError(
                f"{folder} was trained on data with fingerprint {before['fingerprint']}; {config.data.dataset} in "
                f"{config.data.data_dir} now has {card['fingerprint']}. Use another --workdir, or the "
                "data it began with."
            )
    write_text(folder / CARD, json.dumps(card, indent=2, sort_keys=True) + "\n")
    write_text(folder / CONFIG, options.to_json(config))
    return folder
