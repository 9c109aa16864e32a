"""Retrieval against plain loops: neighbours, ties, exclusions, Hit@k, oracle and chance."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import metrics, mining
from mcss_jax.search import neighbours, pose_pairs, retrieval
from tests.mcss_jax.test_metrics import slow_pa_mpjpe
from tests.refusals import refused


def slow_nearest(queries, gallery, k, allowed=None):
    """Float64 loops; ties by index."""
    rows = []
    for i, q in enumerate(queries.astype(np.float64)):
        squares = ((gallery.astype(np.float64) - q) ** 2).sum(1)
        order = [j for j in np.argsort(squares, kind="stable") if allowed is None or allowed[i, j]][:k]
        rows.append([(int(j), float(np.sqrt(squares[j]))) for j in order] + [(-1, np.inf)] * (k - len(order)))
    neighbours = np.array(rows)
    return neighbours[..., 0].astype(np.int32), neighbours[..., 1]


def embeddings(seed, n, dim=16):
    x = np.random.default_rng(seed).normal(size=(n, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def keys(rng, n, sequences=3, views=4):
    return retrieval.FrameKeys(
        rng.integers(0, sequences, n).astype(np.int32),
        (rng.integers(0, 50, n) / 50).astype(np.float32),
        rng.integers(0, views, n).astype(np.int32),
        rng.integers(0, 2, n).astype(np.int32),
    )


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks so small that every loop runs several times with an incomplete last block."""
    monkeypatch.setattr(neighbours, "QUERY_BLOCK", 32)
    monkeypatch.setattr(neighbours, "GALLERY_BLOCK", 1024)
    monkeypatch.setattr(pose_pairs, "QUERY_BLOCK", 8)
    monkeypatch.setattr(pose_pairs, "GALLERY_BLOCK", 32)


