"""Cross-view retrieval as it is measured: a set of views that are queries and gallery at once, and its figures.

The gallery is cut by camera, and every query is searched in each other camera by itself: averaged over all ordered
camera pairs that is Pr-VIPE's form (specs/data_formats.md, section 4.1). A query's nearest views of all cameras
together, the pooled form, are among its nearest views of each, so they are merged and not searched again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from datasets import pipeline
from launch import inference, protocols
from mcss_jax import retrieval

KS = (1, 5, 10, 20)
CHANCE_PAIRS = 8_000_000  # pose pairs that chance is taken over at most, for each of its tables

GallerySubjects = Literal["other_views", "same_subject", "other_subjects"]
_SUBJECTS: dict[GallerySubjects, retrieval.Subjects] = {
    "other_views": "any",
    "same_subject": "same",
    "other_subjects": "other",
}
Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class SearchSet:
    """n views, each a query and, for the others, part of the gallery.

    Attributes:
      keys: what the rule knows of them; `keys.view` is the camera's number in its tuple.
      poses: true canonical poses, millimetres.
      cameras: names by number, ascending.
      groups: labels of the views by kind (`action`, or `sequence` and `activity`).
    """

    keys: retrieval.FrameKeys
    poses: Float[np.ndarray, "n 17 3"]
    cameras: dict[int, str]
    groups: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.poses)

    def seen_by(self, camera: int) -> Bool[np.ndarray, " n"]:
        """Which views are of the camera of this number."""
        return np.asarray(self.keys.view == camera)


@dataclasses.dataclass(frozen=True)
class Found:
    """The k nearest views of n queries in each of c gallery cameras, nearest first.

    Attributes:
      indices: into the set; -1 where there are fewer than k.
      distance: what they are ordered by; inf where there are fewer.
      errors: PA-MPJPE in millimetres; NaN where there are fewer.
    """

    indices: Int[np.ndarray, "n c k"]
    distance: Float[np.ndarray, "n c k"]
    errors: Float[np.ndarray, "n c k"]

    @property
    def lengths(self) -> Int[np.ndarray, "n c"]:
        """How many views each query found in each camera; 0 where it has no gallery."""
        return np.asarray(np.sum(self.indices >= 0, axis=2))

    @property
    def asked(self) -> Bool[np.ndarray, " n"]:
        """Which queries have a gallery at all."""
        return np.asarray(np.any(self.indices >= 0, axis=(1, 2)))

    def pooled(self) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """(indices, errors) of the k nearest views in all cameras together; ties go to the lowest index."""
        n, _, k = self.indices.shape
        indices, distance, errors = (x.reshape(n, -1) for x in (self.indices, self.distance, self.errors))
        order = np.lexsort((indices, distance), axis=1)[:, :k]
        return np.take_along_axis(indices, order, axis=1), np.take_along_axis(errors, order, axis=1)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Mean figures of one method: `pa_mpjpe@K` in millimetres, `hit@K` in percent.

    Attributes:
      pooled: over all queries, the gallery being all other cameras together.
      averaged: mean over all ordered camera pairs.
      pairs: by figure, [query camera, gallery camera]; NaN on the diagonal and where nothing may be retrieved.
      groups: by kind of group and label, pooled, with the number of `queries`.
    """

    pooled: Figures
    averaged: Figures
    pairs: dict[str, Float[np.ndarray, "c c"]]
    groups: dict[str, dict[str, Figures]]


def rule_of(
    same_instant: bool, min_gap: float, gallery: GallerySubjects = "other_views"
) -> retrieval.ViewRule:
    """Another camera; the query's instant kept or not; near instants of its sequence excluded; whose views."""
    return retrieval.ViewRule(
        same_view=False, same_instant=same_instant, min_gap=min_gap, subjects=_SUBJECTS[gallery]
    )


