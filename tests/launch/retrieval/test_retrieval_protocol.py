"""The retrieval protocol against plain loops over all pairs: pooled, by camera pair, by action, and chance."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from launch.evaluation import inference
from launch.retrieval import protocol, tables, temporal_alignment
from launch.retrieval.protocol import SearchSet
from mcss_jax import metrics
from mcss_jax.errors import UserError
from mcss_jax.search import retrieval
from tests.refusals import refused

N, KS = 42, (1, 2, 3)


@pytest.fixture(scope="module")
def searched() -> SearchSet:
    """Two subjects with two sequences each, three cameras (numbers 0, 1, 3), some views missing."""
    rng = np.random.default_rng(0)
    every = list(itertools.product(range(4), range(4), (0, 1, 3)))  # sequence, instant, camera
    sequence, instant, camera = np.asarray([row for i, row in enumerate(every) if i % 8 != 5]).T
    attitudes = np.random.default_rng(1).normal(size=(4, 17, 3)) * [150, 120, 400]
    poses = attitudes[(sequence + instant) % 4] + rng.normal(size=(len(sequence), 17, 3)) * 20
    assert len(sequence) == N
    return SearchSet(
        keys=retrieval.FrameKeys(
            sequence.astype(np.int32),
            (0.4 * instant).astype(np.float32),
            camera.astype(np.int32),
            (sequence // 2).astype(np.int32),
        ),
        poses=poses.astype(np.float32),
        cameras={0: "a", 1: "b", 3: "d"},
        groups={"action": np.asarray(["walk", "sit"])[sequence % 2]},
    )


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(N, 4)).astype(np.float32)


RULES = [
    protocol.rule_of(same_instant=False, min_gap=0.5),
    protocol.rule_of(same_instant=True, min_gap=0.0),
    protocol.rule_of(same_instant=False, min_gap=0.5, gallery="same_subject"),
    protocol.rule_of(same_instant=False, min_gap=0.5, gallery="other_subjects"),
]


def allowed(searched: SearchSet, rule: retrieval.ViewRule) -> np.ndarray:
    """Which pairs may be retrieved, in the words of the issue rather than the rule's."""
    k, out = searched.keys, np.zeros((N, N), bool)
    for i, j in itertools.product(range(N), repeat=2):
        near = k.sequence[i] == k.sequence[j] and abs(k.time[i] - k.time[j]) < rule.min_gap
        instant = k.sequence[i] == k.sequence[j] and k.time[i] == k.time[j]
        whose = {
            "any": True,
            "same": k.subject[i] == k.subject[j],
            "other": k.subject[i] != k.subject[j],
        }[rule.subjects]
        time = rule.same_instant if instant else not near
        out[i, j] = k.view[i] != k.view[j] and whose and time
    return out


def pa(searched: SearchSet) -> np.ndarray:
    """PA-MPJPE of pose j onto pose i."""
    i, j = (x.ravel() for x in np.indices((N, N)))
    return np.asarray(metrics.pa_mpjpe(searched.poses[j], searched.poses[i])).reshape(N, N)


def slow_lists(distance: np.ndarray, may: np.ndarray, gallery: np.ndarray) -> list[list[int]]:
    order = np.argsort(distance, axis=1, kind="stable")
    return [[int(j) for j in row if may[i, j] and gallery[j]][: max(KS)] for i, row in enumerate(order)]


def slow_figures(searched: SearchSet, lists: list[list[int]], queries: np.ndarray) -> dict[str, float]:
    errors, scale = pa(searched), retrieval.pose_scale(searched.poses)
    asked = [i for i in np.flatnonzero(queries) if lists[i]]
    out = {}
    for k in KS:
        out[f"pa_mpjpe@{k}"] = np.mean([np.mean([errors[i, j] for j in lists[i][:k]]) for i in asked])
        hits = [any(errors[i, j] <= 0.1 * scale[i] for j in lists[i][:k]) for i in asked]
        out[f"hit@{k}"] = 100 * np.mean(hits)
    return out


