"""Cross-view retrieval as it is measured: a set of views that are queries and gallery at once, and its figures.

The gallery is cut by camera, and every query is searched in each other camera by itself: averaged over all ordered
camera pairs that is Pr-VIPE's form (docs/data_formats.md). A query's nearest views of all cameras
together, the pooled form, are among its nearest views of each, so they are merged and not searched again.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from datasets.tuples import pipeline
from launch.evaluation import inference, protocols
from mcss_jax.errors import UserError
from mcss_jax.search import retrieval

KS = (1, 5, 10, 20)
MIN_GAP = 0.5  # seconds between a query and the other instants of its sequence that it may retrieve

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
class Neighbours:
    """The k nearest views of n queries in each of c gallery cameras, nearest first.

    Attributes:
      indices: into the set; -1 where there are fewer than k.
      distance: what they are ordered by; inf where there are fewer.
      errors: PA-MPJPE in millimetres; NaN where there are fewer.
    """

    indices: Int[np.ndarray, "n c k"]
    distance: Float[np.ndarray, "n c k"]
    errors: Float[np.ndarray, "n c k"]

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
    same_instant: bool = False, min_gap: float = MIN_GAP, gallery: GallerySubjects = "other_views"
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
    return set_of(
        views,
        subjects=np.asarray([number[subject] for subject in subjects], np.int32)[views.sequence],
        # Sessions may have cameras of their own: then a view is just a number.
        cameras={view: "/".join(n) if len(n) == 1 else f"view {view + 1}" for view, n in names.items()},
        groups=protocols.labels_of(split, views.record, views.sequence),
    )


def set_of(
    views: inference.Views,
    subjects: Int[np.ndarray, " n"],
    cameras: dict[int, str],
    groups: dict[str, np.ndarray],
) -> SearchSet:
    """n predicted views as queries and gallery, with what only their source knows; see `SearchSet`."""
    keys = retrieval.FrameKeys(
        views.sequence.astype(np.int32),
        views.time.astype(np.float32),
        views.camera.astype(np.int32),
        subjects.astype(np.int32),
    )
    return SearchSet(keys, views.true_canonical, cameras, groups)


def gallery_sizes(searched: SearchSet, rule: retrieval.ViewRule) -> Int[np.ndarray, "n c"]:
    """How many views each query may retrieve in each camera.

    Raises UserError when no query may retrieve anything.
    """
    sizes = np.zeros((len(searched), len(searched.cameras)), np.int64)
    for c, queries, _, rest in _in_each_camera(searched, rule):
        sizes[queries, c] = retrieval.allowed_counts(**rest)
    _refuse_empty(searched, rule, sizes)
    return sizes


def search(
    searched: SearchSet, features: Float[np.ndarray, "n d"], rule: retrieval.ViewRule, k: int = max(KS)
) -> Neighbours:
    """The k nearest allowed views by Euclidean distance of their features.

    Raises UserError when no query may retrieve anything.
    """
    neighbours = _empty_lists(searched, k)
    for c, queries, gallery, rest in _in_each_camera(searched, rule):
        indices, distance = retrieval.nearest(features[queries], features[gallery], k, **rest)
        neighbours.indices[queries, c] = np.where(indices >= 0, gallery[indices], -1)
        neighbours.distance[queries, c] = distance
        if (indices >= 0).any():
            neighbours.errors[:, c] = retrieval.retrieved_errors(
                searched.poses, searched.poses, neighbours.indices[:, c]
            )
    _refuse_empty(searched, rule, neighbours.indices >= 0)
    return neighbours


def oracle(
    searched: SearchSet, rule: retrieval.ViewRule, k: int = max(KS)
) -> tuple[Neighbours, retrieval.Candidates]:
    """The k allowed views with the smallest PA-MPJPE: what no method can beat.

    With it, from the same pass over all pairs, what each query may retrieve in each camera [n, c]: what `chance`
    draws from. Raises as `search` does.
    """
    neighbours = _empty_lists(searched, k)
    shape, poses = neighbours.indices.shape[:2], searched.poses
    candidates = retrieval.Candidates(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape))
    for c, queries, gallery, rest in _in_each_camera(searched, rule):
        indices, errors, allowed = retrieval.oracle_and_candidates(poses[queries], poses[gallery], k, **rest)
        neighbours.indices[queries, c] = np.where(indices >= 0, gallery[indices], -1)
        neighbours.distance[queries, c] = errors
        neighbours.errors[queries, c] = np.where(indices >= 0, errors, np.nan)
        for column, values in zip(candidates, allowed, strict=True):
            column[queries, c] = values
    _refuse_empty(searched, rule, neighbours.indices >= 0)
    return neighbours, candidates


def _empty_lists(searched: SearchSet, k: int) -> Neighbours:
    """Lists of length k for every query and camera, with nothing in them."""
    shape = (len(searched), len(searched.cameras), k)
    return Neighbours(
        np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32), np.full(shape, np.nan, np.float32)
    )


def _in_each_camera(
    searched: SearchSet, rule: retrieval.ViewRule
) -> Iterator[tuple[int, Int[np.ndarray, " q"], Int[np.ndarray, " g"], dict[str, Any]]]:
    """For each camera: its place, the views of the others, its own views, and rule and keys of the two."""
    for c, camera in enumerate(searched.cameras):
        inside = searched.seen_by(camera)
        queries, gallery = np.flatnonzero(~inside), np.flatnonzero(inside)
        q_keys, g_keys = (
            retrieval.FrameKeys(*(column[chosen] for column in searched.keys))
            for chosen in (queries, gallery)
        )
        yield c, queries, gallery, {"allowed": rule, "query_keys": q_keys, "gallery_keys": g_keys}


def _refuse_empty(searched: SearchSet, rule: retrieval.ViewRule, there: np.ndarray) -> None:
    if not there.any():
        raise UserError(
            f"the gallery is empty: none of the {len(searched):,} queries may retrieve a view of another camera "
            f"(subjects: {rule.subjects}, own instant: {'kept' if rule.same_instant else 'excluded'}, nearest "
            f"instants: {rule.min_gap:g} s away); change --gallery, --same_instant or --min_gap, or add views"
        )


def check_gallery(searched: SearchSet, sizes: Int[np.ndarray, "n c"], k: int) -> None:
    """Raises UserError when a camera has no k views for any query: K is larger than its gallery.

    A camera that no query may retrieve anything from is in no figure.
    """
    largest = sizes.max(axis=0)
    for name, views in zip(searched.cameras.values(), largest.tolist(), strict=True):
        if 0 < views < k:
            raise UserError(
                f"K={k} is larger than the gallery: camera {name} has at most {views} views that a query may "
                "retrieve; give smaller numbers to --ks, or search more instants"
            )


def ks_within(sizes: Int[np.ndarray, "n c"], ks: Sequence[int]) -> tuple[int, ...]:
    """The numbers of `ks` for which `check_gallery` raises nothing."""
    largest = sizes.max(axis=0)
    return tuple(k for k in ks if k <= largest[largest > 0].min())


def shorter_lists(sizes: Int[np.ndarray, "n c"], k: int) -> str:
    """How many lists of a query in a gallery camera are shorter than k: its exclusions left fewer views."""
    there = sizes > 0
    return f"{(there & (sizes < k)).sum():,} of {there.sum():,} lists of a query in a camera hold fewer than {k} views"


def score(searched: SearchSet, neighbours: Neighbours, ks: Sequence[int] = KS) -> Scores:
    """Mean PA-MPJPE@K and Hit@K of the neighbours, for each K of `ks`."""
    scale = retrieval.pose_scale(searched.poses)
    of_camera = [
        retrieval.figures_at_k(neighbours.errors[:, c], scale, ks) for c in range(len(searched.cameras))
    ]
    return _scores(searched, retrieval.figures_at_k(neighbours.pooled()[1], scale, ks), of_camera)


def chance(searched: SearchSet, candidates: retrieval.Candidates, ks: Sequence[int] = KS) -> Scores:
    """What retrieval at random is expected to give, exactly, by what each query may retrieve in each camera."""
    of_camera = [
        retrieval.chance(retrieval.Candidates(*(values[:, c] for values in candidates)), ks)
        for c in range(len(searched.cameras))
    ]
    pooled = retrieval.Candidates(*(values.sum(axis=1) for values in candidates))
    return _scores(searched, retrieval.chance(pooled, ks), of_camera)


def _scores(
    searched: SearchSet,
    pooled: Mapping[str, Float[np.ndarray, " n"]],
    of_camera: Sequence[Mapping[str, Float[np.ndarray, " n"]]],
) -> Scores:
    """Means of the figures of every query: in all cameras together, and in each; NaN where it was not asked."""
    everything = np.ones(len(searched), bool)
    matrices = {
        name: np.asarray(
            [[_mean(name, c[name], searched.seen_by(a)) for c in of_camera] for a in searched.cameras]
        )
        for name in pooled
    }
    asked = ~np.isnan(next(iter(pooled.values())))
    groups = {
        kind: {
            label: {"queries": int((asked & (labels == label)).sum())}
            | {name: _mean(name, values, labels == label) for name, values in pooled.items()}
            for label in dict.fromkeys(labels[asked].tolist())
        }
        for kind, labels in searched.groups.items()
    }
    return Scores(
        pooled={name: _mean(name, values, everything) for name, values in pooled.items()},
        averaged={name: float(np.nanmean(matrix)) for name, matrix in matrices.items()},
        pairs=matrices,
        groups=groups,
    )


def _mean(name: str, values: Float[np.ndarray, " n"], chosen: Bool[np.ndarray, " n"]) -> float:
    """Mean over the chosen queries that were asked, hits in percent; NaN when there are none."""
    asked = values[chosen & ~np.isnan(values)]
    return float(asked.mean()) * (100 if name.startswith("hit") else 1) if len(asked) else np.nan