def search_set(split: pipeline.Split, views: inference.Views) -> SearchSet:
    """The predicted views of a split as queries and gallery."""
    subjects = [row.subject for row in split.table]
    number = {name: i for i, name in enumerate(dict.fromkeys(subjects))}
    names: dict[int, dict[str, None]] = {}
    for view, sequence in sorted(set(zip(views.camera.tolist(), views.sequence.tolist(), strict=True))):
        name = split[split.table[sequence].first]["camera"][view].decode()
        names.setdefault(view, {})[name] = None
    return SearchSet(
        keys=retrieval.FrameKeys(
            views.sequence.astype(np.int32),
            views.time.astype(np.float32),
            views.camera.astype(np.int32),
            np.asarray([number[subject] for subject in subjects], np.int32)[views.sequence],
        ),
        poses=views.true_canonical,
        # Sessions may have cameras of their own: then a view is just a number.
        cameras={view: "/".join(n) if len(n) == 1 else f"view {view + 1}" for view, n in names.items()},
        groups=protocols.labels_of(split, views.record, views.sequence),
    )


def search(
    searched: SearchSet, features: Float[np.ndarray, "n d"], rule: retrieval.ViewRule, k: int = max(KS)
) -> Found:
    """The k nearest allowed views by Euclidean distance of their features.

    Raises ValueError when no query may retrieve anything.
    """
    indices, distance = _in_each_camera(
        searched, rule, k, lambda q, g, **rest: retrieval.nearest(features[q], features[g], k, **rest)
    )
    errors = np.full(indices.shape, np.nan, np.float32)
    for c in range(len(searched.cameras)):
        if (indices[:, c] >= 0).any():
            errors[:, c] = retrieval.retrieved_errors(searched.poses, searched.poses, indices[:, c])
    return Found(indices, distance, errors)


def oracle(searched: SearchSet, rule: retrieval.ViewRule, k: int = max(KS)) -> Found:
    """The k allowed views with the smallest PA-MPJPE: what no method can beat. Raises as `search` does."""
    poses = searched.poses
    indices, errors = _in_each_camera(
        searched, rule, k, lambda q, g, **rest: retrieval.oracle(poses[q], poses[g], k, **rest)
    )
    return Found(indices, errors, np.where(indices >= 0, errors, np.nan))


