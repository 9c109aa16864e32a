"""Pictures of results: bars, curves, skeletons and retrieval grids, as matplotlib figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from launch import inference
from mcss_jax import geometry, metrics, retrieval, skeleton

matplotlib.use("agg")

COLOURS = {"mean pose": "#9aa3ad", "baseline": "#d1803c", "mcss": "#2f6f9f", "truth": "#2e7d4f"}
_LEFT, _RIGHT, _MIDDLE = "#c0392b", "#2f6f9f", "#555555"
_FALLBACK = ("#7b5ea7", "#3a9d8f", "#b8507d", "#6b7d2e")


def colour(name: str, index: int = 0) -> str:
    """The same colour for the same method in every figure."""
    return COLOURS.get(name, _FALLBACK[index % len(_FALLBACK)])


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.atleast_2d(figure.subplots(rows, columns, squeeze=False))


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e5e7ea")
    axes.set_axisbelow(True)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """One group of bars for each label, one bar of it for each series, its value on top."""
    figure, axes = _figure(max(6.0, 1.1 * len(groups) * len(series) ** 0.5 + 1), 3.4)
    ax = axes[0, 0]
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(x, values, width * 0.94, label=name, color=colour(name, i))
        ax.bar_label(drawn, fmt="%.0f", fontsize=8, padding=1)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set_ylabel(ylabel)
    _plain(ax)
    ax.legend(frameon=False, ncols=len(series), loc="upper left", bbox_to_anchor=(0, 1.14))
    return figure


def curves(logs: dict[str, list[dict[str, Any]]]) -> Figure:
    """Training by step: validation PA-MPJPE, pose loss, and positive against negative distances."""
    figure, axes = _figure(11, 3.2, 1, 3)
    wanted = (
        ("validation PA-MPJPE (mm)", {"validation/pa_mpjpe": "-"}),
        ("training pose loss", {"train/loss_pose": "-"}),
        ("pair distance (solid: same instant, dashed: mined)",
         {"train/positive_distance": "-", "train/negative_distance": "--"}),
    )  # fmt: skip
    for ax, (title, keys) in zip(axes[0], wanted, strict=True):
        for i, (name, log) in enumerate(logs.items()):
            for key, style in keys.items():
                points = [(row["step"], row[key]) for row in log if row.get(key) is not None]
                if points:
                    marker = "o" if "validation" in key else None
                    ax.plot(
                        *zip(*points, strict=True),
                        style,
                        marker=marker,
                        ms=3,
                        color=colour(name, i),
                        label=name,
                    )
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("step")
        _plain(ax)
    if axes[0, 0].lines:
        axes[0, 0].legend(frameon=False)
    return figure


def draw_skeleton(ax: Axes, pose: Float[np.ndarray, "17 3"], limit: float, *, alpha: float = 1.0) -> None:
    """A camera-frame pose seen by its camera (x right, y down, mm): left side red, right side blue."""
    for parent, child in skeleton.BONES:
        side = _LEFT if child in skeleton.LEFT else _RIGHT if child in skeleton.RIGHT else _MIDDLE
        ax.plot(
            pose[[parent, child], 0],
            pose[[parent, child], 1],
            color=side,
            lw=2,
            alpha=alpha,
            solid_capstyle="round",
        )
    ax.set_xlim(-limit, limit)
    ax.set_ylim(limit, -limit)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color("#e0e3e7")


def _show(ax: Axes, image: UInt8[np.ndarray, "s s 3"], border: str = "#e0e3e7") -> None:
    ax.imshow(image, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color(border)
    ax.spines[:].set_linewidth(2.5)


def predictions(
    images: UInt8[np.ndarray, "n s s 3"], truth: Float[np.ndarray, "n 17 3"], predicted: dict[str, np.ndarray]
) -> Figure:
    """Pictures, the true pose and every method's, aligned to the truth (PA), as their camera sees them."""
    count = len(images)
    figure, axes = _figure(1.35 * count, 1.45 * (2 + len(predicted)), 2 + len(predicted), count)
    limit = 1.05 * float(np.abs(truth[..., :2]).max())
    for i in range(count):
        _show(axes[0, i], images[i])
        draw_skeleton(axes[1, i], truth[i], limit)
    axes[0, 0].set_ylabel("picture", fontsize=9)
    axes[1, 0].set_ylabel("truth", fontsize=9)
    for row, (name, poses) in enumerate(predicted.items(), start=2):
        aligned = np.asarray(geometry.align(poses, truth))
        errors = np.asarray(metrics.pa_mpjpe(poses, truth))
        for i in range(count):
            draw_skeleton(axes[row, i], aligned[i], limit)
            axes[row, i].set_title(f"{errors[i]:.0f} mm", fontsize=8, pad=2)
        axes[row, 0].set_ylabel(name, fontsize=9)
    return figure


