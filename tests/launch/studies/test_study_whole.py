"""A small study that is really trained, judged on whom it says, on a prepared set and on a stream."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from datasets.synthetic_multiview import stream
from datasets.tuples import pipeline
from launch import study as study_program
from launch.cli import options
from launch.evaluation import evaluate, protocols
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.studies import judge as study_judge
from launch.studies import runs, study
from launch.studies.study import Study
from launch.training import streamed, train
from mcss_jax.storage import checkpoint
from tests.launch.small_studies import BASE, lines, study_in
from tests.mcss_jax.steps import poses, two_blocks
from tests.refusals import refused


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def finished(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study of two methods at one amount, trained and judged on validation people."""
    config = study_in(tmp_path_factory.mktemp("study"), prepared_tiny)
    study.study(config)
    return config


def copied(finished: Study, tmp_path: Path) -> Study:
    shutil.copytree(finished.workdir, tmp_path / "study")
    return options.replace(finished, workdir=str(tmp_path / "study"))


def test_a_line_holds_figures_and_what_they_depend_on(finished: Study) -> None:
    actual = lines(finished)
    assert list(actual) == [("baseline", "S1:0.5", 0), ("mcss", "S1:0.5", 0)]
    for (method, labelled, _), line in actual.items():
        folder = Path(finished.workdir) / "runs" / f"{method}_S1-0.5_seed0"
        run = run_folder.open_run(folder)
        assert run.step == 2 and line["status"] == "finished"
        split = evaluate.open_data(run, "", "", "validation")
        expected = evaluate.evaluate(run, split, protocols.choose(split, stride=12))
        for name, value in expected.figures.items():
            assert line[name] == pytest.approx(value, rel=1e-5), name
        for name in ("mpjpe", "n_mpjpe", "pa_mpjpe"):
            assert line[f"mean_pose_{name}"] == pytest.approx(expected.mean_pose[name], rel=1e-5)
        assert line["subjects"] == ["S6"] and line["views"] == 16 and line["retrieval_pa_mpjpe_at_1"] > 0
        assert line["configuration"] == options.values(run.config) and run.config.data.labelled == labelled
        assert line["fingerprint"] == split.fingerprint == run.card["fingerprint"]
        assert line["wall_seconds"] > 0 and line["hardware"]["platform"] == "cpu" and "revision" in line
    summary = json.loads((Path(finished.workdir) / "summary_validation.json").read_text())
    assert summary["finished"] == summary["runs"] == 2
    gain = summary["gains_percent"]["pa_mpjpe"]["mcss"]["S1:0.5"]["mean"]
    baseline, mcss = (line["pa_mpjpe"] for line in actual.values())
    assert gain == pytest.approx(100 * (baseline - mcss) / baseline)
    picture = (Path(finished.workdir) / "error_validation.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_a_finished_run_is_never_redone(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied(finished, tmp_path)
    # The folder of a run has its path in its settings, but a path decides no result.
    before = (tmp_path / "study" / "results_validation.jsonl").read_bytes()
    for module, name in ((train, "train"), (pipeline, "open_split"), (run_folder, "open_run")):
        monkeypatch.setattr(module, name, lambda *_: pytest.fail("nothing is left to do"))
    study_program.main(config)
    assert (tmp_path / "study" / "results_validation.jsonl").read_bytes() == before
    assert "2 of 2 runs finished" in capsys.readouterr().out
    study_program.main(options.replace(config, methods="mcss"))
    assert "1 runs more, which are not in this grid" in capsys.readouterr().out


def test_test_people_are_read_once_when_all_is_finished(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    original = pipeline.open_split

    def counted(data_dir: str, dataset: str, split: str, image_size: int = 0) -> pipeline.Split:
        opened.append(split)
        return original(data_dir, dataset, split, image_size)

    monkeypatch.setattr(pipeline, "open_split", counted)
    config = copied(finished, tmp_path)
    larger = options.replace(config, seeds="0,1", judge="test")
    with refused("2", "4", "1"):
        study.study(larger)
    assert not opened and not (tmp_path / "study" / "results_test.jsonl").exists()
    study.study(options.replace(config, judge="test"))
    assert "all 2 runs are finished: the test people are read now, once" in capsys.readouterr().out
    assert opened == ["train", "test"]
    assert {tuple(line["subjects"]) for line in lines(config, "test").values()} == {("S7",)}
    study.study(options.replace(config, judge="test"))
    assert opened == ["train", "test"]


def test_nothing_of_the_test_is_read_while_choices_are_made(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = tmp_path / "data"
    shutil.copytree(finished.data_dir, poisoned)
    shards = list(poisoned.rglob("*-test.array_record*"))
    assert shards, "the poison must meet something"
    for shard in shards:
        shard.write_bytes(b"poison")
    config = dataclasses.replace(
        finished, workdir=str(tmp_path / "study"), data_dir=str(poisoned), methods="baseline"
    )
    study.study(config)
    [clean], [line] = (
        [x[key] for key in x if key[0] == "baseline"] for x in (lines(finished), lines(config))
    )
    assert line["pa_mpjpe"] == clean["pa_mpjpe"]
    with pytest.raises(Exception):  # noqa: B017 - whatever a poisoned shard raises
        study.study(options.replace(config, judge="test"))


def test_a_damaged_last_checkpoint_is_not_replaced_by_an_older_one(finished: Study, tmp_path: Path) -> None:
    config = copied(finished, tmp_path)
    (tmp_path / "study" / "results_validation.jsonl").unlink()
    shutil.rmtree(tmp_path / "study" / "runs" / "mcss_S1-0.5_seed0" / "checkpoints" / "2")
    study.study(config)
    baseline, mcss = lines(config).values()
    assert baseline["status"] == "finished"
    assert mcss["status"] == "failed" and "holds no checkpoint of step 2" in mcss["error"]


def test_a_dry_run_touches_nothing(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copied(finished, tmp_path)
    half = tmp_path / "study" / "runs" / "baseline_S1-0.5_seed1" / "checkpoints"
    monkeypatch.setattr(checkpoint, "latest", lambda folder: 1 if folder == half else None)
    (tmp_path / "study" / "results_validation.jsonl").write_text(
        json.dumps(lines(finished)["mcss", "S1:0.5", 0]) + "\n"
    )
    before = sorted(tmp_path.rglob("*"))
    study_program.main(options.replace(config, seeds="0,1", dry_run=True, data_dir="nowhere"))
    assert capsys.readouterr().out.splitlines() == [
        "run 1 of 4: baseline, labels S1:0.5, seed 0: trained, not judged",
        "run 2 of 4: mcss, labels S1:0.5, seed 0: finished",
        "run 3 of 4: baseline, labels S1:0.5, seed 1: at step 1 of 2",
        "run 4 of 4: mcss, labels S1:0.5, seed 1: not started",
    ]
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_of_other_settings_are_refused(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs.train, "train", lambda *_: pytest.fail("trained"))
    config = copied(finished, tmp_path)
    other = tmp_path / "other.flags"
    other.write_text(BASE + "--margin=0.3\n")
    with refused("results_validation.jsonl", "--margin", "0.5", "0.3"):
        study.study(options.replace(config, base=str(other)))
    with refused("--stride", "12", "6"):
        study.study(options.replace(config, stride=6))
    (tmp_path / "study" / "results_validation.jsonl").unlink()
    with refused("--margin", "0.5", "0.3"):
        study.study(options.replace(config, base=str(other)))


def drawn_at_random(seed: int, moments: stream.Moments, config: stream.StreamConfig) -> stream.StreamBatch:
    """In the place of the renderer: noise, and poses of no person in particular."""
    rng = np.random.default_rng(seed)
    n, v, s = *moments.views.shape, config.size
    lens = np.tile(np.asarray([[1000, 0, 500], [0, 1000, 500], [0, 0, 1]], np.float32), (n, v, 1, 1))
    return stream.StreamBatch(
        images=rng.integers(0, 256, (n, v, s, s, 3)).astype(np.uint8), pose=poses(rng, n * v).reshape(n, v, 17, 3),
        intrinsics=lens, crop_intrinsics=lens, rotation=lens, translation=lens[..., 0], camera=moments.views,
        box=np.tile(np.asarray([400, 400, 600, 600], np.float32), (n, v, 1)), subject=moments.subject,
        action=moments.action, group=moments.group, sequence=moments.sequence, time=moments.time,
    )  # fmt: skip


def test_a_stream_is_judged_on_streamed_people(
    finished: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    original = streamed.judged_takes

    def recorded(run: Train, judge: streamed.Judge) -> streamed.Takes:
        asked.append(judge)
        return original(run, judge)

    monkeypatch.setattr(streamed, "judged_takes", recorded)
    monkeypatch.setattr(stream, "pictures_at", drawn_at_random)
    monkeypatch.setattr(
        streamed.Takes,
        "poses",
        lambda self, r: poses(np.random.default_rng(1), 4 * len(r)).reshape(-1, 4, 17, 3),
    )
    (tmp_path / "base.flags").write_text(BASE + "--stream\n--stream_size=64\n")
    config = dataclasses.replace(
        finished,
        base=str(tmp_path / "base.flags"),
        workdir=str(tmp_path / "study"),
        amounts="S1:0.01",
        seeds="0",
        methods="baseline",
        stride=800,
    )
    study.study(options.replace(config, data_dir="nowhere"))
    [line] = lines(config).values()
    assert line["status"] == "finished", line
    assert asked == ["validation"] and line["subjects"] == ["S6"] and line["views"] == 8 * 4
    assert np.isfinite([line["pa_mpjpe"], line["mean_pose_pa_mpjpe"], line["retrieval_hit_at_1"]]).all()
    assert line["split"] == "synthetic_multiview stream, 64 px: validation"
    study.study(options.replace(config, judge="test"))
    assert asked == ["validation", "test"]
    [line] = lines(config, "test").values()
    assert line["subjects"] == ["S7", "S8"] and line["views"] == 16 * 4


def test_one_camera_has_nothing_to_retrieve_from() -> None:
    views = SimpleNamespace(camera=np.zeros(3, int))
    assert study_judge.retrieved(views) == {}  # type: ignore[arg-type]
