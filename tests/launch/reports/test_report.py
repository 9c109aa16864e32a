"""launch.report on two small trained runs and a study: what is on the page, and how a browser shows it."""

import dataclasses
import html
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from absl import flags as absl_flags

from launch import demo
from launch import report as report_program
from launch.cli import flags, options
from launch.evaluation import evaluate, protocols
from launch.reports import comparison, demo_card, pictures, report
from launch.retrieval import protocol
from launch.runs import run_folder, settings
from launch.training import train
from mcss_jax.errors import UserError
from tests.launch import browser
from tests.launch.pages import Reader
from tests.launch.small_studies import REPORTED
from tests.mcss_jax.steps import two_blocks
from tests.refusals import refused


@pytest.fixture(scope="module")
def runs(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Folders of a run of labels alone and of MCSS: one run, said to be both."""
    folder = Path(shutil.copytree(trained_run, tmp_path_factory.mktemp("compared") / "labels"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"method": "baseline", "workdir": "a b/labels"}))
    with two_blocks():
        yield folder, trained_run


@pytest.fixture(scope="module")
def written(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about both runs and a study."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "results_test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in REPORTED))
    output = folder / "out" / "page.html"
    report_program.main(report.Report(runs=",".join(map(str, runs)), study=str(folder), output=str(output)))
    return output


@pytest.fixture(scope="module")
def reader(written: Path) -> Reader:
    return Reader(written.read_text())


def test_it_is_one_file_that_loads_and_runs_nothing(written: Path, reader: Reader) -> None:
    assert not reader.open  # every element is closed
    loads = [(tag, value) for tag, name, value in reader.attributes if name in ("src", "href", "xlink:href")]
    assert {tag for tag, _ in loads} == {"a", "use", "img", "link"}
    assert all(value.startswith("#" if tag in ("a", "use") else "data:") for tag, value in loads)
    assert not any(tag in ("script", "iframe", "object") for tag, _, _ in reader.attributes)
    text = written.read_text()
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    ids = [value for _, name, value in reader.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for _, value in loads:
        assert not value.startswith("#") or value[1:] in ids


def test_everything_has_a_text_beside_it(reader: Reader) -> None:
    images = [value for tag, name, value in reader.attributes if (tag, name) == ("img", "alt")]
    figures = [value for tag, name, value in reader.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(images) == sum(tag == "img" and name == "src" for tag, name, _ in reader.attributes) and all(
        images
    )
    assert len(figures) == sum(tag == "svg" and name == "role" for tag, name, _ in reader.attributes)
    for start in (
        "Bars of",
        "PA-MPJPE (mm) against label amount",
        "Lines of",
        "Distance of",
        "Distances along",
    ):
        assert any(text.startswith(start) for text in figures), start
    assert sum(text.startswith("Skeletons of") for text in figures) == 6 + 2 * 3


def test_no_colour_is_left_as_it_was_drawn(written: Path) -> None:
    drawn = re.findall(r"<svg.*?</svg>", written.read_text(), flags=re.DOTALL)
    assert len(drawn) > 10
    assert not [actual for svg in drawn for actual in re.findall(r"(?:fill|stroke): #\w+", svg)]


def test_the_figures_are_those_of_the_evaluation(
    reader: Reader, runs: tuple[Path, Path], written: Path
) -> None:
    opened = run_folder.open_run(runs[1])
    split = evaluate.open_data(opened, "", "", "test")
    result = evaluate.evaluate(opened, split, protocols.choose(split))
    row = result.groups["action"]["kicking"]
    expected = [f"{row[key]:.1f}" for key in ("mpjpe", "n_mpjpe", "pa_mpjpe") for _ in range(2)]
    assert reader.row("PA-MPJPE mcss", "kicking") == ["kicking", "24", *expected]
    assert reader.row("AUC, 0 to 150 mm (%)", "mcss")[3] == f"{result.figures['pa_mpjpe']:.1f}"
    results = json.loads((written.parent / "results.json").read_text())
    assert list(results) == ["mean_pose", "baseline", "mcss", "oracle", "chance"]
    assert results["mcss"] == results["baseline"]  # the same weights
    assert results["mcss"]["pa_mpjpe"] == pytest.approx(result.figures["pa_mpjpe"])
    assert results["mean_pose"] == result.mean_pose
    actual = reader.row("PA-MPJPE@1", "oracle")
    assert actual[1] == f"{results['oracle']['retrieval_pa_mpjpe_at_1']:.1f}"
    assert float(actual[1]) < float(reader.row("PA-MPJPE@1", "mcss")[1])


def test_the_headline_compares(written: Path) -> None:
    said = re.search(r'<p class="gain">.*?</p>', written.read_text())
    assert said and "(0 % lower than the baseline)" in said.group()


def test_right_and_wrong_are_told_by_more_than_a_colour(written: Path) -> None:
    shown = re.findall(
        r'<figure class="(right|wrong)"><img alt="(\w+), (\d+) mm.*?<figcaption>(.) (\d+)<',
        written.read_text(),
    )
    assert {(kind, said, mark) for kind, said, _, mark, _ in shown} == {
        ("right", "right", "✓"),
        ("wrong", "wrong", "✗"),
    }
    assert all(a == b for _, _, a, _, b in shown)
    right = [int(error) for kind, _, error, _, _ in shown if kind == "right"]
    wrong = [int(error) for kind, _, error, _, _ in shown if kind == "wrong"]
    assert np.median(right) < 50 < np.median(wrong)
    # Six queries one an action, and three that each run does worst on; two runs and the oracle, five views each.
    assert len(shown) == (6 + 2 * 3) * 3 * 5


def test_its_commands_make_the_same_runs(written: Path, runs: tuple[Path, Path]) -> None:
    actual = re.findall(r"<pre><code>(.*?)</code>", written.read_text(), flags=re.DOTALL)
    commands = [shlex.split(html.unescape(text).replace("\\\n", "")) for text in actual]
    assert [command[2] for command in commands if command[0] == "python"] == [
        *["launch.train"] * 2,
        *["launch.study"] * (len(commands) - 4),
        "launch.report",
    ]
    for command, folder in zip(commands, runs, strict=False):
        values = absl_flags.FlagValues()
        flags.define(settings.Train, values)
        values(command[2:])
        assert flags.parsed(settings.Train, values) == options.stored(
            settings.Train, run_folder.read_json(folder / "config.json"), "x"
        )
    assert f"--runs={','.join(map(str, runs))}" in commands[-1]


def test_the_demo_writes_its_report(
    runs: tuple[Path, Path], prepared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of the demo but its training."""

    def trained(config: settings.Train) -> train.Trained:
        shutil.copytree(runs[demo.METHODS.index(config.method)], config.run.workdir)
        return train.Trained(Path(config.run.workdir), 3, True, run_folder.open_run(config.run.workdir).state)

    for method in demo.METHODS:
        lines = f"--dataset=synthetic_multiview/tiny\n--method={method}\n"
        (tmp_path / f"sessions_{method}.flags").write_text(lines)
    monkeypatch.setattr(demo, "EXPERIMENTS", tmp_path)
    monkeypatch.setattr(train, "train", trained)
    monkeypatch.setattr(pictures, "TYPICAL", 1)
    monkeypatch.setattr(pictures, "WORST", 1)
    page = demo.demo(demo.Demo(output=str(tmp_path / "out"), data_dir=str(prepared_tiny), seed=4))
    results = json.loads((page.parent / "results.json").read_text())
    assert results["seed"] == 4 and 0 < results["seconds"] < 600
    assert {"baseline", "mcss", "mean_pose", "oracle", "chance"} < results.keys()
    card = " ".join((page.parent / "mcss" / demo_card.FILE).read_text().split())
    pa = [results[name]["pa_mpjpe"] for name in ("mcss", "mean_pose")]
    assert (
        f"| PA-MPJPE (mm) | {pa[0]:.1f} | {pa[1]:.1f} |" in card
        and "(S7)" in card
        and "seed 0, 3 updates" in card
    )
    assert "python -m launch.demo \\\n" in page.read_text() and "<title>MCSS demo</title>" in page.read_text()


def test_names_are_short_and_distinct(runs: tuple[Path, Path]) -> None:
    first, second = (run_folder.open_run(folder) for folder in runs)
    assert comparison.names_of([first, second], ["x/a", "y/a"]) == ["baseline", "mcss"]
    assert comparison.names_of([first, first], ["x/a", "y/b"]) == ["a", "b"]
    assert comparison.names_of([first, first], ["x/a", "y/a"]) == ["x/a", "y/a"]
    assert comparison.names_of([first, first], ["x/oracle", "y/b"]) == ["x/oracle", "y/b"]
    with pytest.raises(
        UserError, match="--runs=x/a,x/a; expected different folders, none of them called chance, "
    ):
        comparison.names_of([first, first], ["x/a", "x/a"])


def test_people_of_one_name_are_not_always_one_person(runs: tuple[Path, Path]) -> None:
    """Another data set's, another seed's and a stream's are not those of the split."""
    run = run_folder.open_run(runs[1])
    split = evaluate.open_data(run, "", "", "train")
    for other in (
        dataclasses.replace(run, card=run.card | {"dataset": "human36m/sessions/1.0.0:train"}),
        dataclasses.replace(run, card=run.card | {"specification": run.card["specification"] | {"seed": 99}}),
        dataclasses.replace(run, config=options.replace(run.config, stream=True)),
    ):
        comparison.check_unseen("run", other, split)
    other = dataclasses.replace(run, card=run.card | {"dataset": "synthetic_multiview/demo/1.0.0:train"})
    for labelled, unlabelled in ((["S1"], []), ([], ["S1"])):
        card = other.card | {"labelled_subjects": labelled, "unlabelled_subjects": unlabelled}
        with refused("S1", "--split"):
            comparison.check_unseen("run", dataclasses.replace(other, card=card), split)


def test_k_beyond_the_gallery_is_left_out_and_said(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "KS", (1, 20, 500, 900))
    compared = comparison.compare([str(runs[1])], "", "", "test")
    assert list(compared.retrieval["mcss"]) == ["pa_mpjpe@1", "pa_mpjpe@20", "hit@1", "hit@20"]
    assert compared.retrieval["mcss"].keys() == compared.retrieval["chance"].keys()
    assert re.fullmatch(
        r"0 of [\d,]+ lists of a query in a camera hold fewer than 20 views; K = 500, 900 left out: a camera has fewer "
        "views",
        compared.lists,
    )


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "--runs is missing; name the folders"),
        ({"runs": "RUN", "dataset": "nothing"}, "launch.prepare --dataset=nothing"),
        ({"runs": "nowhere"}, "nowhere is not the folder of a run"),
        ({"runs": "RUN,LARGE"}, "was trained on pictures of 128 px"),
        ({"runs": "RUN", "split": "train"}, "was trained on S1, S2, who are in synthetic_multiview/tiny/"),
    ],
)
def test_bad_input(config: dict[str, Any], said: str, runs: tuple[Path, Path], tmp_path: Path) -> None:
    names = {"RUN": str(runs[1])}
    if "LARGE" in config.get("runs", ""):
        names["LARGE"] = str(shutil.copytree(runs[0], tmp_path / "large"))
        card = json.loads((tmp_path / "large" / "card.json").read_text())
        (tmp_path / "large" / "card.json").write_text(json.dumps(card | {"image_size": 128}))
    for name, path in names.items():
        config = {key: value.replace(name, path) for key, value in config.items()}
    with pytest.raises(UserError, match=re.escape(said)):
        report_program.main(report.Report(**config, output=str(tmp_path / "never.html")))
    assert not (tmp_path / "never.html").exists()


