"""evaluate, retrieve and report on one small trained run, and their figures against plain loops."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from launch import evaluate, inference, protocols, report, retrieve, run_folder, settings, train
from mcss_jax import metrics
from tests.mcss_jax.steps import two_blocks


@pytest.fixture(scope="module")
def run(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run of three steps with a small network: what is judged need not be good."""
    folder = tmp_path_factory.mktemp("judged") / "mcss"
    with two_blocks():
        config = settings.Train(
            dataset="synthetic_multiview/tiny", data_dir=str(prepared_tiny), workdir=str(folder), steps=3, width=8,
            stem="patch8", hidden=16, embedding_dim=8, blocks=2, sequences=1, instants=2, labelled_batch=4,
            validate_every=0, log_every=1,
        )  # fmt: skip
        train.train(config)
        yield folder


@pytest.fixture(scope="module")
def judged(run: Path) -> evaluate.Evaluated:
    opened = run_folder.open_run(run)
    split = evaluate.open_data(opened, "", "", "test")
    return evaluate.evaluate(opened, split, protocols.choose(split, stride=6))


def test_figures_are_means_over_every_view(judged: evaluate.Evaluated) -> None:
    views = judged.views
    assert len(views) == 8 * 4  # a record of each of the 8 sequences, four cameras
    errors = [
        np.linalg.norm((p - p[0]) - (t - t[0]), axis=-1).mean()
        for p, t in zip(views.in_camera, views.true_in_camera, strict=True)
    ]
    assert judged.figures["mpjpe"] == pytest.approx(np.mean(errors), rel=1e-5)
    assert judged.figures["pa_mpjpe"] <= judged.figures["n_mpjpe_canonical"] + 1e-3
    both = (metrics.pa_mpjpe(p, t) for p, t in ((views.in_camera, views.true_in_camera),
                                                (views.canonical, views.true_canonical)))  # fmt: skip
    np.testing.assert_allclose(*both, atol=0.05)  # a rotation changes no PA-MPJPE
    assert np.mean(list(judged.by_action.values())) == pytest.approx(judged.figures["pa_mpjpe"], rel=1e-5)
    assert judged.card["instants"] == 8 and judged.card["views"] == 32
    assert judged.card["cameras"] == [f"camera{v}" for v in range(4)]
    assert judged.card["uses labels of unlabelled people for boxes"] == (
        "the owners' ground-truth masks of them, in training and evaluation"
    )
    assert "joint mapping" not in judged.card and judged.card["label sampling"] == "uniform"


def test_the_mean_pose_knows_labelled_people_only(judged: evaluate.Evaluated, run: Path) -> None:
    state = run_folder.open_run(run).state
    constant = np.asarray(metrics.pa_mpjpe(
        np.broadcast_to(state.statistics.mean, judged.views.canonical.shape), judged.views.true_canonical
    ))  # fmt: skip
    assert judged.mean_pose["pa_mpjpe"] == pytest.approx(constant.mean(), rel=1e-5)
    assert judged.card["labelled subjects"] == ["S1"] and judged.card["subjects"] == ["S7"]


def test_retrieval_keeps_to_its_rule(judged: evaluate.Evaluated) -> None:
    views = judged.views
    rule = retrieve.rule_of(same_instant=False, min_gap=0.5)
    found = retrieve.by_features(views, views.embedding, rule, k=5)
    for query, row in enumerate(found):
        for index in row[row >= 0]:
            assert views.camera[index] != views.camera[query]
            assert views.record[index] != views.record[query]
    oracle, chance = retrieve.bounds(views, rule)
    mine = retrieve.scores(views, retrieve.by_features(views, views.embedding, rule))
    assert oracle["pa_mpjpe@1"] <= mine["pa_mpjpe@1"] and oracle["pa_mpjpe@1"] < chance["pa_mpjpe@1"]
    kept = retrieve.bounds(views, retrieve.rule_of(same_instant=True, min_gap=0.5))[0]
    assert kept["pa_mpjpe@1"] == pytest.approx(0, abs=1e-2)


