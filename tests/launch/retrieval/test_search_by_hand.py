"""The rule, its figures and the set that is searched, in numbers that can be counted on the fingers."""

import itertools
import math
from typing import Any

import numpy as np
import pytest

from launch.evaluation import inference
from launch.retrieval import protocol
from mcss_jax.search import retrieval
from mcss_jax.skeleton import ROOT, SPINE, THORAX
from tests.datasets.in_memory import split_of
from tests.mcss_jax.test_metrics import slow_pa_mpjpe

# Sequence, milliseconds, camera, subject: subject 0 in sequences 0 and 1, subject 1 in 2.
PLACES = [
    (sequence, instant, camera, sequence // 2)
    for sequence in range(3)
    for instant in (0, 200, 400, 600, 1000)
    for camera in (0, 1)
]
N = len(PLACES)


def keys_of(places: list[tuple[int, int, int, int]], late: float = 0.0) -> retrieval.FrameKeys:
    """Times are an hour into the recording, where float32 rounds, `late` seconds after what their place says."""
    sequence, milliseconds, camera, subject = np.asarray(places).T
    time = (3600 + milliseconds / 1000 + late).astype(np.float32)
    return retrieval.FrameKeys(
        sequence.astype(np.int32), time, camera.astype(np.int32), subject.astype(np.int32)
    )


RULES = [
    retrieval.ViewRule(same_view, same_instant, min_gap, subjects)
    for same_view, same_instant, min_gap, subjects in itertools.product(
        (False, True), (False, True), (0.0, 0.4, 0.7), ("any", "same", "other")
    )
]


@pytest.mark.parametrize("late", [0.0, 3e-4])
def test_a_rule_in_words(late: float) -> None:
    """Cameras may be a fraction of a frame apart: what is nearer than a millisecond is one instant."""
    queries, gallery = keys_of(PLACES), keys_of(PLACES, late)
    for rule in RULES:
        allowed = np.asarray(rule(queries, gallery))
        for (i, one), (j, other) in itertools.product(enumerate(PLACES), repeat=2):
            may = rule.subjects == "any" or (one[3] == other[3]) == (rule.subjects == "same")
            may &= rule.same_view or one[2] != other[2]
            if one[0] == other[0] and one[1] == other[1]:
                may &= rule.same_instant
            elif one[0] == other[0]:
                may &= abs(one[1] - other[1]) >= 1000 * rule.min_gap
            assert allowed[i, j] == may, (rule, one, other)


def test_the_protocols_rule_is_another_camera_and_another_time() -> None:
    assert protocol.rule_of() == retrieval.ViewRule(False, False, 0.5, "any")
    assert protocol.rule_of(True, 0.25, "same_subject") == retrieval.ViewRule(False, True, 0.25, "same")
    assert protocol.rule_of(False, 1.5, "other_subjects") == retrieval.ViewRule(False, False, 1.5, "other")
    assert protocol.rule_of(gallery="other_views").subjects == "any"
    assert protocol.KS == (1, 5, 10, 20), "as the tables of the reports have them"


# -------- figures


def poses(seed: int, n: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, 17, 3)) * [150, 120, 400]).astype(np.float32)


def test_the_scale_is_the_spines_two_halves() -> None:
    for pose in poses(0, 5):
        halves = math.dist(pose[ROOT], pose[SPINE]), math.dist(pose[SPINE], pose[THORAX])
        assert retrieval.pose_scale(pose) == pytest.approx(sum(halves), rel=1e-5)