class TestNearest:
    def test_against_loops(self, small_blocks):
        queries, gallery = embeddings(0, 75), embeddings(1, 2500)
        indices, distances = retrieval.nearest(queries, gallery, 7)
        expected, far = slow_nearest(queries, gallery, 7)
        assert indices.dtype == np.int32 and distances.dtype == np.float32
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(distances, far, rtol=1e-6)

    def test_ties_go_to_the_lowest_index(self, small_blocks):
        gallery = np.repeat(embeddings(2, 40), 60, axis=0)  # more equals than spare candidates
        gallery = gallery[np.random.default_rng(0).permutation(len(gallery))]
        queries = embeddings(3, 40)
        np.testing.assert_array_equal(
            retrieval.nearest(queries, gallery, 9)[0], slow_nearest(queries, gallery, 9)[0]
        )

    def test_collapsed_embeddings(self):
        gallery = np.broadcast_to(embeddings(4, 1), (300, 16))
        indices, distances = retrieval.nearest(gallery[:5], gallery, 4)
        np.testing.assert_array_equal(indices, np.broadcast_to(np.arange(4), (5, 4)))
        np.testing.assert_array_equal(distances, 0)

    def test_near_duplicates_far_from_the_origin(self):
        # Differences of 1e-3 at a norm of 4000: an inner product in float32 cannot see them.
        rng = np.random.default_rng(5)
        gallery = (1000 + rng.integers(0, 40, size=(200, 16)) / 1024).astype(np.float32)
        queries = gallery[::10] + np.float32(1 / 2048)
        np.testing.assert_array_equal(
            retrieval.nearest(queries, gallery, 5)[0], slow_nearest(queries, gallery, 5)[0]
        )

    def test_small_distances_between_far_clusters(self):
        """Products of a million hide squares of a thousandth: all candidates of a cluster look alike to them."""
        steps = np.arange(60, 0, -1) / 1024
        gallery = np.concatenate([np.stack([np.full(60, x), steps], axis=1) for x in (1000.0, -1000.0)])
        queries = np.asarray([[1000.0, 0], [-1000, 0], [1000, 0.05]])
        indices, distances = retrieval.nearest(queries, gallery, 5)
        expected, far = slow_nearest(queries.astype(np.float32), gallery.astype(np.float32), 5)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(distances, far, rtol=1e-6)

    @pytest.mark.parametrize("rule", [
        retrieval.ViewRule(),
        retrieval.ViewRule(same_view=True, same_instant=False),
        retrieval.ViewRule(same_instant=False, min_gap=0.3),
        retrieval.ViewRule(same_view=True, min_gap=0.3),
        retrieval.ViewRule(subjects="same", same_instant=False),
        retrieval.ViewRule(subjects="other", min_gap=0.3),
    ])  # fmt: skip
    def test_exclusions(self, rule, small_blocks):
        rng = np.random.default_rng(6)
        queries, gallery = embeddings(7, 40), embeddings(8, 1100)
        q, g = keys(rng, 40), keys(rng, 1100)
        allowed = np.zeros((40, 1100), bool)
        for i, j in itertools.product(range(40), range(1100)):
            same, gap = q.sequence[i] == g.sequence[j], abs(q.time[i] - g.time[j])
            instant = same and gap < 1e-3
            allowed[i, j] = (
                (rule.same_view or q.view[i] != g.view[j])
                and (rule.same_instant or not instant)
                and (instant or not (same and gap < rule.min_gap - 1e-3))
                and (rule.subjects == "any" or (rule.subjects == "same") == (q.subject[i] == g.subject[j]))
            )
        neighbours = retrieval.nearest(queries, gallery, 6, allowed=rule, query_keys=q, gallery_keys=g)
        np.testing.assert_array_equal(neighbours[0], slow_nearest(queries, gallery, 6, allowed)[0])

    def test_fewer_allowed_than_k(self):
        queries, gallery = embeddings(9, 3), embeddings(10, 6)
        q, g = np.arange(3), np.array([0, 1, 1, 1, 0, 1])
        indices, distances = retrieval.nearest(
            queries, gallery, 4, allowed=_same_number, query_keys=q, gallery_keys=g
        )
        np.testing.assert_array_equal(indices, slow_nearest(queries, gallery, 4, q[:, None] == g)[0])
        assert (indices[2] == -1).all() and np.isinf(distances[2]).all()
        indices, distances = retrieval.nearest(queries, gallery, 8)
        np.testing.assert_array_equal(indices, slow_nearest(queries, gallery, 8)[0])
        assert np.isinf(distances[:, 6:]).all()

    def test_empty(self):
        assert retrieval.nearest(np.zeros((0, 4)), np.zeros((5, 4)), 2)[0].shape == (0, 2)
        assert (retrieval.nearest(np.zeros((3, 4)), np.zeros((0, 4)), 2)[0] == -1).all()

    @settings(max_examples=15, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 4))
    def test_on_a_lattice_full_of_ties(self, seed, levels):
        rng = np.random.default_rng(seed)
        queries, gallery = (rng.integers(0, levels + 1, size=(n, 3)).astype(np.float32) for n in (20, 90))
        indices, distances = retrieval.nearest(queries, gallery, 5)
        expected, far = slow_nearest(queries, gallery, 5)
        np.testing.assert_array_equal(indices, expected)
        np.testing.assert_allclose(distances, far, rtol=1e-6)

    def test_refusals(self):
        x = embeddings(0, 4)
        with refused("k is 0", "1", kind=ValueError):
            retrieval.nearest(x, x, 0)
        with refused("16", "8", kind=ValueError):
            retrieval.nearest(x, x[:, :8], 1)
        with refused("gallery", "row 2", "not finite"):
            retrieval.nearest(x, np.where(np.arange(4)[:, None] == 2, np.nan, x), 1)
        with refused("gallery_keys", "3", "`allowed`", "4", kind=ValueError):
            retrieval.nearest(
                x, x, 1, allowed=_same_number, query_keys=np.arange(4), gallery_keys=np.arange(3)
            )

    def test_agrees_with_faiss(self):
        faiss = pytest.importorskip(
            "faiss", reason="faiss-cpu is not installed: no second opinion on neighbours"
        )
        queries, gallery = embeddings(11, 200, 32), embeddings(12, 3000, 32)
        index = faiss.IndexFlatL2(32)
        index.add(gallery)
        squares, expected = index.search(queries, 10)
        indices, _ = retrieval.nearest(queries, gallery, 10)
        differs = indices != expected
        gaps = np.abs(np.diff(squares, axis=1, prepend=-1, append=9))
        assert (np.minimum(gaps[:, :-1], gaps[:, 1:])[differs] < 1e-5).all()


