"""What a report is made of: pairs of views, examples, charts, colours, HTML; against plain loops and by hand."""

import re
from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from launch.cli import options
from launch.evaluation.inference import Views
from launch.pages import figures, palette
from launch.pages import page as report_page
from launch.reports import pictures, view_pairs
from launch.reports import sections as report_sections
from launch.runs.settings import Train
from mcss_jax import skeleton


def views_of(record: list[int], camera: list[int], sequence: list[int]) -> Views:
    """Views of the given records; random embeddings and poses, a second between records."""
    rng = np.random.default_rng(0)
    n = len(record)
    poses = rng.normal(0, 200, (max(record) + 1, 17, 3)).astype(np.float32)[record]
    blank = np.zeros((n, 17, 3), np.float32)
    return Views(
        np.asarray(record), np.asarray(camera), np.asarray(sequence), np.asarray(record, np.float32),
        rng.normal(size=(n, 4)).astype(np.float32), blank, blank, poses, blank,
    )  # fmt: skip


# Three records seen by three cameras, one by a single camera; views in no order.
MIXED = views_of([2, 0, 1, 0, 3, 1, 2, 0, 1, 2], [1, 0, 2, 2, 1, 0, 0, 1, 1, 2], [0] * 10)


def test_pairs_are_of_different_cameras() -> None:
    pairs = view_pairs.sample(MIXED, 200)
    assert (MIXED.camera[pairs.a] != MIXED.camera[pairs.b]).all()
    np.testing.assert_array_equal(MIXED.record[pairs.a] == MIXED.record[pairs.b], pairs.same)
    actual = {frozenset(pair) for pair in zip(pairs.a.tolist(), pairs.b.tolist(), strict=True)}
    every = {
        frozenset((i, j))
        for i, j in combinations(range(10), 2)
        if MIXED.camera[i] != MIXED.camera[j] and MIXED.record[i] != MIXED.record[j]
    }
    different = {pair for pair in actual if len({int(MIXED.record[i]) for i in pair}) == 2}
    assert different == every  # 200 draws meet all of them
    together = pairs.a[pairs.same]
    assert sorted(MIXED.record[together]) == [0, 1, 2]  # one pair of each instant that several cameras see


def test_any_two_views_of_an_instant_are_a_pair() -> None:
    views = views_of([0] * 4, [2, 0, 3, 1], [0] * 4)
    drawn = [view_pairs.sample(views, 5, seed) for seed in range(60)]
    actual = {frozenset(views.camera[[pairs.a[0], pairs.b[0]]].tolist()) for pairs in drawn}
    assert actual == set(map(frozenset, combinations(range(4), 2)))
    assert all(len(pairs.a) == 1 and pairs.same[0] for pairs in drawn)


def test_pairs_are_few_and_the_same_every_time() -> None:
    pairs, again = view_pairs.sample(MIXED, 2), view_pairs.sample(MIXED, 2)
    assert pairs.same.sum() == 2 and 0 < (~pairs.same).sum() <= 2
    np.testing.assert_array_equal(pairs.a, again.a)
    alone = view_pairs.sample(views_of([0, 1], [0, 0], [0, 0]), 4)
    assert len(alone.a) == 0


def test_gaps_are_distances() -> None:
    a, b = np.asarray([0, 1]), np.asarray([6, 2])
    expected = [
        np.sqrt(((MIXED.embedding[i] - MIXED.embedding[j]) ** 2).sum()) for i, j in zip(a, b, strict=True)
    ]
    np.testing.assert_allclose(view_pairs.embedding_gaps(MIXED, a, b), expected, rtol=1e-6)
    same, other = view_pairs.pose_gaps(MIXED, a, b)
    assert same == pytest.approx(0, abs=1e-2) and other > 50


