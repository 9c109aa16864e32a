"""A supervision study on the page: error against label amount, gains, and the runs that are missing."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from launch import figures, study_results, study_summary
from launch import report_page as page
from launch.report_page import Section
from launch.study_results import Line

PLOTTED = ("pa_mpjpe", "mpjpe", "n_mpjpe")
_NAMES = ("results_test.jsonl", "results_validation.jsonl")


def result_file(path: str) -> Path:
    """The result file that `--study` names, or that of the folder of a study: of test people before validation.

    Raises FileNotFoundError when there is none.
    """
    named = Path(path).expanduser()
    found = [named] if named.is_file() else [named / name for name in _NAMES if (named / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f"--study={path} is neither a result file nor a folder with {' or '.join(_NAMES)}; python -m launch.study "
            "writes one"
        )
    return found[0]


def section(path: str) -> Section:
    """The section of a study's results; raises FileNotFoundError and ValueError as `study_results.read` does."""
    file = result_file(path)
    lines = study_results.read(file)
    if not any(line["status"] == "finished" for line in lines):
        raise ValueError(
            f"{file} has no finished run, of {len(lines)}; run python -m launch.study to its end"
        )
    amounts = list(dict.fromkeys(line["labelled"] for line in lines))
    drawn, tables = [], []
    for metric, name in study_summary.METRICS.items():
        table = study_summary.errors(lines, metric)
        if not any(spread.values for row in table.values() for spread in row.values()):
            continue
        if metric in PLOTTED:
            alt = f"{name} against label amount: {_said(table, amounts)}."
            drawn.append(page.chart(_curve(lines, metric, len(amounts)), alt))
        tables.append(page.table(name, ["", *amounts], _rows(table, amounts)))
        gained = study_summary.gains(lines, metric)
        if gained:
            caption = f"{name}: percent below the baseline with the same labels and seed"
            tables.append(page.table(caption, ["", *amounts], _rows(gained, amounts)))
    return Section(
        "Error against label amount",
        f"Means over seeds ± one standard deviation. {_about(lines)}",
        _missing(lines) + page.charts(drawn) + "".join(tables),
    )


def _curve(lines: Sequence[Line], metric: str, amounts: int) -> Figure:
    figure = study_summary.curve(lines, metric)
    figure.set_size_inches(max(figures.WIDTH, 0.7 * amounts), figures.HEIGHT)
    return figure


def _rows(table: study_summary.Table, amounts: Sequence[str]) -> list[list[str]]:
    return [
        [method, *(str(row[amount]) if amount in row else "-" for amount in amounts)]
        for method, row in table.items()
    ]


def _said(table: study_summary.Table, amounts: Sequence[str]) -> str:
    return "; ".join(
        f"{method} " + ", ".join(f"{amount} {row[amount]}" for amount in amounts if amount in row)
        for method, row in table.items()
    )


def _missing(lines: Sequence[Line]) -> str:
    absent = study_summary.missing(lines)
    if not absent:
        return ""
    items = "".join(f"<li>{page.escape(line)}</li>" for line in absent)
    return (
        f'<div class="missing"><p>{len(absent)} of {len(lines)} runs have no figures, and are in no mean:</p>'
        f"<ul>{items}</ul></div>"
    )


def _about(lines: Sequence[Line]) -> str:
    """Whom the finished runs were judged on and at which revision, each said once."""
    finished = [line for line in lines if line["status"] == "finished"]
    parts = [f"{len(finished)} of {len(lines)} runs finished"]
    for key, words in (("split", "judged on"), ("subjects", "people"), ("revision", "revision")):
        values = [line[key] for line in finished if line.get(key)]
        texts = dict.fromkeys(", ".join(v) if isinstance(v, list) else str(v) for v in values)
        if texts:
            parts.append(f"{words} {'; '.join(texts)}")
    return "; ".join(parts) + "."