def _same_number(q, g):
    return q[:, None] == g[None]


def poses(seed, n):
    """People who differ a little, in several attitudes, each turned about at random."""
    rng = np.random.default_rng(seed)
    attitudes = np.random.default_rng(99).normal(size=(4, 17, 3)) * [150, 120, 400]
    chosen = attitudes[rng.integers(0, 4, n)] + rng.normal(size=(n, 17, 3)) * 25
    turns = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    turns *= np.sign(np.linalg.det(turns))[:, None, None]
    return (chosen @ turns + [0, 0, 4000]).astype(np.float32)


@pytest.fixture(scope="module")
def pairs():
    queries, gallery = poses(0, 20), poses(1, 70)
    errors = [[slow_pa_mpjpe(g.astype(float), q.astype(float)) for g in gallery] for q in queries]
    return queries, gallery, np.array(errors)


class TestOracleAndChance:
    def test_oracle_is_the_true_minimum(self, pairs, small_blocks):
        queries, gallery, errors = pairs
        indices, actual = retrieval.oracle(queries, gallery, 5)
        np.testing.assert_array_equal(indices, np.argsort(errors, axis=1)[:, :5])
        np.testing.assert_allclose(actual, np.sort(errors, axis=1)[:, :5], atol=2e-3)
        assert retrieval.mean_pa_mpjpe_at_k(queries, gallery, indices) == pytest.approx(
            actual.mean(), abs=2e-3
        )

    def test_oracle_with_a_rule_and_too_few(self, pairs, small_blocks):
        queries, gallery, errors = pairs
        q, g = np.arange(20), np.arange(70) % 35
        indices, actual = retrieval.oracle(
            queries, gallery, 3, allowed=_same_number, query_keys=q, gallery_keys=g
        )
        for i in range(20):
            expected = sorted([i, i + 35], key=lambda j, i=i: errors[i, j])
            assert list(indices[i]) == [*expected, -1]
        assert np.isinf(actual[:, 2]).all()

    @pytest.mark.parametrize("broken", [3, 40])
    def test_degenerate_gallery_poses(self, pairs, broken):
        queries, gallery, _ = pairs
        gallery = gallery.copy()
        gallery[:broken] = gallery[0, 0]
        gallery[1] = np.arange(17.0)[:, None] * [1, 2, 3]
        gallery[2] = queries[0] * [-1, 1, 1]
        best, actual = pose_pairs.oracle(queries, gallery, 70)
        expected = metrics.pa_mpjpe(
            np.broadcast_to(gallery, (20, *gallery.shape)), np.repeat(queries[:, None], 70, 1)
        )
        errors = np.empty((20, 70))
        np.put_along_axis(errors, np.asarray(best), np.asarray(actual), axis=1)
        np.testing.assert_allclose(errors, expected, atol=2e-3)

    def test_oracle_ties_and_empty(self, pairs, small_blocks):
        queries, gallery, _ = pairs
        indices, _ = retrieval.oracle(queries, np.repeat(gallery[:1], 70, axis=0), 5)
        np.testing.assert_array_equal(indices, np.broadcast_to(np.arange(5), (20, 5)))
        assert (retrieval.oracle(queries, gallery[:0], 2)[0] == -1).all()

    def test_chance_by_enumeration(self, pairs, small_blocks):
        queries, gallery, errors = pairs
        q, g = np.arange(20) % 4, np.arange(70) % 7
        allowed = q[:, None] == g[None]
        best = {"allowed": _same_number, "query_keys": q, "gallery_keys": g}
        *both, candidates = retrieval.oracle_and_candidates(queries, gallery, 2, threshold=0.15, **best)
        for one, other in zip(both, retrieval.oracle(queries, gallery, 2, **best), strict=True):
            np.testing.assert_array_equal(one, other)
        match = errors <= 0.15 * retrieval.pose_scale(queries)[:, None]
        np.testing.assert_array_equal(candidates.entries, allowed.sum(1))
        np.testing.assert_array_equal(candidates.matches, (allowed & match).sum(1))
        np.testing.assert_allclose(candidates.total, np.where(allowed, errors, 0).sum(1), rtol=1e-5)
        figures = retrieval.chance(candidates, (1, 3, 100))
        for i in range(20):
            entries = np.flatnonzero(allowed[i])
            for k in (1, 3):
                draws = itertools.combinations(entries, k)
                hits = np.mean([match[i, list(draw)].any() for draw in draws])
                assert figures[f"hit@{k}"][i] == pytest.approx(hits, abs=1e-9)
                assert figures[f"pa_mpjpe@{k}"][i] == pytest.approx(errors[i, entries].mean(), abs=2e-3)
            assert figures["hit@100"][i] == match[i, entries].any()  # all are drawn
        assert 0 < figures["hit@1"].mean() < figures["hit@3"].mean() < 1

    def test_chance_of_queries_that_may_retrieve_nothing(self, pairs, small_blocks):
        queries, gallery, _ = pairs
        some = {"allowed": _same_number, "query_keys": np.arange(20) % 2, "gallery_keys": np.ones(70, int)}
        *_, candidates = retrieval.oracle_and_candidates(queries, gallery, 2, **some)
        figures = retrieval.chance(candidates, (1, 2))
        for values in figures.values():
            assert np.isnan(values[::2]).all() and not np.isnan(values[1::2]).any()
        *_, nothing = retrieval.oracle_and_candidates(queries, gallery[:0], 1)
        assert np.isnan(retrieval.chance(nothing, (1,))["hit@1"]).all()
        with refused("k is 0", "1", kind=ValueError):
            retrieval.chance(candidates, (1, 0))


