"""The course of a study, with training and judging that take no time: killed, failing, interrupted, refused."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from launch import run_folder, study, study_judge, study_runs, train
from launch.settings import Train
from launch.study import Study
from tests.launch.studies import BASE, lines, study_in


class Faked:
    """Training and judging that take no time: what is called for is remembered, and can be made to fail."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.judged: list[str] = []
        self.before: Callable[[str], object] = lambda name: None

    def train(self, config: Train) -> train.Trained:
        folder = run_folder.claim(config, {"fingerprint": "f"})
        self.before(folder.name)
        self.trained.append(folder.name)
        return train.Trained(folder, config.steps, True, None)  # type: ignore[arg-type]

    def open_judge(self, config: Train, protocol: study_judge.Protocol) -> study_judge.Judge:
        def judge(run: Any) -> dict[str, Any]:
            self.judged.append(run.folder.name)
            return {"pa_mpjpe": 80.0, "mean_pose_pa_mpjpe": 100.0}

        return judge


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    faked = Faked()
    monkeypatch.setattr(study_runs.train, "train", faked.train)
    monkeypatch.setattr(study_judge, "open_judge", faked.open_judge)
    monkeypatch.setattr(run_folder, "open_run", lambda folder, step: SimpleNamespace(folder=folder))
    return faked


@pytest.fixture
def config(prepared_tiny: Path, tmp_path: Path) -> Study:
    return study_in(tmp_path, prepared_tiny, seeds="0,1")


NAMES = [f"{method}_S1-0.5_seed{seed}" for seed in (0, 1) for method in ("baseline", "mcss")]


def statuses(config: Study) -> list[str]:
    return [line["status"] for line in lines(config).values()]