def test_figures_of_lists_by_hand() -> None:
    """Of poses of scale 100, 200 and 50: a match is at most 10, 20 and 5 away."""
    nan = np.nan
    errors = np.asarray([[30, 9.0, 60], [19, nan, nan], [5.1, 6, 4], [nan, nan, nan]], np.float32)
    scale = np.asarray([100.0, 200, 50, 100])
    figures = retrieval.figures_at_k(errors, scale, (1, 2, 3))
    expected = {
        "pa_mpjpe@1": [30, 19, 5.1, nan],
        "pa_mpjpe@2": [19.5, 19, 5.55, nan],
        "pa_mpjpe@3": [33, 19, 5.03333, nan],
        "hit@1": [0, 1, 0, nan],
        "hit@2": [1, 1, 0, nan],
        "hit@3": [1, 1, 1, nan],
    }
    assert figures.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(figures[name], values, rtol=1e-5)
    for threshold, hits in ((0.05, [0, 0, 0]), (0.104, [0, 1, 1]), (0.31, [1, 1, 1])):
        at = retrieval.figures_at_k(errors, scale, (1,), threshold)["hit@1"]
        np.testing.assert_array_equal(at[:3], hits)
    assert retrieval.MATCH_THRESHOLD == 0.1, "Pr-VIPE's"


def test_errors_are_of_what_was_retrieved_brought_onto_the_query() -> None:
    queries, gallery = poses(1, 4), 2 * poses(2, 6)
    indices = np.asarray([[5, 0], [2, -1], [-1, -1], [1, 1]])
    errors = retrieval.retrieved_errors(queries, gallery, indices)
    for i, j in np.ndindex(indices.shape):
        if indices[i, j] < 0:
            assert np.isnan(errors[i, j])
        else:
            expected = slow_pa_mpjpe(gallery[indices[i, j]].astype(float), queries[i].astype(float))
            assert errors[i, j] == pytest.approx(expected, rel=1e-4)


LIMIT = 0.4  # of these poses some match


def test_the_oracle_has_the_smallest_errors_of_what_it_may_retrieve() -> None:
    queries, gallery = poses(3, 5), 0.5 * poses(4, 9)
    of_query, of_entry = np.arange(5) % 3, np.arange(9) % 3
    indices, errors, candidates = retrieval.oracle_and_candidates(
        queries, gallery, 2, threshold=LIMIT, allowed=same_number, query_keys=of_query, gallery_keys=of_entry
    )
    for i, query in enumerate(queries):
        entries = [j for j in range(9) if of_entry[j] == of_query[i]]
        by_hand = {j: slow_pa_mpjpe(gallery[j].astype(float), query.astype(float)) for j in entries}
        best = sorted(entries, key=by_hand.__getitem__)
        assert indices[i].tolist() == best[:2]
        np.testing.assert_allclose(errors[i], [by_hand[j] for j in best[:2]], rtol=1e-4)
        limit = LIMIT * retrieval.pose_scale(query)
        assert candidates.entries[i] == 3
        assert candidates.matches[i] == sum(error <= limit for error in by_hand.values())
        assert candidates.total[i] == pytest.approx(sum(by_hand.values()), rel=1e-4)
    assert 0 < candidates.matches.sum() < 15


def same_number(query: Any, gallery: Any) -> Any:
    return query[:, None] == gallery[None]


@pytest.mark.parametrize(("entries", "matches"), [(7, 2), (7, 0), (7, 7), (3, 1), (1, 1), (0, 0)])
def test_chance_is_that_of_an_urn(entries: int, matches: int) -> None:
    """K balls at once from an urn: 1 - C(n - m, K) / C(n, K); of fewer than K all are drawn."""
    urn = retrieval.Candidates(np.asarray([entries]), np.asarray([matches]), np.asarray([12.0 * entries]))
    figures = retrieval.chance(urn, (1, 2, 5))
    for k in (1, 2, 5):
        drawn = min(k, entries)
        hit = 1 - math.comb(entries - matches, drawn) / math.comb(entries, drawn) if entries else np.nan
        np.testing.assert_allclose(figures[f"hit@{k}"], [hit], atol=1e-12)
        np.testing.assert_allclose(figures[f"pa_mpjpe@{k}"], [12.0 if entries else np.nan])


def equal_embeddings() -> np.ndarray:
    """More equals than a fast search has candidates to spare: the slow one answers."""
    return np.repeat(np.eye(4, dtype=np.float32), 20, axis=0)


