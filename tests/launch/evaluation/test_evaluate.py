"""Figures by action, sequence and activity against plain loops; what an evaluation takes in and writes."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.tuples import pipeline
from launch import evaluate as evaluate_program
from launch.cli import options
from launch.evaluation import evaluate, inference, protocols
from launch.runs import run_folder, settings
from launch.training import train
from mcss_jax.errors import UserError
from tests.datasets.tuples.test_pipeline import Records
from tests.mcss_jax.steps import two_blocks

# The official groups of 3DPCK, by the test set's own joint order counted from 1; the pelvis is number 15.
GROUPS = {
    "Head": [1], "Neck": [2], "Shoulder": [3, 6], "Elbow": [4, 7], "Wrist": [5, 8], "Hip": [9, 12], "Knee": [10, 13],
    "Ankle": [11, 14],
}  # fmt: skip
# Where each joint of the test set's order lies in Human3.6M's 17 (docs/data_formats.md#mpi-inf-3dhp-joints).
TO_17 = [10, 8, 14, 15, 16, 11, 12, 13, 1, 2, 3, 4, 5, 6, 0, 7, 9]


def official(pred: np.ndarray, true: np.ndarray) -> tuple[float, float, float]:
    """(3DPCK, AUC, MPJPE) of n frames: by joint group, then weighted by group size."""
    pred, true = pred[:, TO_17].astype(np.float64), true[:, TO_17].astype(np.float64)
    errors = np.zeros((len(pred), 17))
    for n in range(len(pred)):
        for j in range(17):
            errors[n, j] = np.sqrt((((pred[n, j] - pred[n, 14]) - (true[n, j] - true[n, 14])) ** 2).sum())

    def weighted(threshold: float) -> float:
        total = 0.0
        for joints in GROUPS.values():
            hits = [errors[n, j - 1] < threshold for n in range(len(pred)) for j in joints]
            total += len(joints) * sum(hits) / len(hits)
        return 100 * total / sum(map(len, GROUPS.values()))

    thresholds = range(0, 151, 5)
    assert len(thresholds) == 31
    return weighted(150), sum(map(weighted, thresholds)) / 31, float(errors.mean())


def views_of(pred: np.ndarray, true: np.ndarray, record: list[int], sequence: list[int]) -> inference.Views:
    n = len(pred)
    canonical = [np.asarray(inference.canonical_of(p.astype(np.float32))) for p in (pred, true)]
    return inference.Views(
        np.asarray(record), np.zeros(n, int), np.asarray(sequence), np.zeros(n), np.zeros((n, 2), np.float32),
        canonical[0], pred.astype(np.float32), canonical[1], true.astype(np.float32),
    )  # fmt: skip


def test_the_official_figures_by_loops() -> None:
    """Two sequences of unequal length: the total pools their frames, as weighting by valid frames does."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(9, 17, 3)) * 300
    pred = true + rng.normal(size=(9, 17, 3)) * rng.uniform(10, 150, (9, 1, 1))
    sequence = [0, 0, 0, 0, 0, 0, 0, 1, 1]
    activity = np.asarray(["Sports", "Sitting", "Sports"] * 3)
    labels = {"sequence": np.asarray(["TS1", "TS2"])[sequence], "activity": activity}
    figures, groups = evaluate._figures(views_of(pred, true, list(range(9)), sequence), labels)
    keys = ("pck_150mm", "auc", "mpjpe")
    assert [figures[key] for key in keys] == pytest.approx(official(pred, true), rel=1e-5)
    assert not [key for key in figures if key.endswith("action_mean")], "sequences are not actions"
    for kind, of_view in labels.items():
        assert sum(row["views"] for row in groups[kind].values()) == 9
        for label in np.unique(of_view):
            chosen = of_view == label
            expected = official(pred[chosen], true[chosen])
            assert [groups[kind][label][key] for key in keys] == pytest.approx(expected, rel=1e-5)
            assert groups[kind][label]["views"] == chosen.sum()
    by_hand = (7 * groups["sequence"]["TS1"]["pck_150mm"] + 2 * groups["sequence"]["TS2"]["pck_150mm"]) / 9
    assert figures["pck_150mm"] == pytest.approx(by_hand)