@pytest.mark.parametrize("rule", RULES, ids=["default", "kept", "same", "other"])
def test_scores_against_loops(searched: SearchSet, features: np.ndarray, rule: retrieval.ViewRule) -> None:
    may, view = allowed(searched, rule), searched.keys.view
    distance = np.linalg.norm(features[:, None].astype(float) - features[None], axis=2)
    actual = protocol.search(searched, features, rule, max(KS))
    got = protocol.score(searched, actual, KS)
    everywhere = np.ones(N, bool)
    lists = slow_lists(distance, may, everywhere)
    padded = [row + [-1] * (max(KS) - len(row)) for row in lists]
    np.testing.assert_array_equal(actual.pooled()[0], padded)
    assert got.pooled == pytest.approx(slow_figures(searched, lists, everywhere), rel=1e-5)
    for action, row in got.groups["action"].items():
        mask = searched.groups["action"] == action
        assert row.pop("queries") == sum(bool(lists[i]) for i in np.flatnonzero(mask))
        assert row == pytest.approx(slow_figures(searched, lists, mask), rel=1e-5)
    means = []
    for (a, camera), (b, other) in itertools.product(enumerate((0, 1, 3)), repeat=2):
        here = {name: matrix[a, b] for name, matrix in got.pairs.items()}
        if camera == other:
            assert np.isnan(list(here.values())).all()
            continue
        lists = slow_lists(distance, may, view == other)
        means.append(slow_figures(searched, lists, view == camera))
        assert here == pytest.approx(means[-1], rel=1e-5)
    assert got.averaged == pytest.approx({n: np.mean([m[n] for m in means]) for n in means[0]}, rel=1e-5)


def test_nothing_beats_the_oracle_and_its_lists_are_the_true_order(
    searched: SearchSet, features: np.ndarray
) -> None:
    rule = RULES[0]
    best, _ = protocol.oracle(searched, rule, max(KS))
    expected = slow_lists(pa(searched), allowed(searched, rule), np.ones(N, bool))
    np.testing.assert_array_equal(best.pooled()[0], expected)
    ours = protocol.search(searched, features, rule, max(KS))
    bound, got = (protocol.score(searched, actual, KS) for actual in (best, ours))
    assert all(bound.averaged[n] < got.averaged[n] for n in got.averaged if n.startswith("pa"))
    assert all(bound.averaged[n] > got.averaged[n] for n in got.averaged if n.startswith("hit"))
    kept, _ = protocol.oracle(searched, RULES[1], 1)
    # The same instant's pose differs by noise here, but is always there where its view is.
    assert protocol.score(searched, kept, (1,)).pooled["pa_mpjpe@1"] <= bound.pooled["pa_mpjpe@1"]