def test_the_longest_sequence_of_two_cameras() -> None:
    # Sequence 0: five records, one camera; 1: three records, cameras 0 and 1; 2: four records in cameras 1 and 2, out
    # of order; 3: three records again; 4: two records.
    record = [
        0,
        1,
        2,
        3,
        4,
        5,
        5,
        6,
        6,
        7,
        7,
        11,
        8,
        10,
        10,
        8,
        11,
        9,
        9,
        12,
        12,
        13,
        13,
        14,
        14,
        15,
        15,
        16,
        16,
    ]
    camera = [0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 1, 2, 1, 2, 1, 2, 1, 1, 2, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    sequence = np.asarray([0] * 5 + [1] * 6 + [2] * 8 + [3] * 6 + [4] * 4)
    views = views_of(record, camera, sequence.tolist())
    strip = view_pairs.longest(views)
    assert strip is not None
    assert (views.record[strip.asked], views.camera[strip.asked]) == (10, 1)
    assert views.record[strip.views].tolist() == [8, 9, 10, 11] and set(views.camera[strip.views]) == {2}
    assert view_pairs.longest(views.select(np.isin(sequence, (0, 4)))) is None


def test_the_worst_are_of_different_sequences() -> None:
    views = views_of([0, 1, 2, 3, 4], [0] * 5, [0, 0, 1, 1, 2])
    assert pictures.worst(views, np.asarray([5.0, 9.0, 1.0, 8.0, 2.0]), 3) == [1, 3, 4]
    assert pictures.worst(views, np.asarray([5.0, 9.0, 1.0, 8.0, 2.0]), 2) == [1, 3]


@pytest.mark.parametrize(
    ("now", "said"), [(75.0, "25 % lower"), (100.0, "0 % lower"), (110.0, "10 % higher")]
)
def test_a_change_is_said_either_way(now: float, said: str) -> None:
    assert report_sections._change(now, 100.0) == said


def compared(baseline: Train, mcss: Train, **beside: dict[str, Any]) -> Any:
    """What the headline reads of two runs: 120 mm of the mean pose, 100 and 75 mm."""
    configs = {"baseline": baseline, "mcss": mcss}
    evaluated = {
        name: SimpleNamespace(
            mean_pose={"pa_mpjpe": 120.0}, figures={"pa_mpjpe": error}, card={"step": beside["step"][name]}
        )
        for name, error in (("baseline", 100.0), ("mcss", 75.0))
    }
    return SimpleNamespace(configs=configs, evaluated=evaluated, trained_on=beside["trained_on"])


def test_the_gain_is_given_where_the_method_alone_differs() -> None:
    base, mcss = options.build(Train, method="baseline"), options.build(Train, method="mcss")
    same = {"step": {"baseline": 9, "mcss": 9}, "trained_on": {"baseline": "a", "mcss": "a"}}
    implied = options.replace(mcss, blocks=7, margin=0.3, temperature_steps=5, workdir="w", save_every=3)
    for other in (mcss, implied):
        said = report_sections.headline(compared(base, other, **same))
        assert "MCSS <b>75.0</b> mm (25 % lower than the baseline)." in said and "(17 % lower), MCSS" in said
    # Each method may have what is best for it: said, with the gain.
    tuned = options.replace(mcss, steps=7, augment_colour=0.9, weight_decay=0.5, labelled_batch=9)
    ended = same | {"step": {"baseline": base.optimiser.steps, "mcss": 7}}
    said = report_sections.headline(compared(base, tuned, **ended))
    assert "MCSS <b>75.0</b> mm (25 % lower than the baseline). Each has settings of its own: " in said
    named = re.search(r"of its own: (.*)\.</p>", said)
    own = "--augment_colour, --labelled_batch, --steps, --weight_decay"
    assert named and ", ".join(sorted(named[1].split(", "))) == own
    for other, beside, names in (
        (tuned, same | {"step": {"baseline": 9, "mcss": 7}}, own + ", step"),
        (options.replace(mcss, width=9), same, "--width"),
        (options.replace(mcss, steps=7, seed=1), same, "--seed, --steps"),
        (options.replace(mcss, labelled="S1:0.5", blocks=2), same, "--labelled"),
        (mcss, same | {"step": {"baseline": 9, "mcss": 6}}, "step"),
        (mcss, same | {"trained_on": {"baseline": "a", "mcss": "b"}}, "training data"),
    ):
        said = report_sections.headline(compared(base, other, **beside))
        assert "lower than the baseline" not in said
        named = re.search(r"beside the method the two differ in (.*)\.</p>", said)
        assert named and ", ".join(sorted(named[1].split(", "))) == names
    # Folders that are only called so.
    assert report_sections.headline(compared(mcss, options.replace(mcss, margin=0.3), **same)) == ""


def test_curves_leave_out_what_was_not_logged() -> None:
    logs = {"a": [{"step": 1, "x": 3.0}, {"step": 2, "x": None}, {"step": 3, "x": 1.0}], "b": [{"step": 1}]}
    figure = figures.curve(logs, ["x"], "x")
    assert figure is not None
    (line,) = figure.axes[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 3], [3, 1]])
    assert figures.curve(logs, ["y"], "y") is None