def test_ties_are_searched_under_the_rule_too() -> None:
    gallery, of_entry = equal_embeddings(), np.arange(80) % 5
    indices, distances = retrieval.nearest(
        gallery[[0, 40]],
        gallery,
        6,
        allowed=same_number,
        query_keys=np.asarray([3, 1]),
        gallery_keys=of_entry,
    )
    np.testing.assert_array_equal(indices, [[3, 8, 13, 18, 23, 28], [41, 46, 51, 56, 1, 6]])
    np.testing.assert_allclose(distances, [[0, 0, 0, 0, 2**0.5, 2**0.5]] * 2, rtol=1e-6)


# -------- what is searched


def test_a_searched_set_is_what_the_split_says_of_its_views() -> None:
    split = split_of("test", (("S9", 0, 3), ("S11", 1, 2), ("S9", 2, 2)))
    for record in split.source[3:5]:  # another rig, whose second camera has a name of its own
        record["camera"] = [b"camera0", b"other", b"camera2", b"camera3"]
    places = [(r, v) for r in range(7) for v in range(4) if (r, v) not in {(0, 1), (5, 2)}]
    record, view = np.asarray(places).T
    rng, sequence = np.random.default_rng(0), split.sequence_of[record]
    shown = [rng.normal(size=(len(places), 17, 3)).astype(np.float32) for _ in range(4)]
    views = inference.Views(
        record,
        view,
        sequence,
        20 + 0.25 * record,
        rng.normal(size=(len(places), 2)).astype(np.float32),
        *shown,
    )
    searched = protocol.search_set(split, views)
    assert searched.keys.sequence.tolist() == [0 if r < 3 else 1 if r < 5 else 2 for r, _ in places]
    assert searched.keys.view.tolist() == [v for _, v in places]
    assert searched.keys.time.tolist() == [20 + 0.25 * r for r, _ in places]
    assert searched.keys.subject.tolist() == [int(3 <= r < 5) for r, _ in places]
    np.testing.assert_array_equal(searched.poses, views.true_canonical)
    assert searched.cameras == {0: "camera0", 1: "view 2", 2: "camera2", 3: "camera3"}
    assert searched.groups["action"].tolist() == [f"action {s}" for s in sequence]
    assert len(searched) == len(places)
    np.testing.assert_array_equal(searched.seen_by(2), view == 2)


def test_the_numbers_k_that_are_asked_for_are_given() -> None:
    """Lists of random views: nothing need be searched to count."""
    searched = protocol.SearchSet(
        keys_of(PLACES), poses(5, N), {0: "a", 1: "b"}, {"action": np.full(N, "walk")}
    )
    rng = np.random.default_rng(6)
    found = protocol.Neighbours(
        rng.permuted(np.tile(np.arange(N), (N, 2, 1)), axis=2)[:, :, :6],
        np.sort(rng.uniform(size=(N, 2, 6)), axis=2),
        rng.uniform(10, 90, (N, 2, 6)),
    )
    candidates = retrieval.Candidates(np.full((N, 2), 9), np.full((N, 2), 3), np.full((N, 2), 90.0))
    wanted = {f"{name}@{k}" for name in ("pa_mpjpe", "hit") for k in (2, 6)}
    for scores in (protocol.score(searched, found, (2, 6)), protocol.chance(searched, candidates, (2, 6))):
        assert set(scores.pooled) == set(scores.averaged) == set(scores.pairs) == wanted
        assert set(scores.groups["action"]["walk"]) == wanted | {"queries"}
    nearest = found.errors.reshape(N, 12)[
        np.arange(N)[:, None], np.argsort(found.distance.reshape(N, 12))[:, :6]
    ]
    for k in (2, 6):
        got = protocol.score(searched, found, (k,)).pooled[f"pa_mpjpe@{k}"]
        assert got == pytest.approx(nearest[:, :k].mean(), rel=1e-6)