class TestRules:
    def test_an_instant_exactly_at_the_gap_is_far_enough(self):
        """As for the negatives of mining, whatever float32 makes of the times."""
        time = jnp.asarray(100 + 0.1 * np.arange(60), jnp.float32)
        zeros = jnp.zeros(60, jnp.int32)
        keys = retrieval.FrameKeys(zeros, time, zeros, zeros)
        assert (time[3:] - time[:-3] < 0.3).any()  # which rounding alone would exclude
        allowed = retrieval.ViewRule(same_view=True, same_instant=False, min_gap=0.3)(keys, keys)
        apart = np.abs(np.arange(60)[:, None] - np.arange(60))
        np.testing.assert_array_equal(allowed, apart >= 3)
        negatives = mining.negative_mask(zeros, zeros, time, 0.3, across_groups=False)
        np.testing.assert_array_equal(allowed, negatives)
        kept = retrieval.ViewRule(same_view=True, min_gap=0.3)(keys, keys)
        np.testing.assert_array_equal(kept, (apart >= 3) | (apart == 0))
        assert np.asarray(retrieval.ViewRule(same_view=True)(keys, keys)).all()

    def test_counts_of_what_may_be_retrieved(self, monkeypatch):
        monkeypatch.setattr(retrieval, "COUNT_BLOCK", 16)
        rng = np.random.default_rng(0)
        q, g = keys(rng, 45), keys(rng, 37)
        rule = retrieval.ViewRule(same_instant=False, min_gap=0.1, subjects="other")
        counts = retrieval.allowed_counts(rule, q, g)
        np.testing.assert_array_equal(counts, np.asarray(rule(q, g)).sum(1))
        assert len(set(counts.tolist())) > 3
        none = retrieval.FrameKeys(*(leaf[:0] for leaf in g))
        assert (retrieval.allowed_counts(rule, q, none) == 0).all()
        assert len(retrieval.allowed_counts(rule, none, g)) == 0