def test_chance_is_the_mean_over_all_draws(searched: SearchSet) -> None:
    rule = RULES[2]
    _, candidates = protocol.oracle(searched, rule, max(KS))
    got = protocol.chance(searched, candidates, (1, 2))
    may, errors, view = allowed(searched, rule), pa(searched), searched.keys.view
    match = errors <= 0.1 * retrieval.pose_scale(searched.poses)[:, None]

    def expected(queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
        rows = [np.flatnonzero(may[i] & gallery) for i in np.flatnonzero(queries)]
        asked = [(i, row) for i, row in zip(np.flatnonzero(queries), rows, strict=True) if len(row)]
        out = {f"pa_mpjpe@{k}": np.mean([errors[i, row].mean() for i, row in asked]) for k in (1, 2)}
        for k in (1, 2):
            hits = [
                np.mean(
                    [match[i, list(draw)].any() for draw in itertools.combinations(row, min(k, len(row)))]
                )
                for i, row in asked
            ]
            out[f"hit@{k}"] = 100 * np.mean(hits)
        return out

    everywhere = np.ones(N, bool)
    assert got.pooled == pytest.approx(expected(everywhere, everywhere), rel=1e-4)
    pairs = {(a, b): expected(view == x, view == y) for (a, x), (b, y) in camera_pairs()}
    for (a, b), figures in pairs.items():
        assert {name: matrix[a, b] for name, matrix in got.pairs.items()} == pytest.approx(figures, rel=1e-4)
    assert got.averaged["hit@2"] == pytest.approx(np.mean([f["hit@2"] for f in pairs.values()]), rel=1e-4)
    walks = got.groups["action"]["walk"]
    assert walks.pop("queries") == 22
    assert walks == pytest.approx(expected(searched.groups["action"] == "walk", everywhere), rel=1e-4)


def camera_pairs() -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    return ((a, b) for a, b in itertools.product(enumerate((0, 1, 3)), repeat=2) if a != b)


def chosen(searched: SearchSet, mask: np.ndarray) -> SearchSet:
    return SearchSet(
        retrieval.FrameKeys(*(np.asarray(leaf)[mask] for leaf in searched.keys)),
        searched.poses[mask],
        {c: name for c, name in searched.cameras.items() if (searched.seen_by(c) & mask).any()},
        {kind: labels[mask] for kind, labels in searched.groups.items()},
    )


def test_queries_without_a_gallery_are_left_out(searched: SearchSet, features: np.ndarray) -> None:
    """One of the subjects was seen by one camera alone: among its own views it may find nothing."""
    mask = (searched.keys.subject == 0) | (searched.keys.view == 0)
    some, rule = chosen(searched, mask), RULES[2]
    actual = protocol.search(some, features[mask], rule, 2)
    got = protocol.score(some, actual, (1, 2))
    alone = some.keys.subject == 1
    asked = (actual.indices >= 0).any(axis=(1, 2))
    assert not asked[alone].any() and asked[~alone].all()
    distance = np.linalg.norm(features[:, None].astype(float) - features[None], axis=2)
    lists = slow_lists(distance, allowed(searched, rule), mask)
    expected = slow_figures(searched, lists, searched.keys.subject == 0)
    assert got.pooled == pytest.approx({name: expected[name] for name in got.pooled}, rel=1e-5)
    best, candidates = protocol.oracle(some, rule, max(KS))
    random = protocol.chance(some, candidates, (1, 2))
    may = allowed(searched, rule) & mask
    means = [pa(searched)[i, may[i]].mean() for i in np.flatnonzero(searched.keys.subject == 0)]
    assert random.pooled["pa_mpjpe@1"] == pytest.approx(np.mean(means), rel=1e-5)
    assert not np.isnan(list(random.averaged.values())).any()
    bound = protocol.score(some, best, (1, 2))
    for scores in (bound, random):  # means over the same queries, whatever the method
        for name, matrix in scores.pairs.items():
            np.testing.assert_array_equal(np.isnan(matrix), np.isnan(got.pairs[name]))
        counts = {label: row["queries"] for label, row in scores.groups["action"].items()}
        actions = some.groups["action"]
        assert counts == {label: (asked & (actions == label)).sum() for label in ("walk", "sit")}
        assert sum(counts.values()) == (~alone).sum() < len(some)


def test_chance_where_few_queries_may_retrieve_anything() -> None:
    """Of 60 queries of one camera, one alone has a partner that is far enough: chance is of that one."""
    time = np.concatenate([np.linspace(0, 0.4, 60), [5.0]]).astype(np.float32)
    poses = np.random.default_rng(0).normal(size=(61, 17, 3)).astype(np.float32) * 200
    keys = retrieval.FrameKeys(
        np.zeros(61, np.int32), time, (np.arange(61) == 30).astype(np.int32), np.zeros(61, np.int32)
    )
    few = SearchSet(keys, poses, {0: "a", 1: "b"}, {})
    _, candidates = protocol.oracle(few, RULES[0], max(KS))
    got = protocol.chance(few, candidates, (1,))
    expected = float(metrics.pa_mpjpe(poses[30], poses[60])), float(metrics.pa_mpjpe(poses[60], poses[30]))
    assert got.pairs["pa_mpjpe@1"][0, 1] == pytest.approx(expected[0], rel=1e-5)
    assert got.pairs["pa_mpjpe@1"][1, 0] == pytest.approx(expected[1], rel=1e-5)
    assert got.pooled["pa_mpjpe@1"] == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_empty_gallery(searched: SearchSet, features: np.ndarray) -> None:
    rule = protocol.rule_of(same_instant=False, min_gap=9.0, gallery="same_subject")
    mask = searched.keys.sequence == 0
    with pytest.raises(UserError, match=r"the gallery is empty: none of the \d+ queries .* 9 s away"):
        protocol.search(chosen(searched, mask), features[mask], rule, 1)
    with pytest.raises(UserError, match="the gallery is empty"):
        protocol.oracle(chosen(searched, searched.keys.view == 1), RULES[0], 1)

    with pytest.raises(UserError, match="the gallery is empty"):
        protocol.gallery_sizes(chosen(searched, mask), rule)


def test_k_beyond_the_gallery(searched: SearchSet) -> None:
    sizes = protocol.gallery_sizes(searched, RULES[0])
    may, view = allowed(searched, RULES[0]), searched.keys.view
    np.testing.assert_array_equal(
        sizes, np.transpose([may[:, view == camera].sum(1) for camera in (0, 1, 3)])
    )
    most = sizes.max(axis=0)
    least = int(most.min())
    assert 10 < least < 20
    protocol.check_gallery(searched, sizes, least)
    name = "abd"[int(np.argmin(most))]
    with refused(f"K={least + 1}", f"{name}", f"{least}", "--ks"):
        protocol.check_gallery(searched, sizes, least + 1)
    assert protocol.ks_within(sizes, (1, least, least + 1, 30)) == (1, least)
    there = sizes > 0
    short = (there & (sizes < least)).sum()
    assert protocol.shorter_lists(sizes, least) == (
        f"{short} of {there.sum()} lists of a query in a camera hold fewer than {least} views"
    )
    assert 0 < short < there.sum() == 2 * N
    unseen = np.where(np.arange(3) == 1, 0, sizes)  # a camera that nobody may retrieve from is not in the way
    assert protocol.ks_within(unseen, (least,)) == (least,) and protocol.ks_within(sizes, (30,)) == ()
    protocol.check_gallery(searched, unseen, least)
    # The camera with the smallest gallery decides, by the query that may retrieve most from it.
    assert protocol.ks_within(np.asarray([[9, 1], [7, 2]]), (1, 2, 3, 9)) == (1, 2)


def test_tables_by_hand() -> None:
    lines = tables.table({"ours": {"pa@1": 1.25}, "chance": {"pa@1": 100.0}}, "Pooled").split("\n")
    assert [line.split() for line in lines] == [["Pooled", "pa@1"], ["ours", "1.250"], ["chance", "100.000"]]
    matrix = np.asarray([[np.nan, 2.0], [3.0, np.nan]])
    lines = tables.pair_table("hit@1", ["left", "right"], matrix).split("\n")
    assert [line.split() for line in lines] == [
        ["hit@1", "left", "right"],
        ["left", "-", "2.0"],
        ["right", "3.0", "-"],
    ]
    lines = tables.group_table("By action", {"walk": {"queries": 1200, "hit@1": 3.0}}).split("\n")
    assert lines[0].split() == ["By", "action", "queries", "hit@1"]
    assert lines[1].split() == ["walk", "1,200", "3.0"] and len(lines[0]) == len(lines[1])


def views_of(time: list[float], camera: list[int]) -> inference.Views:
    n = len(time)
    blank = np.zeros((n, 17, 3), np.float32)
    return inference.Views(
        np.arange(n), np.asarray(camera), np.zeros(n, int), np.asarray(time), np.zeros((n, 2), np.float32),
        blank, blank, blank, blank,
    )  # fmt: skip


def test_temporal_alignment_by_hand() -> None:
    views = views_of([0.0, 1.0, 0.0, 1.0], [0, 0, 1, 1])
    right = np.asarray([[0.0], [1.0], [0.0], [1.0]], np.float32)
    swapped = np.asarray([[0.0], [1.0], [1.0], [0.0]], np.float32)
    alignment = temporal_alignment.alignment
    assert alignment(views, right) == {"median_s": 0.0, "mean_s": 0.0}
    assert alignment(views, swapped) == {"median_s": 1.0, "mean_s": 1.0}
    assert alignment(views, None)["mean_s"] == pytest.approx(0.5, abs=0.1)
    with pytest.raises(UserError, match="at least two cameras"):
        alignment(views_of([0.0, 1.0], [0, 0]), right[:2])
