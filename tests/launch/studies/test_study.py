"""The course of a study, with training and judging that take no time: killed, failing, interrupted, refused."""

import contextlib
import dataclasses
import json
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from datasets.tuples import pipeline
from launch import study as study_program
from launch.cli import options
from launch.runs import provenance, run_folder
from launch.runs.settings import Train
from launch.studies import judge as study_judge
from launch.studies import results as study_results
from launch.studies import runs as study_runs
from launch.studies import study
from launch.studies.study import Study
from launch.training import train
from mcss_jax.errors import UserError
from tests.launch.small_studies import BASE, lines, study_in
from tests.refusals import refused


class Faked:
    """Training and judging that take no time: what is called for is remembered, and can be made to fail."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.trained: list[str] = []
        self.judged: list[str] = []
        self.before: Callable[[str], object] = lambda name: None

    def train(self, config: Train) -> train.Trained:
        folder = run_folder.claim(config, {"fingerprint": self.fingerprint})
        self.before(folder.name)
        self.trained.append(folder.name)
        return train.Trained(folder, config.optimiser.steps, True, None)  # type: ignore[arg-type]

    def open_judge(self, config: Train, protocol: study_judge.Protocol) -> study_judge.Judge:
        def judge(run: Any) -> dict[str, Any]:
            self.judged.append(run.folder.name)
            return {"pa_mpjpe": 80.0, "mean_pose_pa_mpjpe": 100.0}

        return judge


@pytest.fixture
def faked(prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Faked:
    split = pipeline.open_split(str(prepared_tiny), "synthetic_multiview/tiny", "train")
    faked = Faked(split.fingerprint)
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
    study.study(options.replace(config, judge="none"))
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
            raise UserError("the loss became\n non-finite")
        if name == NAMES[2]:
            raise MemoryError("out of memory")

    faked.before = failing
    study.study(config)
    actual = list(lines(config).values())
    assert [line["status"] for line in actual] == ["finished", "failed", "failed", "finished"]
    assert actual[1]["error"] == "the loss became non-finite"
    assert actual[2]["error"] == "MemoryError: out of memory"
    said, shown = capsys.readouterr()
    assert (
        "mcss, labels S1:0.5, seed 0: the loss became non-finite" in said and "2 of 4 runs finished" in said
    )
    # What is no sentence is shown in full: it may be a defect.
    assert shown.count("Traceback (most recent call last):") == 1 and "MemoryError: out of memory" in shown
    with refused("--judge=test", "2", "4"):
        study.study(options.replace(config, judge="test"))
    study_program.main(options.replace(config, dry_run=True))
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
        lambda c: (
            original(c)
            if not c.run.workdir.endswith(NAMES[1])
            else dataclasses.replace(original(c), finished=False, stopped=True)
        ),
    )
    study_program.main(config)
    assert faked.trained == NAMES[:2] and statuses(config) == ["finished", *["unfinished"] * 3]
    assert "stopped in run 2 of 4; the same command goes on from there" in capsys.readouterr().out
    note = Path(config.workdir) / "runs" / NAMES[1] / study_runs.TRAINING
    before = json.loads(note.read_text())
    before["calls"][0]["seconds"] = 1000.0
    note.write_text(json.dumps(before))
    monkeypatch.setattr(study_runs.train, "train", original)
    study.study(config)
    assert faked.trained == [*NAMES[:2], *NAMES[1:]]
    assert lines(config)["mcss", "S1:0.5", 0]["wall_seconds"] > 1000, "both calls count"


def test_a_signal_during_the_last_update_stops_the_study_too(
    faked: Faked, config: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = faked.train
    monkeypatch.setattr(
        study_runs.train, "train", lambda c: dataclasses.replace(original(c), stopped=True, preempted=True)
    )
    with pytest.raises(SystemExit) as left:
        study_program.main(config)
    assert left.value.code == 75, "to be started again"
    assert faked.trained == NAMES[:1] and not faked.judged
    monkeypatch.setattr(study_runs.train, "train", original)
    study_program.main(config)
    assert faked.trained == NAMES and statuses(config) == ["finished"] * 4


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, None), (signal.SIGTERM, 75)])
def test_a_signal_during_judging_lets_it_finish(
    sent: signal.Signals, code: int | None, faked: Faked, config: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_judge(*_: Any) -> study_judge.Judge:
        def judge(run: Any) -> dict[str, Any]:
            signal.raise_signal(sent)
            return {"pa_mpjpe": 80.0}

        return judge

    monkeypatch.setattr(study_judge, "open_judge", open_judge)
    handler = signal.getsignal(sent)
    with pytest.raises(SystemExit) if code else contextlib.nullcontext() as left:
        study_program.main(options.replace(config))
    assert left is None or left.value.code == code
    assert statuses(config) == ["finished", *["unfinished"] * 3] and signal.getsignal(sent) is handler
    last = options.replace(config, methods="baseline", seeds="1")
    study_program.main(last)  # nothing is left: nothing to be started again


def test_what_a_killed_call_worked_on_is_noted(
    faked: Faked, config: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Power that fails ends no call in good order: its seconds are not known, and nobody adds up the rest."""
    config = options.replace(config, methods="baseline", seeds="0")
    written = study_runs._write
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "revision", lambda: "first")
        patch.setattr(
            study_runs, "_write", lambda *a: None if a[2][-1]["seconds"] is not None else written(*a)
        )
        faked.before = lambda name: (_ for _ in ()).throw(SystemExit(9))
        with pytest.raises(SystemExit):
            study.study(config)
    faked.before = lambda name: None
    monkeypatch.setattr(provenance, "revision", lambda: "second")
    study.study(config)
    [line] = lines(config).values()
    assert line["status"] == "finished" and line["wall_seconds"] is None
    assert line["revision"] == ["first", "second"] and line["hardware"] == provenance.hardware()