def test_150_mm_is_a_miss_and_a_perfect_pose_has_no_full_area() -> None:
    true = np.zeros((1, 17, 3))
    true[0, :, 1] = np.arange(17) * 50
    off = true.copy()
    off[0, 10, 0] += 150  # the head's top
    for pred, missed in ((off, 1), (true, 0)):
        expected = official(pred, true)
        figures, _ = evaluate._figures(views_of(pred, true, [0], [0]), {"action": np.asarray(["x"])})
        assert (figures["pck_150mm"], figures["auc"]) == pytest.approx(expected[:2], abs=1e-4)
        assert figures["pck_150mm"] == pytest.approx(100 * (14 - missed) / 14, abs=1e-4)
    assert figures["auc"] == pytest.approx(100 * 30 / 31, abs=1e-4)


def test_the_mean_of_actions_is_not_the_mean_of_views() -> None:
    true = np.random.default_rng(1).normal(size=(4, 17, 3)) * 300
    pred = true.copy()
    pred[:3, 1:, 2] += 10
    pred[3:, 1:, 2] += 50
    labels = {"action": np.asarray(["walk", "walk", "walk", "sit"])}
    figures, groups = evaluate._figures(views_of(pred, true, [0, 1, 2, 3], [0, 0, 0, 1]), labels)
    share = 16 / 17
    assert figures["mpjpe"] == pytest.approx(share * (3 * 10 + 50) / 4, rel=1e-4)
    assert figures["mpjpe_action_mean"] == pytest.approx(share * (10 + 50) / 2, rel=1e-4)
    assert list(groups["action"]) == ["walk", "sit"]
    assert groups["action"]["sit"]["mpjpe"] == pytest.approx(share * 50, rel=1e-4)
    text = evaluate.table({"a": figures, "b": figures})
    assert text.count("MPJPE, camera frame (mm)") == 4, "two metrics, two means"
    assert text.index("Mean over all views") < text.index("Mean of the actions' means")
    one, _ = evaluate._figures(views_of(pred, true, [0] * 4, [0] * 4), {"action": np.asarray(["walk"] * 4)})
    assert "Mean of the actions' means" not in evaluate.table({"a": one})