# Contrast of every text to the page under it (WCAG 2.2), and how far the page is wider than its screen.
_CONTRAST = """(() => {
  const luminance = colour => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const texts = [...document.querySelectorAll('svg text, p, li, a, h1, h2, h3, h4, th, td, figcaption')];
  return texts.map(element => {
    const style = getComputedStyle(element);
    const ink = luminance(element.tagName === 'text' ? style.fill : style.color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
})()"""
_EXCESS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_BROKEN = "[...document.images].filter(image => !(image.complete && image.naturalWidth > 0)).length"
_DRAWN = "[...document.querySelectorAll('svg')].map(svg => svg.getBBox()).map(box => Math.min(box.width, box.height))"
_DARK = "matchMedia('(prefers-color-scheme: dark)').matches"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.mark.browser
@pytest.mark.parametrize(
    ("width", "scheme"), [(360, "light"), (360, "dark"), (1200, "light"), (1200, "dark")]
)
def test_a_browser_shows_it(written: Path, chromium: browser.Page, width: int, scheme: str) -> None:
    chromium.events.clear()
    chromium.shape(width, scheme)
    chromium.open(written)
    assert chromium.complaints() == []
    assert {url for url in chromium.requests() if not url.startswith("data:")} == {written.resolve().as_uri()}
    assert chromium.value("document.images.length") > 100 and chromium.value(_BROKEN) == 0
    boxes = chromium.value(_DRAWN)
    assert len(boxes) > 15 and min(boxes) > 50
    assert chromium.value("innerWidth") == width and chromium.value(_EXCESS) == 0
    assert chromium.value(_DARK) == (scheme == "dark")
    contrasts = chromium.value(_CONTRAST)
    assert len(contrasts) > 300 and min(contrasts) >= 4.5
    paper = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if scheme == "dark" else "rgb(255, 255, 255)")