def test_camera_pairs_average_to_pooled_when_the_cameras_agree(judged: evaluate.Evaluated) -> None:
    """A perfect feature (the record's number) retrieves the same instant whichever camera is asked."""
    views = judged.views
    feature = views.record[:, None].astype(np.float32)
    pairs = retrieve.by_camera_pair(views, feature, retrieve.rule_of(same_instant=True, min_gap=0.0))
    assert np.isnan(np.diag(pairs)).all()
    assert np.nanmax(pairs) < 1e-2


def _views(time: list[float], camera: list[int], sequence: list[int]) -> inference.Views:
    n = len(time)
    blank = np.zeros((n, 17, 3), np.float32)
    return inference.Views(
        np.arange(n), np.asarray(camera), np.asarray(sequence), np.asarray(time), np.zeros((n, 2), np.float32),
        blank, blank, blank, blank,
    )  # fmt: skip


def test_temporal_alignment_by_hand() -> None:
    views = _views([0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1], [0, 0, 0, 0])
    right = np.asarray([[0.0], [1.0], [0.0], [1.0]], np.float32)
    swapped = np.asarray([[0.0], [1.0], [1.0], [0.0]], np.float32)
    assert retrieve.alignment(views, right) == {"median_s": 0.0, "mean_s": 0.0}
    assert retrieve.alignment(views, swapped) == {"median_s": 1.0, "mean_s": 1.0}
    assert retrieve.alignment(views, None)["mean_s"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="at least two cameras"):
        retrieve.alignment(_views([0.0, 1.0], [0, 0], [0, 0]), right[:2])


def test_programs_write_what_they_print(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main(evaluate.Evaluate(workdir=str(run), stride=6))
    retrieve.main(retrieve.Retrieve(workdir=str(run), stride=6))
    said = capsys.readouterr().out
    figures = json.loads((run / "evaluation_test_stride6.json").read_text())
    assert f"{figures['figures']['mpjpe']:.1f}" in said and figures["protocol"]["boxes"] == "mask"
    assert "Mean over all views" in said and "Mean of the actions' means" in said
    walking = figures["by_action"]["walking"]
    line = next(line for line in said.splitlines() if line.startswith("walking"))
    assert line.split() == [
        "walking",
        "4",
        *(f"{walking[key]:.1f}" for key in ("mpjpe", "n_mpjpe", "pa_mpjpe")),
    ]
    rows = json.loads((run / "retrieval_test.json").read_text())["retrieval"]
    assert list(rows) == ["embedding", "regressed pose", "untrained", "oracle", "chance"]


def test_the_report_is_one_file_that_loads_nothing(run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "report.html"
    report.main(report.Report(runs=str(run), output=str(output), stride=3))
    text = output.read_text()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert text.count("data:image/png;base64,") == 7
    results = json.loads((output.parent / "results.json").read_text())
    assert {"mean_pose", "mcss", "oracle", "chance"} <= results.keys()
    assert {"mpjpe", "n_mpjpe", "pa_mpjpe", "retrieval_pa_mpjpe_at_1"} <= results["mcss"].keys()


@pytest.mark.parametrize(
    ("program", "config", "said"),
    [
        (evaluate, evaluate.Evaluate(), "--workdir is missing"),
        (retrieve, retrieve.Retrieve(), "--workdir is missing"),
        (report, report.Report(), "--runs is missing"),
        (evaluate, evaluate.Evaluate(workdir="RUN", split="nobody"), "has no split 'nobody'"),
        (
            evaluate,
            evaluate.Evaluate(workdir="RUN", stride=0),
            "--stride=0; expected at least 0 and at least 1",
        ),
        (evaluate, evaluate.Evaluate(workdir="RUN", batch=0), "--batch=0; expected at least 1"),
        (
            evaluate,
            evaluate.Evaluate(workdir="RUN", every=7, cameras="x"),
            "--cameras names 'x'; synthetic_multiview",
        ),
        (retrieve, retrieve.Retrieve(workdir="RUN", min_gap=-1.0), "at least 0"),
        (evaluate, evaluate.Evaluate(workdir="RUN", dataset="nothing"), "launch.prepare --dataset=nothing"),
    ],
)
def test_bad_input(program: object, config: object, said: str, run: Path) -> None:
    if getattr(config, "workdir", "") == "RUN":
        config = dataclasses.replace(config, workdir=str(run))  # type: ignore[type-var]
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)):
        program.main(config)  # type: ignore[attr-defined]
