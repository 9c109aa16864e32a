"""Training as a user runs it: restarts, refusals, interruptions, control of what is saved, a stream without TFDS."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch import train as train_program
from launch.cli import options
from launch.runs import locks, metric_log, run_folder
from launch.runs.settings import Train
from launch.training import journal, sources, train
from mcss_jax.errors import UserError
from mcss_jax.storage import checkpoint
from tests.mcss_jax.steps import two_blocks
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]
TINY = options.build(Train, 
    dataset="synthetic_multiview/tiny", labelled="S1:0.5", labelled_batch=8, blocks=2, sequences=2, instants=2,
    width=8, embedding_dim=8, hidden=8, stem="patch8", steps=10, warmup_steps=2, log_every=2, save_every=4,
    validate_every=0, validation_stride=12,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture
def config(prepared_tiny: Path, tmp_path: Path) -> Train:
    return options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(tmp_path / "run"))


def arrays(state: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


@pytest.fixture(scope="module")
def straight(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> train.Trained:
    """Ten steps in one go, with a validation at the third and the last."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    config = options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(folder), validate_every=3)
    return train.train(config)


def test_ten_steps_are_five_and_a_restart_and_five(straight: train.Trained, config: Train) -> None:
    half = train.train(options.replace(config, stop_after=5))
    assert (half.step, half.finished) == (5, False)
    assert checkpoint.steps(half.folder / "checkpoints") == [4, 5]
    whole = train.train(config)
    assert (whole.step, whole.finished) == (10, True)
    for resumed, expected in zip(arrays(whole.state), arrays(straight.state), strict=True):
        np.testing.assert_array_equal(resumed, expected)
    # What is on disk is what was trained, and nothing else differs in the log of the steps both wrote.
    stored = run_folder.open_run(whole.folder)
    assert stored.step == 10
    for actual, expected in zip(arrays(stored.state), arrays(straight.state), strict=True):
        np.testing.assert_array_equal(actual, expected)
    logs = [{r["step"]: r["train/loss"] for r in metric_log.read(t.folder)} for t in (whole, straight)]
    assert logs[0][10] == logs[1][10] and logs[0][8] == logs[1][8]
    # The same command once more has nothing left to do.
    again = train.train(config)
    assert (again.step, again.finished) == (10, True)