def test_skeletons_from_two_angles() -> None:
    pose = np.random.default_rng(0).normal(0, 300, (17, 3))
    figure = figures.poses({"truth": pose, "moved": pose + 20})
    camera, side = figure.axes[0], figure.axes[2]
    drawn = [np.concatenate([c.get_segments() for c in ax.collections]) for ax in (camera, side)]
    assert drawn[0].shape == drawn[1].shape == (16, 2, 2)
    for across, segments in zip((0, 2), drawn, strict=True):
        ends = {
            tuple(np.round(point - segments.reshape(-1, 2).mean(0), 3)) for point in segments.reshape(-1, 2)
        }
        flat = pose[:, [across, 1]]
        weights = np.bincount(np.asarray(skeleton.BONES).reshape(-1), minlength=17)
        expected = flat - np.average(flat, axis=0, weights=weights)
        assert ends == {tuple(np.round(point, 3)) for point in expected}
    assert camera.get_ylim()[0] > 0 > camera.get_ylim()[1]  # y points down


@pytest.mark.parametrize("same", [True, False])
def test_pairs_of_one_kind_alone_are_drawn(same: bool) -> None:
    gap = np.linspace(0, 1, 3)
    figure = figures.embedding_against_pose("mcss", 0, gap, gap, np.full(3, same))
    assert any(line.get_label() == "different instants, median" for line in figure.axes[0].lines) != same


def luminance(colour: str) -> float:
    values = np.asarray([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_colours_are_told_from_both_pages() -> None:
    """WCAG 2.2: 3 for what is drawn, 4.5 for text; the grid alone is to be faint."""
    text = {"ink", "faint", "right", "wrong", "mcss"}
    for name, shade in palette.SHADES.items():
        for paper, ink in zip(palette.PAPER, shade, strict=True):
            high, low = sorted((luminance(paper), luminance(ink)), reverse=True)
            contrast = (high + 0.05) / (low + 0.05)
            if name not in ("paper", "grid"):
                assert contrast >= (4.5 if name in text else 3), (name, paper, contrast)
    lights = [shade.light for shade in palette.SHADES.values()]
    assert len(lights) == len(set(lights))  # a colour of a figure has one name
    assert palette.of_method("mcss", 3) is palette.METHODS["mcss"]
    assert len({palette.of_method(f"other {i}", i) for i in range(4)}) == 4


def test_names_in_drawings_meet_no_others() -> None:
    def chart() -> str:
        figure = Figure()
        figure.subplots().plot([0, 1], [0, 1], "o", color=palette.METHODS["mcss"].light)
        return report_page.chart(figure, 'a "chart" & more')

    assert chart() == chart() and "var(--mcss)" in chart() and "var(--ink)" in chart()
    assert "a &quot;chart&quot; &amp; more" in chart()
    sections = [report_page.Section(title, "", chart()) for title in ("One", "Two & three")]
    page = report_page.document("T", "", sections)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) > 4 and {"one", "two-three"} <= set(ids)
    referred = set(re.findall(r'(?:href="|url\()#([\w-]+)', page))
    assert referred == set(ids)


def test_tables_say_what_is_not_there() -> None:
    table = report_page.figure_table(
        "A < B", {"x": {"a": 1.25}, "y": {"a": 2.0, "b": 3.0}}, {"a": "A", "b": "B"}
    )
    assert "A &lt; B" in table and "<td>1.2</td><td>–</td>" in table and "<td>2.0</td><td>3.0</td>" in table
    assert [report_sections._words(value) for value in (None, [], ["a", 1], 2)] == ["–", "none", "a, 1", "2"]
