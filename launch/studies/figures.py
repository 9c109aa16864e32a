"""Figures of a study: error against label amount, and ablations and controls beside what they are compared with."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from launch.pages import figures, palette
from launch.studies import summary
from launch.studies.results import Line, labels_of, methods_of
from launch.studies.summary import CONTROL, METRICS, Table, errors


def drawn(lines: Sequence[Line], metric: str = "pa_mpjpe") -> dict[str, Figure]:
    """The figures of one metric by name: `error`, and `ablations` and `unlabelled` where there are any."""
    others = {"ablations": ablations(lines, metric), "unlabelled": unlabelled(lines, metric)}
    return {"error": curve(lines, metric)} | {
        name: drawn for name, drawn in others.items() if drawn is not None
    }


def _amounts(lines: Sequence[Line]) -> dict[str, set[str]]:
    """Label amounts by method."""
    return {
        method: {line["labelled"] for line in lines if line["method"] == method}
        for method in methods_of(lines)
    }


def _everywhere(lines: Sequence[Line]) -> set[str]:
    """The methods that run with as many label amounts as any; the others are ablations and controls."""
    amounts = _amounts(lines)
    largest = max(map(len, amounts.values()), default=0)
    return {method for method, labelled in amounts.items() if len(labelled) == largest}


def curve(lines: Sequence[Line], metric: str = "pa_mpjpe") -> Figure:
    """Error against label amount: means of the finished runs, bars of one standard deviation over seeds.

    Of the methods that run with as many label amounts as any.
    """
    everywhere = _everywhere(lines)
    amounts = labels_of(lines)
    table = errors([line for line in lines if line["method"] in everywhere], metric)
    figure, ax = figures.chart(max(figures.WIDTH, 0.7 * len(amounts)))
    for i, (method, row) in enumerate(table.items()):
        # Beside each other, so that bars do not hide each other.
        offset = 0.06 * (i - (len(table) - 1) / 2)
        points = [
            (x + offset, row[amount].mean, row[amount].sd or 0.0)
            for x, amount in enumerate(amounts)
            if amount in row and row[amount].mean is not None
        ]
        if points:
            x, mean, sd = zip(*points, strict=True)
            ax.errorbar(
                x,
                mean,
                yerr=sd,
                fmt=figures.mark(i) + figures.dash(i),
                ms=4,
                capsize=3,
                label=method,
                color=figures.colour(method, i),
            )
    # Several people under each other, or long lists would run into their neighbours.
    names = ["\n".join(textwrap.wrap(amount.replace(",", ", "), 7)) for amount in amounts]
    ax.set_xticks(range(len(amounts)), names)
    ax.set_xlabel("labels")
    ax.set_ylabel(METRICS[metric])
    done = sum(line["status"] == "finished" for line in lines)
    if done < len(lines):
        ax.set_title(f"{done} of {len(lines)} runs finished", fontsize=9)
    figures.plain(ax)
    if ax.containers:
        figure.legend(frameon=False, ncols=3, loc="outside upper left", fontsize=8)
    return figure


def ablations(lines: Sequence[Line], metric: str = "pa_mpjpe") -> Figure | None:
    """Errors of methods that run with fewer label amounts, beside the others with the same labels and seeds.

    Means, bars of one standard deviation over seeds, the mean written beside. None where no such run is finished.
    """
    others = [line for line in lines if line["method"] not in _everywhere(lines)]
    cells = {(line["labelled"], line["seed"]) for line in others}
    if not any(line["status"] == "finished" and metric in line for line in others):
        return None
    table = errors([line for line in lines if (line["labelled"], line["seed"]) in cells], metric)
    table.pop(CONTROL, None)  # so far away that the differences between the others could not be seen
    amounts = labels_of(others)
    figure, ax = figures.chart(figures.WIDTH, 0.9 + 0.2 * len(table) * len(amounts))
    for i, amount in enumerate(amounts):
        _column(ax, table, amount, i, len(amounts))
    ax.set_yticks(range(len(table)), list(table))
    ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.locator_params(axis="x", nbins=4)
    ax.set_xlabel(METRICS[metric])
    figures.plain(ax)
    ax.grid(axis="x", color=palette.GRID.light)
    seeds = ", ".join(map(str, sorted({seed for _, seed in cells})))
    title = f"labels {amounts[0]}, " if len(amounts) == 1 else ""
    figure.suptitle(f"{title}seed {seeds}", fontsize=9)
    if len(amounts) > 1:
        figure.legend(frameon=False, ncols=3, loc="outside lower left", fontsize=8)
    return figure


def unlabelled(lines: Sequence[Line], metric: str = "pa_mpjpe") -> Figure | None:
    """Error against the minutes that were recorded without labels, of runs that differ from MCSS in nothing else.

    Whole recordings of fewer people, and shorter ones of all people; means, bars of one standard deviation over seeds.
    None where there are not two amounts.
    """
    amounts = summary.by_unlabelled(lines, metric)
    if len(amounts) < 2:
        return None
    everybody = max(amount.people for amount in amounts)
    figure, ax = figures.chart()
    for i, (name, of_all) in enumerate((("fewer people", False), ("shorter recordings", True))):
        chosen = [a for a in amounts if (a.people == everybody) == of_all or a.whole]
        if len(chosen) < 2:
            continue
        ax.errorbar(
            [amount.minutes for amount in chosen],
            [amount.error.mean or 0.0 for amount in chosen],
            yerr=[amount.error.sd or 0.0 for amount in chosen],
            fmt=figures.mark(i) + figures.dash(i),
            ms=4,
            capsize=3,
            label=name,
            color=figures.colour("mcss" if not of_all else "", i),
        )
    for amount in amounts:
        if amount.error.mean is not None:
            ax.annotate(
                f"{amount.people} people" if amount.people > 1 else "1 person",
                (amount.minutes, amount.error.mean),
                xytext=(4, 4),
                textcoords="offset points",
                fontsize=7,
            )
    ax.set_xscale("log")
    ax.set_xticks([amount.minutes for amount in amounts], [f"{amount.minutes:.2g}" for amount in amounts])
    ax.minorticks_off()
    ax.set_xlabel("minutes recorded without labels")
    ax.set_ylabel(METRICS[metric])
    figures.plain(ax)
    figure.legend(frameon=False, ncols=2, loc="outside upper left", fontsize=8)
    return figure


def _column(ax: Axes, table: Table, amount: str, index: int, count: int) -> None:
    """The points of one label amount, a method each."""
    label = amount
    for y, (method, row) in enumerate(table.items()):
        spread = row.get(amount)
        if spread is None or spread.mean is None:
            continue
        at = y + 0.8 * ((index + 0.5) / count - 0.5)
        shade = figures.colour(method, y)
        ax.errorbar(
            spread.mean,
            at,
            xerr=spread.sd,
            fmt=figures.mark(index),
            ms=5,
            capsize=3,
            color=shade,
            label=label,
        )
        ax.annotate(
            f"{spread.mean:.1f}", (spread.mean, at), xytext=(7, 3), textcoords="offset points", fontsize=7
        )
        label = "_"  # one entry of the legend an amount