def _in_each_camera(
    searched: SearchSet, rule: retrieval.ViewRule, k: int, find: Callable[..., tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """(indices, distance) [n, c, k] of what `find(queries, gallery, **rule and keys)` finds camera by camera."""
    shape = (len(searched), len(searched.cameras), k)
    indices, distance = np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32)
    for c, camera in enumerate(searched.cameras):
        inside = searched.seen_by(camera)
        queries, gallery = np.flatnonzero(~inside), np.flatnonzero(inside)
        found, far = find(queries, gallery, **_rule_and_keys(searched, rule, queries, gallery))
        indices[queries, c] = np.where(found >= 0, gallery[found], -1)
        distance[queries, c] = far
    if (indices < 0).all():
        raise ValueError(
            f"the gallery is empty: none of the {len(searched):,} queries may retrieve a view of another camera "
            f"(subjects: {rule.subjects}, own instant: {'kept' if rule.same_instant else 'excluded'}, nearest "
            f"instants: {rule.min_gap:g} s away); change --gallery, --same_instant or --min_gap, or add views"
        )
    return indices, distance


def _rule_and_keys(
    searched: SearchSet, rule: retrieval.ViewRule, queries: np.ndarray, gallery: np.ndarray
) -> dict[str, Any]:
    def of(chosen: np.ndarray) -> retrieval.FrameKeys:
        return jax.tree.map(lambda leaf: leaf[chosen], searched.keys)

    return {"allowed": rule, "query_keys": of(queries), "gallery_keys": of(gallery)}


def check_gallery(searched: SearchSet, found: Found) -> int:
    """How many lists of a query in a gallery camera are shorter than k: its exclusions left fewer views.

    Raises ValueError when a camera has no k views for any query: K is larger than its gallery.
    """
    k = found.indices.shape[-1]
    lengths = found.lengths
    for c, name in enumerate(searched.cameras.values()):
        if 0 < lengths[:, c].max() < k:
            raise ValueError(
                f"K={k} is larger than the gallery: camera {name} has at most {lengths[:, c].max()} views that a "
                "query may retrieve; give smaller numbers to --ks, or search more instants"
            )
    return int(((lengths > 0) & (lengths < k)).sum())


def score(searched: SearchSet, found: Found, ks: Sequence[int] = KS) -> Scores:
    """Mean PA-MPJPE@K and Hit@K of what was found, for each K of `ks`."""
    scale = retrieval.pose_scale(searched.poses)
    cameras = list(searched.cameras)
    of_camera = [retrieval.figures_at_k(found.errors[:, c], scale, ks) for c in range(len(cameras))]
    pooled = retrieval.figures_at_k(found.pooled()[1], scale, ks)
    asked = found.asked
    pairs = [[_means(figures, searched.seen_by(a)) for figures in of_camera] for a in cameras]
    groups = {
        kind: {
            label: {"queries": int(mask.sum())} | _means(pooled, mask)
            for label, mask in _masks(labels, asked).items()
        }
        for kind, labels in searched.groups.items()
    }
    return _scores(_means(pooled, asked), pairs, groups)


def chance(searched: SearchSet, rule: retrieval.ViewRule, ks: Sequence[int], found: Found) -> Scores:
    """What retrieval at random among the allowed views is expected to give (`retrieval.chance`).

    `found`, of any method under the same rule, says which queries have a gallery.
    """
    everything = np.ones(len(searched), bool)

    def expected(queries: np.ndarray, gallery: np.ndarray, share: int) -> Figures:
        q, g = np.flatnonzero(queries), np.flatnonzero(gallery)
        return _expected(searched, rule, ks, q, g, CHANCE_PAIRS // share)

    cameras, there = list(searched.cameras), found.lengths > 0
    pairs = [
        [
            expected(searched.seen_by(a), searched.seen_by(b), len(cameras) ** 2)
            if there[searched.seen_by(a), c].any()
            else dict.fromkeys(_names(ks), np.nan)
            for c, b in enumerate(cameras)
        ]
        for a in cameras
    ]
    groups = {
        kind: {
            label: {"queries": int(mask.sum())} | expected(mask, everything, len(masks))
            for label, mask in masks.items()
        }
        for kind, masks in ((kind, _masks(labels, found.asked)) for kind, labels in searched.groups.items())
    }
    return _scores(expected(everything, everything, 1), pairs, groups)


def _expected(
    searched: SearchSet,
    rule: retrieval.ViewRule,
    ks: Sequence[int],
    queries: np.ndarray,
    gallery: np.ndarray,
    most: int,
) -> Figures:
    poses = searched.poses
    keys = _rule_and_keys(searched, rule, queries, gallery)
    random = retrieval.chance(poses[queries], poses[gallery], ks=ks, max_pairs=most, **keys)
    figures = {f"pa_mpjpe@{k}": random["pa_mpjpe"] for k in ks}
    return figures | {f"hit@{k}": 100 * random[f"hit@{k}"] for k in ks}


def _names(ks: Sequence[int]) -> list[str]:
    return [f"{name}@{k}" for name in ("pa_mpjpe", "hit") for k in ks]


def _masks(labels: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """The asked queries of each label, labels in order of appearance."""
    return {label: asked & (labels == label) for label in dict.fromkeys(labels[asked].tolist())}


def _means(figures: dict[str, np.ndarray], chosen: np.ndarray) -> Figures:
    """Means over the chosen queries that were asked, hits in percent; NaN when there are none."""
    out = {}
    for name, values in figures.items():
        some = values[chosen & ~np.isnan(values)]
        out[name] = float(some.mean()) * (100 if name.startswith("hit") else 1) if len(some) else np.nan
    return out


def _scores(pooled: Figures, pairs: list[list[Figures]], groups: dict[str, dict[str, Figures]]) -> Scores:
    matrices = {name: np.asarray([[pair[name] for pair in row] for row in pairs]) for name in pooled}
    averaged = {name: float(np.nanmean(matrix)) for name, matrix in matrices.items()}
    return Scores(pooled, averaged, matrices, groups)
