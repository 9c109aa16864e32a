"""What is said of a run while it trains: its speed over all processes, and advice that can be followed."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.cli import options
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.training import journal
from mcss_jax.errors import UserError
from tests.mcss_jax.steps import make_batch

CONFIG = options.build(Train, workdir="x", save_every=4)


def notes(first: int = 0) -> journal.Journal:
    """A journal that is asked for no validation and writes nothing down."""
    unused: Any = None
    return journal.Journal(CONFIG, unused, pipeline.Waiting(), unused, None, first)


def test_speed_counts_the_pictures_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    looked = notes()
    looked._interval = journal._Interval(start=10.0)
    looked.waiting.seconds = 0.5
    batch = make_batch(labelled=4, unlabelled=5)
    for _ in range(2):
        looked.count(batch)
    monkeypatch.setattr(journal.time, "perf_counter", lambda: 17.0)
    assert looked._speed() == {"images_per_second": 3 * 2 * (4 + 5 * 2) / 7, "input_wait_ms": 250.0}


@pytest.mark.parametrize(("first", "step", "saved"), [(0, 4, False), (0, 5, True), (2, 3, True)])
def test_a_loss_that_is_not_finite(first: int, step: int, saved: bool) -> None:
    """Step 4 is looked at before it is saved; from then on the folder takes no other --learning_rate."""
    report = {"loss": np.nan, "gradient_norm": 1.0, "embedding_variance": 1.0}
    looked = notes(first)
    looked._interval = dataclasses.replace(looked._interval, updates=2)
    end = (
        rf"; the last checkpoint is from before. Lower --learning_rate or --clip_norm {run_folder.ELSEWHERE}$"
        if saved
        else "; nothing was saved. Lower --learning_rate or --clip_norm$"
    )
    with pytest.raises(UserError, match=f"between updates {step - 2} and {step} .*{end}"):
        looked.look(step, report, None, validate=False)  # type: ignore[arg-type]