@pytest.mark.browser
def test_it_is_light_on_paper(written: Path, chromium: browser.Page) -> None:
    chromium.shape(1200, "dark")
    chromium.open(written)
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.call("Emulation.setEmulatedMedia", media="print", features=features)
    assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert min(chromium.value(_CONTRAST)) >= 4.5
    chromium.call("Emulation.setEmulatedMedia", media="", features=[])
    printed = chromium.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 100_000


@pytest.mark.browser
def test_the_browser_tells_a_bad_page(chromium: browser.Page, tmp_path: Path) -> None:
    """The tests above pass where the browser sees nothing."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<meta name="viewport" content="width=device-width"><body style="background:#fff"><img src="none.png">'
        '<p style="width:900px;color:#aaa">wide and pale</p><script>nothing.there()</script>'
    )
    chromium.events.clear()
    chromium.shape(360)
    chromium.open(bad)
    complaints = " ".join(chromium.complaints())
    assert "nothing is not defined" in complaints and "ERR_FILE_NOT_FOUND" in complaints
    assert any(url.endswith("none.png") for url in chromium.requests())
    assert chromium.value(_BROKEN) == 1 and min(chromium.value(_CONTRAST)) < 3
    assert chromium.value("document.documentElement.scrollWidth") > 900
    with pytest.raises(RuntimeError, match="elsewhere is not defined"):
        chromium.value("elsewhere")
    with pytest.raises(RuntimeError, match=r"Page\.nothing: .*wasn't found"):
        chromium.call("Page.nothing")
