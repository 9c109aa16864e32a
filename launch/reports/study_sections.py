"""A supervision study on the page: error against label amount, gains, the runs that are missing, and the protocol."""

from collections.abc import Sequence
from pathlib import Path

from launch.pages import page
from launch.pages.page import Section
from launch.reports import study_protocol
from launch.studies import figures, summary
from launch.studies import results as study_results
from launch.studies.results import Line
from mcss_jax.errors import UserError

PLOTTED = ("pa_mpjpe", "mpjpe", "n_mpjpe")
_NAMES = ("results_test.jsonl", "results_validation.jsonl")
_UNJUDGED = "results_none.jsonl"


def result_file(path: str) -> Path:
    """The result file that `--study` names, or that of the folder of a study: of test people before validation.

    Raises UserError when there is none, or nobody has judged the runs.
    """
    named = Path(path).expanduser()
    files = [named] if named.is_file() else [named / name for name in _NAMES if (named / name).is_file()]
    if not files and (named / _UNJUDGED).is_file():
        raise _unjudged(named / _UNJUDGED)
    if not files:
        raise UserError(
            f"--study={path} is neither a result file nor a folder with {' or '.join(_NAMES)}; python -m launch.study "
            "writes one"
        )
    return files[0]


def _unjudged(file: Path) -> UserError:
    return UserError(
        f"{file} is of runs that nobody has judged; run python -m launch.study with --judge=validation or --judge=test"
    )


def read(path: str) -> list[Line]:
    """The lines of the study that `--study` names.

    Raises UserError as `result_file`, `study_results.read` and `study_results.refuse_mixture` do, and when there is no
    figure among them.
    """
    file = result_file(path)
    lines = study_results.read(file)
    finished = [line for line in lines if line["status"] == "finished"]
    if not finished:
        raise UserError(f"{file} has no finished run, of {len(lines)}; run python -m launch.study to its end")
    if not any(metric in line for line in finished for metric in summary.METRICS):
        raise _unjudged(file)
    study_results.refuse_mixture(file, lines)
    return lines


def sections(lines: Sequence[Line]) -> list[Section]:
    """The results of a study and its protocol."""
    return [results(lines), study_protocol.section(lines)]


def results(lines: Sequence[Line]) -> Section:
    """Tables and figures of what is there, after what is missing."""
    amounts = study_results.labels_of(lines)
    drawn, tables = [], []
    for metric, name in summary.METRICS.items():
        table = summary.errors(lines, metric)
        if not any(spread.values for row in table.values() for spread in row.values()):
            continue
        if metric in PLOTTED:
            alt = f"{name} against label amount: {_values_text(table, amounts)}."
            drawn += [page.chart(figure, alt) for figure in figures.drawn(lines, metric).values()]
        tables.append(page.table(name, ["", *amounts], _rows(table, amounts)))
        gained = summary.gains(lines, metric)
        if gained:
            caption = f"{name}: percent below the baseline with the same labels and seed"
            tables.append(page.table(caption, ["", *amounts], _rows(gained, amounts)))
    return Section(
        "Error against label amount",
        f"Means over seeds ± one standard deviation. {_about(lines)}",
        _missing(lines) + page.charts(drawn) + "".join(tables),
    )


def _rows(table: summary.Table, amounts: Sequence[str]) -> list[list[str]]:
    return [
        [method, *(str(row[amount]) if amount in row else "-" for amount in amounts)]
        for method, row in table.items()
    ]


def _values_text(table: summary.Table, amounts: Sequence[str]) -> str:
    return "; ".join(
        f"{method} " + ", ".join(f"{amount} {row[amount]}" for amount in amounts if amount in row)
        for method, row in table.items()
    )


def _missing(lines: Sequence[Line]) -> str:
    absent = summary.missing(lines)
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