class TestScores:
    def test_hit_and_mean_by_loops(self, pairs):
        queries, gallery, errors = pairs
        indices = np.random.default_rng(3).integers(0, 70, size=(20, 4)).astype(np.int32)
        indices[4, 2:] = -1
        indices[5] = -1
        hits, means = [], []
        for i, row in enumerate(indices):
            kept = [j for j in row if j >= 0]
            scaled = [
                slow_pa_mpjpe(*(p.astype(float) / retrieval.pose_scale(p) for p in (gallery[j], queries[i])))
                for j in kept
            ]
            if kept:
                hits.append(any(s <= 0.1 for s in scaled))
                means.append(np.mean([errors[i, j] for j in kept]))
        assert 0 < np.mean(hits) < 1
        assert retrieval.hit_at_k(queries, gallery, indices) == pytest.approx(np.mean(hits))
        assert retrieval.mean_pa_mpjpe_at_k(queries, gallery, indices) == pytest.approx(
            np.mean(means), abs=2e-3
        )

    def test_figures_of_every_query(self, pairs, monkeypatch):
        monkeypatch.setattr(retrieval, "PAIR_BLOCK", 7)
        queries, gallery, errors = pairs
        indices = np.random.default_rng(4).integers(0, 70, size=(20, 6)).astype(np.int32)
        indices[4, 2:] = -1
        indices[5] = -1
        actual = retrieval.retrieved_errors(queries, gallery, indices)
        expected = np.where(indices >= 0, errors[np.arange(20)[:, None], indices], np.nan)
        np.testing.assert_allclose(actual, expected, atol=2e-3)
        scale = retrieval.pose_scale(queries)
        figures = retrieval.figures_at_k(actual, scale, (1, 4, 6))
        for k in (1, 4, 6):
            for i in range(20):
                row = [e for e in expected[i, :k] if not np.isnan(e)]
                if i == 5:
                    assert np.isnan(figures[f"pa_mpjpe@{k}"][i]) and np.isnan(figures[f"hit@{k}"][i])
                    continue
                assert figures[f"pa_mpjpe@{k}"][i] == pytest.approx(np.mean(row), abs=2e-3)
                assert figures[f"hit@{k}"][i] == any(e <= 0.1 * scale[i] for e in row)
        assert 0 < np.nanmean(figures["hit@1"]) < np.nanmean(figures["hit@6"])

    def test_temporal_alignment_error(self):
        differences = retrieval.temporal_alignment_error(
            np.array([1.0, 1.0, 2.0, 3.0]),
            np.array([0.5, 1.0, 9.0]),
            np.array([[0, 2], [1, 0], [2, 2], [-1, 0]]),
        )
        assert differences == {"median": 0.5, "mean": 2.5}

    def test_refusals(self, pairs):
        queries, gallery, _ = pairs
        with refused("3 rows", "20 queries", kind=ValueError):
            retrieval.hit_at_k(queries, gallery, np.zeros((3, 1), np.int32))
        with refused("entry 70", "gallery of 70", kind=ValueError):
            retrieval.hit_at_k(queries, gallery, np.full((20, 1), 70))
        with refused("Nothing was retrieved", kind=ValueError):
            retrieval.mean_pa_mpjpe_at_k(queries, gallery, np.full((20, 1), -1))
        with refused("Nothing was retrieved", kind=ValueError):
            retrieval.temporal_alignment_error(np.zeros(2), np.zeros(2), np.full((2, 1), -1))
