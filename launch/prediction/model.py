"""The model that `launch.predict` uses: a run's, or the one that the demo makes."""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from launch.prediction.sources import check_utf8
from launch.reports import demo_card
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.storage import model

MAKE_ONE = "bash launch/demo.sh"
MADE = Path(__file__).resolve().parents[2] / "runs" / "demo" / "mcss"


class Opened(NamedTuple):
    """A model, and what it is in a few words."""

    model: model.Model
    about: str


def open_model(workdir: str, step: int = 0) -> Opened:
    """The model of a run (of its newest checkpoint for step 0); without `workdir` the demo's.

    Raises UserError as `run_folder.open_run` does, and when the demo has not been run.
    """
    if not workdir and not (MADE / run_folder.CONFIG).is_file():
        raise UserError(
            f"--workdir is missing, and the small model of the demo is not there; `{MAKE_ONE}` makes it in minutes, or "
            "name the folder of a run"
        )
    check_utf8("--workdir", [workdir])
    run = run_folder.open_run(workdir or MADE, step or None)
    size = run.card["image_size"]
    where = (
        f"run {workdir}" if workdir else f"the demo's small model (what it can do: {MADE / demo_card.FILE})"
    )
    # A card of weights that were brought in names no data.
    about = f"{where}, step {run.step}, {size} px, trained on {run.card.get('dataset', 'no data set')}"
    return Opened(model.of_state(run.state, size), about)


def latency(network: model.Model, repeats: int = 20) -> float:
    """Median seconds from one picture to its pose, after a first call that compiles."""
    picture = np.zeros((network.image_size, network.image_size, 3), np.uint8)
    network(picture)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        network(picture)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
