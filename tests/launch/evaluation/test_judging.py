"""evaluate on one small trained run, and its figures against plain loops."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from launch import evaluate as evaluate_program
from launch.cli import options
from launch.evaluation import evaluate, protocols
from launch.runs import run_folder
from mcss_jax import metrics
from tests.mcss_jax.steps import two_blocks


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Iterator[Path]:
    """The folder of a run, to be opened."""
    with two_blocks():
        yield trained_run


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
    assert np.mean([row["pa_mpjpe"] for row in judged.groups["action"].values()]) == pytest.approx(
        judged.figures["pa_mpjpe"], rel=1e-5
    )
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


def test_the_program_writes_what_it_prints(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_program.main(evaluate.Evaluate(workdir=str(run), stride=6))
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


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (evaluate.Evaluate(), "--workdir is missing"),
        (evaluate.Evaluate(workdir="RUN", split="nobody"), "has no split 'nobody'"),
        (evaluate.Evaluate(workdir="RUN", stride=0), "--stride=0; expected at least 0 and at least 1"),
        (evaluate.Evaluate(workdir="RUN", batch=0), "--batch=0; expected at least 1"),
        (evaluate.Evaluate(workdir="RUN", every=7, cameras="x"), "--cameras names 'x'; synthetic_multiview"),
        (evaluate.Evaluate(workdir="RUN", dataset="nothing"), "launch.prepare --dataset=nothing"),
    ],
)
def test_bad_input(config: evaluate.Evaluate, said: str, run: Path) -> None:
    if config.workdir:
        config = options.replace(config, workdir=str(run))
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(said)):
        evaluate_program.main(config)