def test_a_study_that_was_killed_goes_on(
    faked: Faked, config: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    def killed(name: str) -> None:
        if name == NAMES[2]:
            raise SystemExit(9)

    faked.before = killed
    with pytest.raises(SystemExit):
        study.study(config)
    # The file says by itself that runs are missing.
    assert statuses(config) == ["finished", "finished", "unfinished", "unfinished"]
    capsys.readouterr()
    faked.before = lambda name: None
    study.study(config)
    assert faked.trained == NAMES and faked.judged == NAMES, "each exactly once"
    assert statuses(config) == ["finished"] * 4
    said = capsys.readouterr().out
    assert "run 3 of 4: baseline, labels S1:0.5, seed 1" in said and "run 1 of 4" not in said


def test_processes_share_a_study(faked: Faked, config: Study, capsys: pytest.CaptureFixture[str]) -> None:
    def another_process(name: str) -> None:
        faked.before = lambda name: None
        study.study(config)
        assert faked.trained == NAMES[1:]
        assert statuses(config) == ["unfinished", "finished", "finished", "finished"]

    faked.before = another_process
    study.study(config)
    assert faked.trained == [*NAMES[1:], NAMES[0]] and sorted(faked.judged) == sorted(NAMES), (
        "each exactly once"
    )
    assert statuses(config) == ["finished"] * 4, "neither overwrites what the other found"
    said = capsys.readouterr().out
    assert "run 1 of 4: baseline, labels S1:0.5, seed 0: another process is at it" in said
    assert "4 of 4 runs finished" in said


def test_killed_between_training_and_judging_only_judges(faked: Faked, config: Study) -> None:
    study.study(dataclasses.replace(config, judge="none"))
    assert faked.trained == NAMES and not faked.judged
    assert [line["status"] for line in lines(config, "none").values()] == ["finished"] * 4
    assert not list(Path(config.workdir).glob("summary_*"))
    study.study(config)
    assert faked.trained == NAMES and faked.judged == NAMES


def test_a_failed_run_is_recorded_stops_no_other_and_is_tried_again(
    faked: Faked, config: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(name: str) -> None:
        if name == NAMES[1]:
            raise ValueError("the loss became\n non-finite")
        if name == NAMES[2]:
            raise MemoryError("out of memory")

    faked.before = failing
    study.study(config)
    found = list(lines(config).values())
    assert [line["status"] for line in found] == ["finished", "failed", "failed", "finished"]
    assert found[1]["error"] == "the loss became non-finite"
    assert found[2]["error"] == "MemoryError: out of memory"
    said = capsys.readouterr().out
    assert (
        "mcss, labels S1:0.5, seed 0: the loss became non-finite" in said and "2 of 4 runs finished" in said
    )
    with pytest.raises(
        ValueError, match="--judge=test reads the test people, .* but 2 of 4 runs are not finished"
    ):
        study.study(dataclasses.replace(config, judge="test"))
    study.main(dataclasses.replace(config, dry_run=True))
    listed = capsys.readouterr().out.splitlines()
    assert listed[0] == "run 1 of 4: baseline, labels S1:0.5, seed 0: finished"
    assert listed[1] == "run 2 of 4: mcss, labels S1:0.5, seed 0: failed: the loss became non-finite"
    faked.before = lambda name: None
    study.study(config)
    assert statuses(config) == ["finished"] * 4 and all(
        "error" not in line for line in lines(config).values()
    )
    assert sorted(faked.trained) == sorted(NAMES)


def test_an_interrupted_run_stops_the_study(
    faked: Faked, config: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = faked.train
    monkeypatch.setattr(
        study_runs.train,
        "train",
        lambda c: dataclasses.replace(original(c), finished=not c.workdir.endswith(NAMES[1])),
    )
    study.study(config)
    assert faked.trained == NAMES[:2] and statuses(config) == ["finished", *["unfinished"] * 3]
    assert "stopped in run 2 of 4; the same command goes on from there" in capsys.readouterr().out
    note = Path(config.workdir) / "runs" / NAMES[1] / study_runs.TRAINING
    before = json.loads(note.read_text())
    note.write_text(json.dumps(before | {"seconds": 1000.0}))
    monkeypatch.setattr(study_runs.train, "train", original)
    study.study(config)
    assert faked.trained == [*NAMES[:2], *NAMES[1:]]
    assert lines(config)["mcss", "S1:0.5", 0]["wall_seconds"] > 1000, "both calls count"


@pytest.mark.parametrize(
    ("changes", "flags", "told"),
    [
        ({"amounts": "S1 S9"}, "", "--labelled names subject 'S9'; the training split has S1, S2"),
        ({"amounts": "S1:2"}, "", "--labelled gives subject 'S1' the fraction '2'"),
        (
            {"amounts": "S1:0.001"},
            "--labelled_batch=8",
            "--labelled_batch=8 is larger than the 1 labelled instants",
        ),
        ({"data_dir": "nowhere"}, "", "is not prepared in nowhere"),
        (
            {},
            "--validation_split=",
            "--judge=validation needs people for it, but --base sets no --validation_split",
        ),
        ({}, "--validation_split=nobody", "has no split 'nobody'"),
        ({"stride": 0}, "", "--stride=0; expected at least 0 and at least 1"),
        ({"stride": 0}, "--stream", "--stride=0; expected at least 1"),
        ({"every": 5}, "--stream", "--every and --damaged have no meaning with --stream; use --stride"),
    ],
)
def test_what_no_run_can_be_made_of_is_said_before_the_first(
    changes: dict[str, Any],
    flags: str,
    told: str,
    config: Study,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(study_runs.train, "train", lambda *_: pytest.fail("trained"))
    (tmp_path / "base.flags").write_text(BASE + flags + "\n")
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        study.study(dataclasses.replace(config, base=str(tmp_path / "base.flags"), **changes))
    assert not Path(config.workdir).exists()


def test_what_is_compiled_is_kept_for_one_call() -> None:
    before = jax.config.jax_compilation_cache_dir
    with study.compiled_once():
        assert jax.config.jax_compilation_cache_dir == before, "the user's own folder"
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        with study.compiled_once():
            folder = jax.config.jax_compilation_cache_dir
            assert Path(folder).is_dir()
        assert jax.config.jax_compilation_cache_dir is None and not Path(folder).exists()
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
