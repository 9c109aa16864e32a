"""The result file and what is made of it, against figures worked out by hand."""

import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from launch.cli import options
from launch.runs import locks
from launch.runs.settings import Train
from launch.studies import figures as study_figures
from launch.studies import results as study_results
from launch.studies import summary
from launch.studies.plan import Grid, PlannedRun, plan
from launch.studies.results import Results
from mcss_jax.errors import UserError
from tests.refusals import refused

JUDGED = {"judge": "validation", "every": 0, "stride": 1, "damaged": "keep"}
RUNS = plan(
    options.build(Train, labelled_batch=8), "study", [Grid(("baseline", "mcss"), ("S1", "all"), (0, 1, 2))]
)
FIGURES = {
    ("baseline", "S1"): (90.0, 92.0, 94.0),
    ("mcss", "S1"): (72.0, 69.0, None),
    ("baseline", "all"): (60.0, 62.0, 61.0),
    ("mcss", "all"): (None, None, None),
}


def line_of(run: PlannedRun) -> dict[str, Any]:
    value = FIGURES[run.method, run.labelled][run.seed]
    if value is None:
        return (
            study_results.failed(run, "the loss became non-finite")
            if run.labelled == "S1"
            else study_results.unfinished(run)
        )
    figures = {
        "pa_mpjpe": value,
        "mpjpe": 2 * value,
        "n_mpjpe": 1.5 * value,
        "mean_pose_pa_mpjpe": 120.0 + run.seed,
        "mean_pose_mpjpe": 240.0,
        "mean_pose_n_mpjpe": 200.0,
    }
    return study_results.finished(
        run, figures, {"judged": JUDGED, "configuration": options.values(run.config)}
    )


LINES = [line_of(run) for run in RUNS]


def test_a_file_holds_one_line_a_run(tmp_path: Path) -> None:
    results = Results(tmp_path / "study" / "results.jsonl")
    results.put(*results.lines_of(RUNS))
    assert {line["status"] for line in study_results.read(results.file)} == {"unfinished"}
    for line in reversed(LINES):
        results.put(line)
        assert len(study_results.read(results.file)) == len(RUNS)
    again = Results(results.file)
    assert again.lines_of(RUNS) == LINES
    assert {path.name for path in again.file.parent.iterdir()} == {again.file.name, locks.NAME}
    assert [run.key for run in RUNS if again.finished(run)] == [
        study_results.key_of(line) for line in LINES if "pa_mpjpe" in line
    ]
    assert again.others(RUNS) == 0 and again.others(RUNS[2:]) == 2


def test_a_file_that_cannot_be_written_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.put(LINES[0])
    before = results.file.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left on device"):
        results.put(LINES[1])
    assert results.file.read_bytes() == before and not results.finished(RUNS[1])