@pytest.fixture(scope="module")
def run(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of one step with a small network: what is judged need not be good."""
    folder = tmp_path_factory.mktemp("evaluated") / "mcss"
    with two_blocks():
        train.train(options.build(settings.Train, 
            dataset="synthetic_multiview/tiny", data_dir=str(prepared_tiny), workdir=str(folder), steps=1, width=8,
            stem="patch8", hidden=16, embedding_dim=8, blocks=2, sequences=1, instants=2, labelled_batch=4,
            validate_every=0, log_every=1,
        ))  # fmt: skip
        yield folder


@pytest.fixture(scope="module")
def opened(run: Path) -> run_folder.Run:
    return run_folder.open_run(run)


@pytest.fixture
def split(opened: run_folder.Run) -> pipeline.Split:
    return evaluate.open_data(opened, "", "", "test")


def altered(split: pipeline.Split, changes: dict[int, Any], **fields: Any) -> pipeline.Split:
    return dataclasses.replace(
        split, source=Records(split.source, changes), cache={}, cached_bytes=0, **fields
    )


def test_frames_that_are_not_valid_are_neither_decoded_nor_counted(
    opened: run_folder.Run, split: pipeline.Split
) -> None:
    """As in MPI-INF-3DHP's test set: single views, marked frames, activities; what is not valid may be damaged."""
    junk = {"images": [b"x"] * 4, "pose": np.full((4, 17, 3), np.nan, np.float32)}
    single = np.asarray([True, False, False, False])
    changes = {
        i: {"valid_frame": i % 5 == 0, "activity": b"Sports" if i < 20 else b"Sitting", "view_valid": single}
        | ({} if i % 5 == 0 else junk)
        for i in range(48)
    }
    rows = tuple(dataclasses.replace(row, has_pose=False) for row in split.table)
    marked = altered(split, changes, table=rows, name="mpi_inf_3dhp/vnect_fps10/1.0.0:test")
    result = evaluate.evaluate(opened, marked, protocols.choose(marked), batch=8)
    assert result.views.record.tolist() == list(range(0, 48, 5))
    pck, auc, mpjpe = official(result.views.in_camera, result.views.true_in_camera)
    assert (result.figures["pck_150mm"], result.figures["auc"]) == pytest.approx(
        (pck, auc), rel=1e-4, abs=1e-4
    )
    assert result.figures["mpjpe"] == pytest.approx(mpjpe, rel=1e-5)
    assert {label: row["views"] for label, row in result.groups["activity"].items()} == {
        "Sports": 4,
        "Sitting": 6,
    }
    assert len(result.groups["sequence"]) == 8 and "action" not in result.groups
    assert result.card["instants"] == 10 and result.card["frames"].endswith("marks as valid")
    assert result.card["joint mapping"].startswith(
        "nominal: trained on synthetic_multiview, evaluated on mpi_inf"
    )
    assert "3DPCK" in evaluate.group_table("activity", result.groups["activity"])


def test_nothing_valid_is_told(opened: run_folder.Run, split: pipeline.Split) -> None:
    none = altered(split, {i: {"valid_frame": False} for i in range(48)})
    with pytest.raises(UserError, match="has no valid view among the chosen records and cameras"):
        evaluate.evaluate(opened, none, protocols.choose(none))


def test_poses_are_needed_where_they_are_evaluated(opened: run_folder.Run, split: pipeline.Split) -> None:
    """A damaged take without poses may be dropped; a kept one may not lack them."""
    rows = (dataclasses.replace(split.table[0], has_pose=False, defect="no poses"), *split.table[1:])
    partly = altered(split, {}, table=rows)
    with pytest.raises(
        UserError, match="has instants without poses; it can be retrieved from, but not evaluated"
    ):
        evaluate.evaluate(opened, partly, protocols.choose(partly))
    result = evaluate.evaluate(opened, partly, protocols.choose(partly, damaged="drop", stride=6))
    assert len(result.views) == 7 * 4
    assert result.card["damaged takes"] == f"1 left out: {protocols.sequence_name(rows[0])} (no poses)"
    unmarked = {i: {"valid_frame": True, "pose": np.full((4, 17, 3), np.nan, np.float32)} for i in range(6)}
    with pytest.raises(UserError, match="the split has no true poses to compare with"):
        lying = altered(split, unmarked, table=rows)
        evaluate.evaluate(opened, lying, protocols.choose(lying, stride=6))


def test_other_choices_are_other_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_program.main(
        evaluate.Evaluate(workdir=str(run), every=3, cameras="camera2,camera0", damaged="drop")
    )
    said = capsys.readouterr().out
    content = json.loads((run / "evaluation_test_every3_undamaged_camera2-camera0.json").read_text())
    card = content["protocol"]
    assert card["cameras"] == ["camera0", "camera2"] and card["views"] == 2 * card["instants"] == 2 * 8 * 2
    assert (
        card["frames"] == "every frame whose number is a multiple of 3"
        and card["damaged takes"] == "none known"
    )
    assert {"figures", "mean_pose", "by_action", "protocol"} == set(content)
    assert set(content["by_action"]["sitting"]) == {"views", *evaluate.NAMES}
    assert set(content["figures"]) == {key + end for key in evaluate.NAMES for end in ("", "_action_mean")}
    assert f"{content['figures']['n_mpjpe_action_mean']:.1f}" in said and "protocol 1" not in said.lower()


def test_another_data_set_is_said_aloud(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = run_folder.open_run

    def elsewhere(*given: Any) -> run_folder.Run:
        actual = original(*given)
        card = {**actual.card, "dataset": "human36m/fps10/1.0.0:train", "boxes": "joints"}
        config = options.replace(actual.config, dataset="human36m/fps10")
        return dataclasses.replace(actual, card=card, config=config)

    monkeypatch.setattr(run_folder, "open_run", elsewhere)
    evaluate_program.main(evaluate.Evaluate(workdir=str(run), dataset="synthetic_multiview/tiny", stride=12))
    said = capsys.readouterr().out
    assert said.startswith("joint mapping: nominal: trained on human36m, evaluated on synthetic_multiview;")
    content = json.loads((run / "evaluation_test_synthetic_multiview-tiny_stride12.json").read_text())
    assert content["protocol"]["joint mapping"].startswith("nominal")
    assert content["protocol"]["uses labels of unlabelled people for boxes"].startswith("yes: their joints")
