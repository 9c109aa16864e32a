"""Charts of results as matplotlib figures, each narrow enough to be read on a telephone.

Lines and bars differ in more than their colour: in dashes and marks, or in place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from launch.pages import palette
from mcss_jax import skeleton

WIDTH, HEIGHT = 3.8, 2.8  # inches
_MARKS = "osD^vP"
_DASHES = ("-", "--", "-.", ":")
_BINS = 10


def colour(name: str, index: int = 0) -> str:
    """The same colour for the same method in every figure."""
    return palette.of_method(name, index).light


def dash(index: int) -> str:
    """The kind of line of a figure's series number `index`."""
    return _DASHES[index % len(_DASHES)]


def mark(index: int) -> str:
    """The mark of a figure's series number `index`."""
    return _MARKS[index % len(_MARKS)]


def chart(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty chart, inches wide and high."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(axes: Axes) -> None:
    """No frame above and to the right, faint lines behind for the heights."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=palette.GRID.light)
    axes.set_axisbelow(True)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[float]], ylabel: str) -> Figure:
    """One group of bars for each label, one bar of it for each series, its value on top."""
    figure, ax = chart()
    width = 0.8 / len(series)
    for i, (name, values) in enumerate(series.items()):
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(x, values, width * 0.94, label=name, color=colour(name, i))
        ax.bar_label(drawn, fmt="%.0f", fontsize=8, padding=1)
    ax.set_xticks(np.arange(len(groups)), groups)
    ax.set_ylabel(ylabel)
    plain(ax)
    figure.legend(frameon=False, ncols=min(3, len(series)), loc="outside upper left")
    return figure


def curve(logs: Mapping[str, Sequence[Mapping[str, Any]]], keys: Sequence[str], ylabel: str) -> Figure | None:
    """Scalars of training by step, a line for each run and key; None where no run logged one of them."""
    figure, ax = chart()
    for i, (name, log) in enumerate(logs.items()):
        for k, key in enumerate(keys):
            points = [(row["step"], row[key]) for row in log if row.get(key) is not None]
            if points:
                style = dash(k if len(keys) > 1 else i)
                label = f"{name}, {_last_word(key)}" if len(keys) > 1 else name
                ax.plot(
                    *zip(*points, strict=True),
                    style,
                    marker=mark(i) if len(points) < 30 else "",
                    ms=4,
                    color=colour(name, i),
                    label=label,
                )
    if not ax.lines:
        return None
    ax.set_xlabel("step")
    ax.set_ylabel(ylabel)
    plain(ax)
    figure.legend(frameon=False, ncols=2, loc="outside upper left", fontsize=8)
    return figure


def _last_word(key: str) -> str:
    return key.rpartition("/")[2].partition("_")[0]


def poses(columns: Mapping[str, Float[np.ndarray, "17 3"]]) -> Figure:
    """Camera-frame poses (x right, y down, z forward; mm) from two angles, a column each, all of one scale.

    Above as their camera sees them, below from its right: the same height, depth instead of width. The left side of
    the body has thick red lines, the right side thin blue ones.
    """
    figure = Figure(figsize=(1.05 * len(columns) + 0.2, 2.3), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False)
    everything = np.stack(list(columns.values()))
    low, high = everything.min(axis=(0, 1)), everything.max(axis=(0, 1))
    centre, half = (low + high) / 2, 0.53 * float((high - low).max())
    for column, (title, pose) in enumerate(columns.items()):
        for row, across in enumerate((0, 2)):
            _draw_skeleton(axes[row, column], (pose - centre)[:, [across, 1]], half)
        axes[0, column].set_title(title, fontsize=9, pad=3)
    for row, name in enumerate(("camera", "side")):
        axes[row, 0].set_ylabel(name, fontsize=9)
    return figure


def _draw_skeleton(ax: Axes, points: Float[np.ndarray, "17 2"], half: float) -> None:
    left, right = (set(side) for side in (skeleton.LEFT, skeleton.RIGHT))
    for joints, shade, thickness in (
        (left, palette.LEFT_SIDE, 2.4),
        (right, palette.RIGHT_SIDE, 1.2),
        (set(range(skeleton.NUM_JOINTS)) - left - right, palette.FAINT, 1.6),
    ):
        segments = [points[[parent, child]] for parent, child in skeleton.BONES if child in joints]
        ax.add_collection(
            LineCollection(segments, colors=shade.light, linewidths=thickness, capstyle="round")
        )
    ax.set(xlim=(-half, half), ylim=(half, -half), aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_color(palette.GRID.light)


def embedding_against_pose(
    name: str,
    index: int,
    pose_gap: Float[np.ndarray, " n"],
    embedding_gap: Float[np.ndarray, " n"],
    same: Bool[np.ndarray, " n"],
) -> Figure:
    """Distances between the embeddings of n pairs of views against those between their poses (PA-MPJPE, mm).

    Crosses are two views of the `same` instant. The line is the median, the band holds the middle 80 % of ten bins
    with equally many pairs of different instants.
    """
    figure, ax = chart()
    shade = colour(name, index)
    other = ~same
    ax.plot(pose_gap[other], embedding_gap[other], ".", ms=2.5, alpha=0.35, color=shade)
    ax.plot(
        pose_gap[same],
        embedding_gap[same],
        "x",
        ms=4,
        alpha=0.5,
        color=palette.INK.light,
        label="same instant",
    )
    bins = np.array_split(np.flatnonzero(other)[np.argsort(pose_gap[other], kind="stable")], _BINS)
    bins = [chosen for chosen in bins if len(chosen)]
    if bins:
        low, middle, high = np.transpose(
            [np.percentile(embedding_gap[chosen], (10, 50, 90)) for chosen in bins]
        )
        at = [float(np.median(pose_gap[chosen])) for chosen in bins]
        ax.fill_between(at, low, high, alpha=0.2, color=shade, linewidth=0)
        ax.plot(at, middle, "-", lw=2, color=shade, label="different instants, median")
    ax.set_xlabel("distance between poses (PA-MPJPE, mm)")
    ax.set_ylabel("distance between embeddings")
    ax.set_ylim(bottom=0)
    plain(ax)
    figure.legend(frameon=False, ncols=2, loc="outside upper left", fontsize=8)
    return figure


def along_time(
    time: Float[np.ndarray, " n"],
    asked: float,
    embedding_gaps: Mapping[str, Float[np.ndarray, " n"]],
    pose_gap: Float[np.ndarray, " n"],
) -> Figure:
    """How far one instant of one camera is from every instant of another: embeddings above, true poses below.

    `time` is in seconds, `asked` that of the instant (a dotted line), `pose_gap` PA-MPJPE in mm.
    """
    figure = Figure(figsize=(WIDTH, 1.4 * HEIGHT), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for i, (name, gap) in enumerate(embedding_gaps.items()):
        above.plot(time, gap, dash(i), color=colour(name, i), label=name)
    below.plot(time, pose_gap, color=colour("truth"), label="true poses")
    for ax, ylabel in ((above, "embeddings"), (below, "poses (PA-MPJPE, mm)")):
        ax.axvline(asked, color=palette.FAINT.light, lw=1, ls=":")
        ax.set_ylim(bottom=0)
        ax.set_ylabel(ylabel)
        plain(ax)
    below.set_xlabel("time in the sequence (s)")
    figure.legend(frameon=False, ncols=2, loc="outside upper left", fontsize=8)
    return figure