@pytest.mark.parametrize(
    "text",
    [
        '{"method": "mcss", "label',
        "",
        "[]",
        "7",
        json.dumps({"method": "mcss", "labelled": "S1", "seed": 0}),
        json.dumps({"method": "mcss", "labelled": "S1", "seed": "0", "status": "finished"}),
        json.dumps({"method": "mcss", "labelled": 1, "seed": 0, "status": "finished"}),
        json.dumps({"method": "mcss", "labelled": "S1", "seed": 0, "status": "done"}),
        json.dumps({"method": "mcss", "labelled": "S1", "seed": 0, "status": []}),
        json.dumps({"method": "mcss", "labelled": "S1", "seed": 0, "status": "failed"}),
        json.dumps({name: value for name, value in LINES[0].items() if name != "configuration"}),
        json.dumps({name: value for name, value in LINES[0].items() if name != "judged"}),
        json.dumps(LINES[0] | {"judged": "validation"}),
        json.dumps(LINES[0] | {"mpjpe": "91"}),
        json.dumps(LINES[0] | {"mean_pose_pa_mpjpe": [91]}),
        json.dumps(LINES[0] | {"wall_seconds": True}),
    ],
)
def test_a_damaged_line_is_named(text: str, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    good = [json.dumps(line) for line in LINES[:2]]
    file.write_text("\n".join([*good, text, "{}"]) + "\n")
    with refused("results.jsonl", "3", "JSON"):
        Results(file)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with refused("results.jsonl", "launch.study"):
        study_results.read(file)
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(UserError, match="line 1: not a result"):
        study_results.read(file)
    file.write_text("".join(json.dumps(line) + "\n" for line in (LINES[0], LINES[1], LINES[0])))
    with refused("3", "S1", "0", "1"):
        study_results.read(file)


def test_figures_under_other_settings_are_refused(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.put(*LINES)
    results.check(RUNS, JUDGED)
    other = plan(
        options.build(Train, labelled_batch=8, margin=0.4), "study", [Grid(("baseline",), ("S1",), (0,))]
    )
    with refused("S1", "0", "--margin", "0.5", "0.4"):
        results.check(other, JUDGED)
    with refused("--stride", "1", "5"):
        results.check(RUNS, JUDGED | {"stride": 5})


def test_figures_of_other_runs_under_other_settings_are_refused(tmp_path: Path) -> None:
    """The runs have no line in common, and yet would be paired with each other."""
    results = Results(tmp_path / "results.jsonl")
    results.put(*(line for line in LINES if line["method"] == "baseline"))

    def of(method: str, **changes: Any) -> tuple[PlannedRun, ...]:
        return plan(
            options.build(Train, labelled_batch=8, **changes), "study", [Grid((method,), ("S1",), (7,))]
        )

    results.check(of("mcss", data_dir="elsewhere", log_every=7), JUDGED)
    results.check(of("no_temporal_rule"), JUDGED)  # differs in what makes it this method
    for changes, told in (({"steps": 9000}, "--steps: 1000 before, 9000 now"),
                          ({"min_negative_gap": 0.2}, "--min_negative_gap: 0.5 before, 0.2 now")):  # fmt: skip
        with refused("S1", "0", "7", f"{told}"):
            results.check(of("mcss", **changes), JUDGED)
    # Two runs of a method agree in what it sets, too: it may have meant something else before.
    [now] = of("soft_mining")
    soft = study_results.finished(now, {}, {"judged": JUDGED, "configuration": options.values(now.config)})
    before = soft | {"seed": 8, "configuration": soft["configuration"] | {"temperature_end": 2.0}}
    with refused("--temperature_end", "soft_mining", "1.0", "2.0"):
        study_results.refuse_mixture(results.file, [soft, before])
    # Another process's line, seen when the file is written.
    [long] = of("mcss", steps=9000)
    told = {"judged": JUDGED, "configuration": options.values(long.config)}
    kept = results.file.read_bytes()
    with refused("--steps", "1000", "9000"):
        results.put(study_results.finished(long, {}, told))
    assert results.file.read_bytes() == kept
    # A setting that is younger than a line had its default.
    old = [
        line | {"configuration": {"stream": False, "labelled_batch": 8, "across_groups": False}}
        for line in LINES
        if "judged" in line
    ]
    study_results.refuse_mixture(results.file, [*old, *LINES])
    # ... which may have been another than today's.
    older = [line | {"configuration": {"stream": False, "labelled_batch": 8}} for line in old]
    with refused("--across_groups", "True", "False"):
        study_results.refuse_mixture(results.file, [*older, *LINES])


@pytest.mark.parametrize("stream", [False, True])
def test_figures_of_other_data_are_refused(stream: bool) -> None:
    """A stream has other people with each seed; a set has not."""
    run = plan(
        options.build(Train, labelled_batch=8, stream=stream),
        "study",
        [Grid(("baseline", "mcss"), ("S1",), (0, 1))],
    )

    def line(run: PlannedRun, fingerprint: str) -> dict[str, Any]:
        about = {"judged": JUDGED, "configuration": options.values(run.config), "fingerprint": fingerprint}
        return study_results.finished(run, {}, about)

    other = [line(run[0], "a"), line(run[1], "b")]
    with refused("'a'", "'b'"):
        study_results.refuse_mixture(Path("x"), other)
    seeds = [line(run[0], "a"), line(run[1], "a"), line(run[2], "b"), line(run[3], "b")]
    with nullcontext() if stream else pytest.raises(UserError, match="fingerprint of the data: 'a' before"):
        study_results.refuse_mixture(Path("x"), seeds)


def test_lines_keep_the_order_of_the_grid(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.jsonl")
    results.plan(RUNS[2:4])  # a smaller grid came first
    results.put(LINES[3])
    results.plan(RUNS)
    assert [study_results.key_of(line) for line in study_results.read(results.file)] == [
        run.key for run in RUNS
    ]
    assert results.line(RUNS[3]) == LINES[3]
    results.plan(RUNS[4:])
    assert study_results.key_of(study_results.read(results.file)[-1]) == RUNS[3].key, "others stay, after it"


def test_spreads_by_hand() -> None:
    errors = summary.errors(LINES, "pa_mpjpe")
    assert list(errors) == ["mean pose", "baseline", "mcss"]
    spread = errors["baseline"]["S1"]
    assert (spread.mean, spread.sd) == (92.0, pytest.approx(2.0))
    assert errors["mean pose"]["S1"].mean == 121.0
    mcss = errors["mcss"]["S1"]
    assert (mcss.mean, mcss.sd, str(mcss)) == (70.5, pytest.approx(math.sqrt(4.5)), "70.5 ± 2.1 (2 of 3)")
    empty = errors["mcss"]["all"]
    assert (empty.mean, empty.sd, str(empty)) == (None, None, "none (0 of 3)")
    assert str(summary.Spread({0: 3.0}, 1)) == "3.0" and str(summary.Spread({}, 0)) == "-"


def test_gains_are_paired_by_seed() -> None:
    """The failed run's seed is in neither side: means alone would compare 70.5 with 92."""
    gains = summary.gains(LINES, "pa_mpjpe")
    assert list(gains) == ["mcss"]
    assert gains["mcss"]["S1"].values == {0: pytest.approx(20.0), 1: pytest.approx(25.0)}
    assert gains["mcss"]["S1"].mean == pytest.approx(22.5) and not gains["mcss"]["all"].values
    without = [line for line in LINES if line["method"] != "baseline"]
    assert summary.gains(without, "pa_mpjpe") == {}
    assert list(summary.errors(without, "pa_mpjpe")) == ["mcss"]
    # A baseline that is missing at a seed takes the pair with it.
    one = [line | {"status": "failed", "error": "x"} if line is LINES[0] else line for line in LINES]
    assert set(summary.gains(one, "pa_mpjpe")["mcss"]["S1"].values) == {1}


def test_what_is_missing_is_said() -> None:
    text = summary.text(LINES)
    assert "8 of 12 runs finished" in text
    assert "without figures, and in no mean:" in text
    assert "mcss, labels S1, seed 2: the loss became non-finite" in text
    assert text.count("unfinished") == 3
    row = next(line for line in text.splitlines() if line.startswith("mcss"))
    assert row.split() == ["mcss", "70.5", "±", "2.1", "(2", "of", "3)", "none", "(0", "of", "3)"]
    whole = [line for line in LINES if line["method"] == "baseline"]
    assert "without figures" not in summary.text(whole)
    assert summary.text([study_results.unfinished(run) for run in RUNS]).startswith("0 of 12 runs finished")


def test_the_summary_as_json() -> None:
    actual = json.loads(json.dumps(summary.content(LINES)))
    assert (actual["runs"], actual["finished"], len(actual["without_figures"])) == (12, 8, 4)
    assert actual["errors"]["pa_mpjpe"]["mcss"]["S1"] == {
        "mean": 70.5,
        "sd": pytest.approx(math.sqrt(4.5)),
        "planned": 3,
        "by_seed": {"0": 72.0, "1": 69.0},
    }
    assert actual["gains_percent"]["mpjpe"]["mcss"]["S1"]["mean"] == pytest.approx(22.5)
    assert actual["errors"]["mpjpe"]["mcss"]["all"]["mean"] is None


def test_the_curve_shows_means_and_spreads() -> None:
    figure = study_figures.curve(LINES)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["S1", "all"]
    drawn = {container.get_label(): container for container in ax.containers}
    assert set(drawn) == {"mean pose", "baseline", "mcss"}
    line, _, (bars,) = drawn["baseline"].lines  # type: ignore[attr-defined]
    assert line.get_ydata().tolist() == [92.0, 61.0]
    lengths = [segment[1, 1] - segment[0, 1] for segment in bars.get_segments()]
    assert lengths == [pytest.approx(4.0), pytest.approx(2.0)]
    assert len(drawn["mcss"].lines[0].get_ydata()) == 1, "a cell without figures is no point"  # type: ignore[attr-defined]
    assert ax.get_title() == "8 of 12 runs finished"
    assert ax.get_legend() is None and len(figure.legends) == 1, "outside the axes"
    nothing = study_figures.curve([study_results.unfinished(run) for run in RUNS])
    assert not nothing.axes[0].containers and not nothing.legends
    assert list(study_figures.drawn(LINES)) == ["error"]


def test_ablations_stand_beside_what_they_are_compared_with() -> None:
    """At the same labels and seeds: the baseline's seeds 1 and 2 are no part of the comparison with seed 0."""
    runs = plan(
        options.build(Train, labelled_batch=8), "study", [Grid(("batchnorm", "soft_mining"), ("S1",), (0,))]
    )
    about = {"judged": JUDGED, "configuration": {"stream": False}}
    lines = [
        *LINES,
        study_results.finished(runs[0], {"pa_mpjpe": 85.0}, about),
        study_results.unfinished(runs[1]),
    ]
    drawn = study_figures.drawn(lines)
    assert list(drawn) == ["error", "ablations"]
    assert {c.get_label() for c in drawn["error"].axes[0].containers} == {"mean pose", "baseline", "mcss"}
    ax = drawn["ablations"].axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["baseline", "mcss", "batchnorm", "soft_mining"]
    points = [container.lines[0].get_xydata()[0].tolist() for container in ax.containers]  # type: ignore[attr-defined]
    assert points == [[90.0, 0.0], [72.0, 1.0], [85.0, 2.0]], "one that is not finished is no point"
    assert [text.get_text() for text in ax.texts] == ["90.0", "72.0", "85.0"]
    assert "labels S1, seed 0" in drawn["ablations"].get_suptitle()
    # At two amounts marks tell these apart.
    other = study_results.finished(runs[0], {"pa_mpjpe": 60.0}, about) | {"labelled": "all"}
    third = [line | {"labelled": "half"} for line in LINES if line["labelled"] == "S1"]
    figure = study_figures.ablations([*lines, other, *third])
    assert figure is not None
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["S1", "all"]


def test_methods_may_differ_in_settings_of_their_own_and_in_nothing_else(tmp_path: Path) -> None:
    """A baseline that is tuned on its own stands beside mcss; two of its runs agree in what its file sets."""
    base = options.build(Train, labelled_batch=8)
    own = {"baseline": {"augment_colour": 0.9}}
    grid = Grid(("baseline", "mcss"), ("S1",), (0, 1))

    def lines(of: Any, base: Train = base) -> list[Any]:
        return [
            study_results.finished(run, {}, {"judged": JUDGED, "configuration": options.values(run.config)})
            for run in plan(base, "study", [grid], of)
        ]

    whole = lines(own)
    assert [line.get("settings") for line in whole] == [["augment_colour"], None] * 2
    study_results.refuse_mixture(tmp_path, whole)
    with refused("--augment_colour of baseline", "0.9", "0.8"):
        study_results.refuse_mixture(tmp_path, [whole[0], lines({"baseline": {"augment_colour": 0.8}})[2]])
    with refused("--steps", "1000", "9000"):
        study_results.refuse_mixture(tmp_path, [whole[0], lines(own, options.replace(base, steps=9000))[1]])
    # What auto came to is of the data; a line that is planned says nothing of it.
    resolved = [line | {"configuration": line["configuration"] | {"blocks": 3}} for line in whole]
    study_results.refuse_mixture(tmp_path, [*whole, *resolved])
