"""What a study says of recordings without labels, and the lines of studies that are kept in the repository."""

from pathlib import Path
from typing import Any

import pytest

from launch.cli import options
from launch.runs.settings import Train
from launch.studies import figures as study_figures
from launch.studies import results as study_results
from launch.studies import summary
from tests.launch.studies.test_study_results import JUDGED, LINES, RUNS

# -------- what another recording without labels buys


def recorded(
    method: str, seed: int, people: int, minutes: float, error: float, unlabelled: str, **changes: Any
) -> dict[str, Any]:
    config = options.build(Train, labelled_batch=8, unlabelled=unlabelled, **changes)
    return {
        "method": method, "labelled": "S1", "seed": seed, "status": "finished", "judged": JUDGED, "pa_mpjpe": error,
        "configuration": options.values(config), "unlabelled_people": people, "unlabelled_minutes": minutes,
    }  # fmt: skip


RECORDED = [
    recorded("mcss", 0, 10, 16.0, 80.0, "all", blocks=4),
    recorded("mcss", 1, 10, 16.0, 82.0, "all", blocks=4),
    recorded("people1", 0, 1, 1.6, 100.0, "S1", blocks=1),
    recorded("people3", 0, 3, 4.8, 90.0, "S1,S2,S3"),
    recorded("half", 0, 10, 8.0, 84.0, "all:0.5"),
    # Of other settings, other labels or no figures: no part of the curve.
    recorded("infonce", 0, 10, 2.0, 50.0, "all", metric_loss="infonce"),
    recorded("mcss", 0, 10, 3.0, 60.0, "all") | {"labelled": "all"},
    study_results.unfinished(RUNS[0]),
]


def test_errors_by_what_was_recorded() -> None:
    amounts = summary.by_unlabelled(RECORDED, "pa_mpjpe")
    assert [(a.people, a.minutes, a.error.mean, a.whole) for a in amounts] == [
        (1, 1.6, 100.0, False),
        (3, 4.8, 90.0, False),
        (10, 8.0, 84.0, False),
        (10, 16.0, 81.0, True),
    ]
    assert summary.by_unlabelled(RECORDED[:2], "pa_mpjpe") == [] == summary.by_unlabelled(LINES, "pa_mpjpe")
    assert summary.by_unlabelled(RECORDED, "mpjpe") == []


def test_the_curve_over_recordings() -> None:
    figure = study_figures.drawn(RECORDED)["unlabelled"]
    ax = figure.axes[0]
    drawn = {c.get_label(): c.lines[0].get_xydata().tolist() for c in ax.containers}  # type: ignore[attr-defined]
    assert drawn == {
        "fewer people": [[1.6, 100.0], [4.8, 90.0], [16.0, 81.0]],
        "shorter recordings": [[8.0, 84.0], [16.0, 81.0]],
    }
    assert [text.get_text() for text in ax.texts] == ["1 person", "3 people", "10 people", "10 people"]
    assert "unlabelled" not in study_figures.drawn(RECORDED[:2])


# -------- lines that are kept in the repository


@pytest.mark.parametrize("judge", ["test", "validation"])
@pytest.mark.parametrize("study", ["sessions", "supervision_demo"])
def test_published_lines_can_be_read_beside_each_other(study: str, judge: str) -> None:
    file = Path(__file__).resolve().parents[3] / f"launch/experiments/results/{study}_{judge}.jsonl"
    lines = study_results.read(file)
    study_results.refuse_mixture(file, lines)
    assert {line["status"] for line in lines} == {"finished"}
    for method in ("baseline", "mcss"):
        cells = {(line["labelled"], line["seed"]) for line in lines if line["method"] == method}
        amounts = {labelled for labelled, _ in cells}
        assert {"S1:0.05", "S1:0.2", "S1", "S1,S5", "all"} <= amounts
        assert cells == {(labelled, seed) for labelled in amounts for seed in (0, 1, 2)}
    people = {tuple(line["subjects"]) for line in lines}
    assert len(people) == 1 and len({line["fingerprint"] for line in lines}) == 1
