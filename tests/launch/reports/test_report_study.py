"""A study on the page of launch.report: its figures, what is missing, its protocol and its commands."""

import html
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from absl import flags as absl_flags

from launch import report as report_program
from launch.cli import flags, options
from launch.reports import report
from launch.studies import results, study
from mcss_jax.errors import UserError
from tests.launch.pages import Reader
from tests.launch.small_studies import JUDGED, REPORTED


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about a study alone."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "results_test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in REPORTED))
    report_program.main(report.Report(study=str(folder), output=str(folder / "page.html")))
    return folder / "page.html"


def test_a_study_with_what_is_missing_in_it(written: Path) -> None:
    text = written.read_text()
    reader = Reader(text)
    assert "2 of 8 runs have no figures, and are in no mean" in text
    assert "mcss, labels S1, seed 2: the loss &lt;b&gt;became&lt;/b&gt; odd" in text
    assert "baseline, labels S1, seed 0: unfinished" in text
    assert reader.row("S1:0.05", "mcss") == ["mcss", "75.6 ± 5.1", "64.1 ± 4.3 (2 of 3)"]
    assert reader.row("S1:0.05", "baseline") == ["baseline", "94.5 ± 6.4", "none (0 of 1)"]
    gains = next(table for table in reader.tables if table[1:] and table[1][1].startswith("20.0"))
    assert gains[1] == ["mcss", "20.0 ± 0.0", "none (0 of 3)"]
    assert "6 of 8 runs finished; judged on people:test; people S7, S8; revision abc123." in text


def test_its_commands_make_the_same_study(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = re.findall(r"<pre><code>(.*?)</code>", written.read_text(), flags=re.DOTALL)
    base, *grids = (html.unescape(text) for text in actual if "launch.study" in text or "base.flags" in text)
    monkeypatch.chdir(tmp_path)
    subprocess.run(base, shell=True, check=True)  # noqa: S602 - what the page tells to run
    runs = {}
    for text in grids:
        values = absl_flags.FlagValues()
        flags.define(study.Study, values)
        values(shlex.split(text.replace("\\\n", ""))[2:])
        config = flags.parsed(study.Study, values)
        assert (config.judge, config.every, config.stride, config.damaged) == tuple(JUDGED.values())
        runs.update({run.key: run for run in study.planned(config)})
    assert runs.keys() == {results.key_of(line) for line in REPORTED}
    for line in REPORTED:
        if line["status"] == "finished":
            config = runs[results.key_of(line)].config
            assert not options.differences(config, line["configuration"])
            assert config.run.workdir.startswith("runs/a b/runs/")


def test_a_study_has_a_protocol(written: Path) -> None:
    reader = Reader(written.read_text())
    said = dict(row for table in reader.tables for row in table if table[0] == ["", "value"])
    assert (said["--judge"], said["--stride"], said["--damaged"]) == ("test", "5", "keep")
    assert (
        said["people"] == "S7, S8"
        and said["training time"] == "1.50 h of 6 runs"
        and said["margin"] == "0.25"
    )


def test_a_study_alone(written: Path, tmp_path: Path) -> None:
    file = written.parent / "results_test.jsonl"
    report_program.main(report.Report(study=str(file), output=str(tmp_path / "study.html")))
    page = Reader((tmp_path / "study.html").read_text())
    assert not page.open and page.row("S1:0.05", "mcss")[1] == "75.6 ± 5.1"
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (
            "nowhere",
            "--study=nowhere is neither a result file nor a folder with results_test.jsonl",
        ),
        ("unfinished.jsonl", "has no finished run, of 2; run python -m launch.study to its end"),
        (
            "unjudged",
            "results_none.jsonl is of runs that nobody has judged; run python -m launch.study with",
        ),
        (
            "unjudged/results_none.jsonl",
            "results_none.jsonl is of runs that nobody has judged; run python",
        ),
        ("mixed.jsonl", "under other settings than those of mcss, labels S1:0.05, seed 0; use the same"),
    ],
)
def test_studies_that_cannot_be_shown(named: str, said: str, tmp_path: Path) -> None:
    def put(name: str, *lines: results.Line) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))

    put("unfinished.jsonl", *REPORTED[-2:])
    put("unjudged/results_none.jsonl", {n: v for n, v in REPORTED[0].items() if "mpjpe" not in n})
    put("mixed.jsonl", REPORTED[0], REPORTED[2] | {"judged": JUDGED | {"stride": 1}})
    path = named if named == "nowhere" else str(tmp_path / named)
    with pytest.raises(UserError, match=re.escape(said)):
        report_program.main(report.Report(study=path, output=str(tmp_path / "never.html")))
    assert not (tmp_path / "never.html").exists()
