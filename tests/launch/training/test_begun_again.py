"""A run that somebody has begun before: what it left is kept, named and waited for."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch import train as train_program
from launch.cli import options
from launch.runs import locks, run_folder
from launch.runs.settings import Train
from launch.training import train
from mcss_jax.errors import UserError
from tests.launch.training.test_train import TINY
from tests.mcss_jax.steps import two_blocks


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture
def config(prepared_tiny: Path, tmp_path: Path) -> Train:
    return options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(tmp_path / "run"))


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> list[float | Exception]:
    """Steps change nothing: each takes the next of these as its loss, or raises it."""
    outcomes: list[float | Exception] = []

    def mapped_step(*_: Any) -> Callable:
        def step(state: Any, batch: Any, rng: Any) -> Any:
            loss = outcomes.pop(0)
            if isinstance(loss, Exception):
                raise loss
            report = dict.fromkeys(("gradient_norm", "embedding_variance"), jnp.ones(()))
            return state, report | {"loss": jnp.asarray(loss)}

        return step

    monkeypatch.setattr(train.parallel, "mapped_step", mapped_step)
    return outcomes


def test_logs_of_starts_that_saved_nothing_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    for content in ("first", "second", ""):
        file.write_text(content)
        train._begin_anew(tmp_path)
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"metrics.jsonl.before1": "first", "metrics.jsonl.before2": "second", file.name: ""}


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([np.nan], "the last checkpoint is from before. Lower --learning_rate or --clip_norm "),
        ([jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED"), 1.0, 1.0], "what fits is .*--accumulate=2, "),
    ],
)
def test_advice_after_a_checkpoint_is_for_another_folder(
    outcomes: list[float | Exception], message: str, config: Train, outcome: list[float | Exception]
) -> None:
    outcome[:] = [1.0]
    assert train.train(options.replace(config, stop_after=1)).step == 1
    outcome[:] = outcomes
    with pytest.raises(UserError, match=message + f"{run_folder.ELSEWHERE}$"):
        train.train(options.replace(config, log_every=1))
    assert outcome == []


def test_a_run_that_begins_again_is_not_finished(config: Train, outcome: list[float | Exception]) -> None:
    """Somebody has removed the checkpoints of a finished run."""
    outcome[:] = [1.0]
    (folder := Path(config.run.workdir)).mkdir()
    (folder / "finished.json").write_text("{}")
    train.train(options.replace(config, stop_after=1))
    assert not (folder / "finished.json").exists()


@pytest.mark.parametrize(("name", "code"), [("SIGINT", None), ("SIGUSR1", 75)])
def test_a_signal_while_the_folder_is_another_s(
    name: str,
    code: int | None,
    config: Train,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(train.folder_lock, "ATTEMPTS", 2)
    monkeypatch.setattr(
        train.folder_lock.time, "sleep", lambda seconds: signal.raise_signal(getattr(signal, name))
    )
    folder = Path(config.run.workdir)
    with locks.held(folder), pytest.raises(SystemExit) if code else contextlib.nullcontext() as left:
        train_program.main(config)
    assert left is None or left.value.code == code
    assert f"stopped while waiting for {folder}; nothing was done" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == [locks.NAME]