def test_a_call_that_fails_is_noted_with_its_seconds(faked: Faked, config: Study) -> None:
    config = options.replace(config, methods="baseline", seeds="0")
    faked.before = lambda name: (_ for _ in ()).throw(ValueError("no"))
    with pytest.raises(
        SystemExit, match="study: error: 1 runs failed, see above; the same command tries them"
    ):
        study_program.main(config)
    note = json.loads((Path(config.workdir) / "runs" / NAMES[0] / study_runs.TRAINING).read_text())
    assert note["finished"] is False and [call["seconds"] >= 0 for call in note["calls"]] == [True]


def test_the_note_of_an_older_study_is_read(faked: Faked, config: Study) -> None:
    study.study(options.replace(config, judge="none"))
    for name in NAMES:
        note = Path(config.workdir) / "runs" / name / study_runs.TRAINING
        note.write_text(
            json.dumps({"finished": True, "seconds": 64.7, "hardware": {"cores": 2}, "revision": "old"})
        )
    study.study(config)
    assert faked.trained == NAMES
    for line in lines(config).values():
        assert (line["wall_seconds"], line["hardware"], line["revision"]) == (64.7, {"cores": 2}, "old")


def test_the_test_waits_for_every_grid_of_the_folder(faked: Faked, config: Study) -> None:
    small = options.replace(config, methods="mcss", seeds="0", judge="test")
    faked.before = lambda name: (_ for _ in ()).throw(SystemExit(9)) if name == NAMES[2] else None
    with pytest.raises(SystemExit):
        study.study(config)
    with refused("results_validation.jsonl", "2", "1"):
        study.study(small)
    # A run that was trained for nobody to judge is finished.
    faked.before = lambda name: None
    study.study(options.replace(config, judge="none", seeds="1"))
    study.study(small)
    assert [line["status"] for line in lines(config, "test").values()] == ["finished"]


def test_a_set_that_was_prepared_anew_is_refused(faked: Faked, config: Study) -> None:
    study.study(options.replace(config, judge="none"))
    card = Path(config.workdir) / "runs" / NAMES[3] / run_folder.CARD
    card.write_text(json.dumps({"fingerprint": "before"}))
    with refused("S1:0.5", "1"):
        study.study(config)
    assert not faked.judged


def test_devices_are_counted_as_in_training(
    config: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study.parallel, "choose_devices", lambda count: [None] * (count or 8))
    runs = study.planned(config)
    with refused("--labelled_batch", "4", "8"):
        study.check_data(runs)
    (tmp_path / "base.flags").write_text(BASE + "--devices=2\n")
    study.check_data(study.planned(config))


def test_the_summary_is_of_what_all_processes_found(
    faked: Faked, config: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process puts the last line between this one's last look at the file and its summary."""
    config = options.replace(config, seeds="0")
    original = study.do_what_is_left
    late = []

    def without_the_last(runs: Any, results: Any, *others: Any) -> bool:
        stopped = original(runs[:1], results, *others)
        elsewhere = study_results.Results(results.file)
        late.append(elsewhere)
        original(runs[1:], elsewhere, *others)
        return stopped

    monkeypatch.setattr(study, "do_what_is_left", without_the_last)
    study.study(config)
    folder = Path(config.workdir)
    assert late and json.loads((folder / "summary_validation.json").read_text())["finished"] == 2
    assert not list(folder.glob("*.new"))


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
        study.study(options.replace(config, base=str(tmp_path / "base.flags"), **changes))
    assert not Path(config.workdir).exists()