def test_what_is_looked_at_changes_no_parameter(straight: train.Trained, config: Train) -> None:
    """Logging, validation and checkpoints at other steps: the same state, bit for bit."""
    rarely = train.train(options.replace(config, log_every=7, save_every=10, validate_every=0))
    for actual, expected in zip(arrays(rarely.state), arrays(straight.state), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_validation_runs_when_it_is_due(straight: train.Trained) -> None:
    records = metric_log.read(straight.folder)
    validated = [r["step"] for r in records if "validation/pa_mpjpe" in r]
    assert validated == [3, 6, 9, 10]
    assert {r["step"] for r in records} == {1, 2, 3, 4, 6, 8, 9, 10}
    last = records[-1]
    for name in (
        "loss",
        "loss_pose",
        "loss_metric",
        "positive_distance",
        "negative_distance",
        "embedding_variance",
    ):
        assert np.isfinite(last[f"train/{name}"])
    for name in ("validation/mpjpe", "validation/n_mpjpe", "validation/mpjpe_canonical", "images_per_second"):
        assert last[name] > 0
    assert last["input_wait_ms"] >= 0
    card = json.loads((straight.folder / "card.json").read_text())
    assert card["labelled_subjects"] == ["S1"] and card["boxes"] == "mask"
    assert (
        card["unlabelled_subjects"] == ["S1", "S2"]
        and card["unlabelled_instants"] > card["labelled_instants"]
    )


def test_a_resume_under_other_settings_is_refused(
    straight: train.Trained, config: Train, tmp_path: Path
) -> None:
    shutil.copytree(straight.folder, tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(
        ValueError, match=f"--margin: {config.objective.margin} before, 0.4 now; --seed: 0 before, 1 now"
    ):
        train.train(options.replace(config, margin=0.4, seed=1))
    card = json.loads((tmp_path / "run" / "card.json").read_text())
    assert {file: file.read_bytes() for file in before} == before
    (tmp_path / "run" / "card.json").write_text(json.dumps({**card, "fingerprint": "other"}))
    with pytest.raises(UserError, match="was trained on data with fingerprint other; .* now has"):
        train.train(config)


def test_checkpoints_of_other_data_are_refused(
    straight: train.Trained, config: Train, tmp_path: Path
) -> None:
    shutil.copytree(straight.folder, tmp_path / "run")
    with checkpoint.Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        state, _, _ = checkpoints.restore(straight.state)
        checkpoints.save(11, state, {"fingerprint": "other", "seed": 0})
    with pytest.raises(
        UserError, match="holds checkpoints of data with fingerprint other; the data now have"
    ):
        train.train(config)


@pytest.mark.parametrize("left", ["checkpoints/0/commit_success.txt", "finished.json"])
def test_what_was_trained_is_never_claimed_by_others(left: str, tmp_path: Path) -> None:
    config, card = options.build(Train, workdir=str(tmp_path / "run")), {"fingerprint": "a"}
    folder = run_folder.claim(config, card)
    other = options.replace(config, seed=1)
    run_folder.claim(other, {"fingerprint": "b"})
    (folder / left).parent.mkdir(parents=True, exist_ok=True)
    (folder / left).touch()
    with refused("--seed", "1", "0"):
        run_folder.claim(config, {"fingerprint": "b"})
    with pytest.raises(UserError, match="was trained on data with fingerprint b; .* now has a"):
        run_folder.claim(other, card)
    assert run_folder.claim(other, {"fingerprint": "b"}) == folder


@pytest.mark.parametrize("name", ["SIGINT", "SIGUSR1"])
def test_a_signal_saves_and_says_where(
    name: str, config: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    original = sources.Prepared.batches

    def batches(self: sources.Prepared, *given: Any) -> Iterator[tuple[int, Any]]:
        for step, batch in original(self, *given):
            if step == 2:
                signal.raise_signal(getattr(signal, name))
            yield step, batch

    monkeypatch.setattr(sources.Prepared, "batches", batches)
    stopped = train.train(config)
    assert (stopped.step, stopped.finished, stopped.preempted) == (3, False, name == "SIGUSR1")
    assert checkpoint.latest(stopped.folder / "checkpoints") == 3
    assert f"stopped after step 3 of 10; saved in {stopped.folder}" in capsys.readouterr().out
    assert {s: signal.getsignal(s) for s in before} == before


@pytest.mark.parametrize(
    ("finished", "preempted", "code"), [(False, True, 75), (False, False, None), (True, True, None)]
)
def test_schedulers_are_asked_to_start_it_again(
    finished: bool,
    preempted: bool,
    code: int | None,
    config: Train,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    stopped = train.Trained(tmp_path, 3, finished, state=None, preempted=preempted)  # type: ignore[arg-type]
    monkeypatch.setattr(train_program, "train", lambda _: stopped)
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as left:
        train_program.main(config)
    assert left is None or left.value.code == code


def test_a_folder_in_use_is_refused(config: Train) -> None:
    """A lock that was left behind is none: it ends with its process."""
    with locks.held(Path(config.run.workdir)) as mine:
        assert mine
        with pytest.raises(
            UserError, match="another training is at work in .*run; wait for it, stop it, or use another"
        ):
            train.train(config)
    assert checkpoint.steps(Path(config.run.workdir) / "checkpoints") == []


def test_a_loss_that_is_not_finite_stops_before_it_is_saved(
    config: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps 3 to 4 go wrong, nothing is logged there, and the checkpoint due at 4 must not be written."""
    original = train.parallel.mapped_step

    def broken_step(*given: Any) -> Any:
        step = original(*given)

        def broken(state: Any, batch: Any, rng: Any) -> Any:
            number = int(np.asarray(state.step))
            state, report = step(state, batch, rng)
            return state, {**report, "loss": report["loss"] * (np.nan if number >= 2 else 1.0)}

        return broken

    monkeypatch.setattr(train.parallel, "mapped_step", broken_step)
    with refused("1", "4", "--learning_rate", "--clip_norm"):
        train.train(options.replace(config, log_every=100))
    assert checkpoint.steps(Path(config.run.workdir) / "checkpoints") == []
    assert [record["step"] for record in metric_log.read(config.run.workdir)] == [1]
    # Nothing is lost: the same folder takes other settings, and its log begins anew.
    monkeypatch.undo()
    assert train.train(options.replace(config, seed=1, stop_after=2)).step == 2
    assert [record["step"] for record in metric_log.read(config.run.workdir)] == [1, 2]
    # Not without a word: what it said before is kept.
    assert "left no checkpoint; its log is kept as metrics.jsonl.before1" in capsys.readouterr().out
    kept = (Path(config.run.workdir) / "metrics.jsonl.before1").read_text().splitlines()
    assert [json.loads(line)["step"] for line in kept] == [1]
    assert json.loads((Path(config.run.workdir) / "config.json").read_text())["run"]["seed"] == 1


def test_damage_and_collapse_are_said_once(config: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COLLAPSED", 1e9)
    original = sources.pipeline.Split.__getitem__

    def damaged(self: Any, index: int) -> dict[str, Any]:
        record = original(self, index)
        return {**record, "images": [b""] * 4} if index % 3 == 0 else record

    monkeypatch.setattr(sources.pipeline.Split, "__getitem__", damaged)
    with pytest.warns(UserWarning) as said:
        trained = train.train(options.replace(config, steps=4))
    assert trained.finished
    texts = sorted(str(warning.message) for warning in said)
    assert len(texts) == 2
    assert texts[0].startswith("damaged records are masked: record ")
    assert "collapsed to one point" in texts[1] and "--temperature_start" in texts[1]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"labelled": "S9"}, ValueError, "--labelled names subject 'S9'; the training split has S1, S2"),
        ({"labelled": "S1:2"}, ValueError, r"the fraction '2'; expected a number in \(0, 1\]"),
        ({"method": "baseline", "labelled": "none"}, ValueError, "--labelled=none names nobody"),
        ({"blocks": 4000}, ValueError, "is larger than the training split of"),
        ({"labelled_batch": 4000}, ValueError, "--labelled_batch=4000 is larger than"),
        ({"labelled_batch": 6}, ValueError, "--labelled_batch is 6; expected a multiple of the 4 devices"),
        (
            {"devices": 5},
            ValueError,
            "5 devices were asked for, but there are 4 here; choose 1 to 4, or 0 for all",
        ),
        (
            {"parallel": "jit"},
            ValueError,
            "--parallel=jit is for one device, and there are 4; set --devices=1",
        ),
        ({"dataset": "synthetic_multiview/demo"}, ValueError, "python -m launch.prepare --dataset="),
        (
            {"validation_split": "nobody", "validate_every": 5},
            ValueError,
            "set --validation_split, or leave it empty",
        ),
        ({"stem": "conv", "width": 0}, ValueError, "--width=0; expected at least 1"),
        (
            {"stream": True, "labelled": "S6"},
            ValueError,
            "names subject 'S6'; the training split has S1, S2, S3, S4, S5",
        ),
        ({"stream": True, "labelled": "S1,S1"}, ValueError, "--labelled names subject 'S1' twice"),
    ],
)
def test_bad_settings_leave_nothing_behind(
    config: Train, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train.train(options.replace(config, **changes))
    assert not Path(config.run.workdir).exists()


def test_a_network_that_cannot_be_made_leaves_nothing_behind(config: Train) -> None:
    odd = options.replace(config, stream=True, labelled="none", stream_size=36)
    with refused("36", "8"):
        train.train(odd)
    assert not Path(config.run.workdir).exists()


def test_an_unwritable_folder(config: Train, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory|File exists"):
        train.train(options.replace(config, workdir=str(tmp_path / "file" / "run")))


def test_what_a_finished_run_says(
    straight: train.Trained,
    config: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(straight.folder, tmp_path / "run")
    written: list[bool] = []
    original = run_folder.write_text

    def write_text(path: Path, text: str) -> None:
        with locks.held(path.parent) as free:
            written.append(path.name == "finished.json" and not free)
        original(path, text)

    monkeypatch.setattr(run_folder, "write_text", write_text)
    train_program.main(config)
    assert written[-1], "while the folder is still locked"
    assert json.loads((tmp_path / "run" / "finished.json").read_text()) == {"step": 10}
    assert f"finished 10 steps; the run is in {tmp_path / 'run'}" in capsys.readouterr().out


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
    }
    return subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_bad_flags_end_with_one_sentence_and_exit_code_one() -> None:
    actual = command(sys.executable, "-m", "launch.train", "--setps=3")
    assert actual.returncode == 1 and actual.stdout == ""
    assert actual.stderr.startswith("train: error: Unknown command line flag 'setps'")
    assert len(actual.stderr.strip().splitlines()) == 1


def test_a_stream_trains_without_tfds_and_touches_no_data_folder(tmp_path: Path) -> None:
    code = f"""
import sys
from launch.cli.options import build
from launch.runs.settings import Train
from launch.training import train
from mcss_jax.networks import resnet
resnet.STAGES[18] = (1, 1)
done = train.train(build(Train,
    stream=True, stream_size=16, labelled="none", blocks=1, sequences=1, instants=2, width=8,
    embedding_dim=8, hidden=8, stem="patch8", steps=2, validate_every=0, data_dir="{tmp_path}/data",
    workdir="{tmp_path}/run",
))
assert done.finished and done.step == 2
print(sorted({{"tensorflow", "tensorflow_datasets", "array_record"}} & set(sys.modules)))
"""
    actual = command(sys.executable, "-c", code)
    assert actual.returncode == 0, actual.stderr[-2000:]
    assert actual.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "data").exists() and (tmp_path / "run" / "checkpoints" / "2").is_dir()
