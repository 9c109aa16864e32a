"""The pictures of a report: predicted skeletons beside the truth, queries beside what was retrieved for them."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from datasets.tuples.records import decode_jpeg, encode_jpeg
from launch.evaluation import protocols
from launch.evaluation.inference import Views
from launch.pages import figures, page
from launch.pages.page import Section
from launch.reports.comparison import TRUTH, Compared
from mcss_jax import geometry, metrics
from mcss_jax.search import retrieval

TYPICAL = 6  # examples, one an action
WORST = 3  # of every run, each of another sequence
SHOWN = 5  # nearest views of a query
_SIDE = 128  # pixels of a shown picture at most


def skeletons(compared: Compared) -> Section:
    """Predicted poses beside the truth from two angles: examples action by action, then every run's worst."""
    views = compared.first.views
    parts = [page.heading("Action by action"), _cards(compared, one_per_action(compared, views, TYPICAL))]
    for name, of_run in compared.views.items():
        errors = np.asarray(metrics.pa_mpjpe(of_run.in_camera, of_run.true_in_camera))
        parts += [page.heading(f"The worst of {name}"), _cards(compared, worst(views, errors, WORST))]
    return Section(
        "Predicted skeletons",
        "Aligned to the truth (similarity Procrustes, as PA-MPJPE has it); above as the camera sees them, below from "
        "the side. The body's left has thick red lines, its right thin blue ones. Numbers: PA-MPJPE in millimetres.",
        "".join(parts),
    )


def _cards(compared: Compared, chosen: Iterable[int]) -> str:
    return f'<div class="cards">{"".join(_card(compared, index) for index in chosen)}</div>'


def _card(compared: Compared, index: int) -> str:
    truth = compared.first.views.true_in_camera[index]
    columns = {TRUTH: truth}
    for name, views in compared.views.items():
        predicted = views.in_camera[index]
        error = float(metrics.pa_mpjpe(predicted, truth))
        columns[f"{name} {error:.0f}"] = np.asarray(geometry.align(predicted, truth))
    where = _where(compared, index)
    drawn = page.chart(figures.poses(columns), f"Skeletons of {where}, PA-MPJPE in mm: {', '.join(columns)}.")
    return f"<figure>{_picture(compared, index, where)}{drawn}<figcaption>{page.escape(where)}</figcaption></figure>"


def retrieved(compared: Compared) -> Section:
    """Queries beside the nearest views of other cameras: one an action, then those that every run does worst on."""
    views = compared.first.views
    parts = [page.heading("Action by action")]
    parts += [_query(compared, index) for index in one_per_action(compared, views, TYPICAL)]
    for name in compared.evaluated:
        errors = np.nan_to_num(compared.nearest[name].errors[:, 0], nan=-np.inf)
        parts.append(page.heading(f"The worst of {name}"))
        parts += [_query(compared, index) for index in worst(views, errors, WORST)]
    return Section(
        "Queries and their nearest views",
        "Left the query, then what each run finds nearest in the other cameras, and the best by true pose. "
        f"✓ and a full green frame: right (NP-MPJPE at most {retrieval.MATCH_THRESHOLD}); ✗ and a dashed red frame: "
        "wrong. Numbers: PA-MPJPE in millimetres.",
        "".join(parts),
    )


def _query(compared: Compared, query: int) -> str:
    limit = retrieval.MATCH_THRESHOLD * float(
        retrieval.pose_scale(compared.first.views.true_canonical[query])
    )
    where = _where(compared, query)
    methods = "".join(
        f"<div><h4>{page.escape(name)}</h4>{_strip(compared, name, query, limit)}</div>"
        for name in compared.nearest
    )
    shown = _picture(compared, query, f"Query: {where}")
    return (
        f'<div class="query"><p class="where">{page.escape(where)}</p>{shown}'
        f'<div class="methods">{methods}</div></div>'
    )


def _strip(compared: Compared, name: str, query: int, limit: float) -> str:
    nearest = compared.nearest[name]
    parts = []
    for index, error in zip(nearest.indices[query, :SHOWN], nearest.errors[query, :SHOWN], strict=True):
        if index < 0:
            continue
        mark, verdict = ("✓", "right") if error <= limit else ("✗", "wrong")
        alt = f"{verdict}, {error:.0f} mm: {_where(compared, int(index))}"
        parts.append(
            f'<figure class="{verdict}">{_picture(compared, int(index), alt)}'
            f"<figcaption>{mark} {error:.0f}</figcaption></figure>"
        )
    return (
        f'<div class="strip">{"".join(parts)}</div>' if parts else page.paragraph("nothing may be retrieved")
    )


def one_per_action(compared: Compared, views: Views, count: int) -> list[int]:
    """`count` views, action after action, from the middle of its sequences, cameras in turn."""
    actions = np.asarray([row.action for row in compared.split.table])[views.sequence]
    names = list(dict.fromkeys(actions))
    chosen = []
    for i in range(count):
        of_action = np.flatnonzero(actions == names[i % len(names)])
        cameras = np.unique(views.camera[of_action])
        of_view = of_action[views.camera[of_action] == cameras[i % len(cameras)]]
        chosen.append(int(of_view[(i + 1) * len(of_view) // (count + 1)]))
    return chosen


def worst(views: Views, errors: Float[np.ndarray, " n"], count: int) -> list[int]:
    """The views with the largest errors, worst first, each of another sequence: neighbours in time look alike."""
    order: Int[np.ndarray, " n"] = np.argsort(-errors, kind="stable")
    _, first = np.unique(views.sequence[order], return_index=True)
    return [int(index) for index in order[np.sort(first)[:count]]]


def _picture(compared: Compared, index: int, alt: str) -> str:
    views = compared.first.views
    data = compared.split[int(views.record[index])]["images"][int(views.camera[index])]
    if compared.split.stored_size > _SIDE:
        data = encode_jpeg(decode_jpeg(data, _SIDE))
    return page.picture(data, alt)


def _where(compared: Compared, index: int) -> str:
    """Sequence, camera and time of a view."""
    views = compared.first.views
    record = compared.split[int(views.record[index])]
    name = protocols.sequence_name(compared.split.table[views.sequence[index]])
    camera = record["camera"][int(views.camera[index])].decode()
    return f"{name}, {camera}, {views.time[index]:.1f} s"