def retrieved(
    pictures: Any,
    queries: Sequence[int],
    found: dict[str, np.ndarray],
    views: inference.Views,
    shown: int = 5,
) -> Figure:
    """Queries and what each method retrieves for them from other cameras.

    `pictures(i)` is the picture of view i. A green frame is a match in Pr-VIPE's sense (NP-MPJPE at most 0.1); the
    number is the PA-MPJPE in millimetres.
    """
    methods = list(found)
    figure, axes = _figure(
        1.25 * (1 + shown * len(methods)), 1.4 * len(queries), len(queries), 1 + shown * len(methods)
    )
    for row, query in enumerate(queries):
        _show(axes[row, 0], pictures(query), "#222222")
        if row == 0:
            axes[row, 0].set_title("query", fontsize=9)
        scale = float(retrieval.pose_scale(views.true_canonical[query]))
        for m, name in enumerate(methods):
            for rank in range(shown):
                ax = axes[row, 1 + m * shown + rank]
                index = int(found[name][query, rank])
                if index < 0:
                    ax.set_axis_off()
                    continue
                error = float(metrics.pa_mpjpe(views.true_canonical[index], views.true_canonical[query]))
                match = error <= retrieval.MATCH_THRESHOLD * scale
                _show(ax, pictures(index), "#2e9e5b" if match else "#d8dbe0")
                ax.set_xlabel(f"{error:.0f}", fontsize=8, labelpad=1)
                if row == 0 and rank == shown // 2:
                    ax.set_title(name, fontsize=10, color=colour(name))
    return figure


def distances(views: dict[str, inference.Views], seed: int = 0) -> Figure:
    """How far apart embeddings lie: the same instant in two cameras, against different instants."""
    figure, axes = _figure(4.2 * len(views), 2.8, 1, len(views))
    rng = np.random.default_rng(seed)
    for ax, (name, v) in zip(axes[0], views.items(), strict=True):
        order = np.lexsort((v.camera, v.record))
        next_view = np.roll(order, -1)
        same = v.record[order] == v.record[next_view]
        a, b = order[same], next_view[same]
        c, d = rng.integers(0, len(v), (2, 4000))
        other = v.record[c] != v.record[d]
        bins = np.linspace(0, 2, 60)
        for label, (i, j), tint in (
            ("same instant, other camera", (a, b), colour("truth")),
            ("different instants", (c[other], d[other]), "#9aa3ad"),
        ):
            gap = np.linalg.norm(v.embedding[i] - v.embedding[j], axis=1)
            ax.hist(gap, bins, density=True, alpha=0.65, color=tint, label=label)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("distance of embeddings")
        ax.set_yticks([])
        _plain(ax)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def camera_pairs(pairs: dict[str, np.ndarray]) -> Figure:
    """PA-MPJPE@1 by query and gallery camera."""
    figure, axes = _figure(3.3 * len(pairs), 3.0, 1, len(pairs))
    high = max(np.nanmax(matrix) for matrix in pairs.values())
    for ax, (name, matrix) in zip(axes[0], pairs.items(), strict=True):
        ax.imshow(matrix, cmap="viridis_r", vmin=0, vmax=high)
        for i, j in np.ndindex(*matrix.shape):
            if np.isfinite(matrix[i, j]):
                ax.text(j, i, f"{matrix[i, j]:.0f}", ha="center", va="center", color="white", fontsize=9)
        ax.set_xticks(range(len(matrix)))
        ax.set_yticks(range(len(matrix)))
        ax.set_xlabel("gallery camera")
        ax.set_ylabel("query camera")
        ax.set_title(name, fontsize=10)
    return figure
