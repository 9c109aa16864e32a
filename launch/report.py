"""One self-contained page about trained runs, a supervision study, or both: figures, plots, pictures, protocol.

    python -m launch.report --runs=runs/demo/baseline,runs/demo/mcss --output=runs/demo/report.html
    python -m launch.report --study=runs/study

The runs are compared on people none of them saw; the figures of a study are read from its result file. The page loads
nothing from elsewhere and runs no script.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import (
    evaluate,
    flags,
    progress,
    report_commands,
    report_page,
    report_pictures,
    report_sections,
    report_study,
    report_study_protocol,
    retrieve,
    run_folder,
)
from launch.comparison import Compared, compare
from launch.flags import option
from launch.study_results import Line

__all__ = ["Compared", "Report", "compare", "main", "page", "write"]


@dataclasses.dataclass(frozen=True)
class Report:
    """See `python -m launch.report --help`."""

    runs: str = option("", "Folders of the runs to compare, separated by commas.", "Content")
    study: str = option("", "Folder of a supervision study, or one of its result files.", "Content")
    output: str = option(
        "report.html", "Page to write; the runs' figures go beside it as results.json.", "Content"
    )
    dataset: str = option("", "Prepared data set; by default the one the first run was trained on.", "Data")
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", "Data")
    split: str = option("test", "Split of unseen people.", "Data")
    stride: int = option(1, "Use every n-th instant.", "Data")


def page(compared: Compared | None, title: str, command: str, study: Sequence[Line] = ()) -> str:
    """The report as one HTML file; `command` is what makes it again, `study` are the lines of a study."""
    lead, sections = "", []
    if compared is not None:
        lead = report_sections.headline(compared)
        sections.append(report_sections.errors(compared))
    if study:
        sections += report_study.sections(study)
    if compared is not None:
        makers = (
            report_sections.groups,
            report_sections.learning,
            report_sections.retrieved,
            report_pictures.retrieved,
            report_sections.embeddings,
            report_pictures.skeletons,
            report_sections.protocol,
        )
        sections += [make(compared) for make in progress.bar(makers, "draw the report", "section")]
    commands = report_study_protocol.commands(study) if study else []
    sections.append(report_commands.section(compared, command, commands))
    return report_page.document(title, lead, sections)


def write(
    compared: Compared | None,
    output: Path,
    title: str,
    command: str,
    *,
    extra: dict[str, Any] | None = None,
    study: Sequence[Line] = (),
) -> None:
    """Writes the page and, where it compares runs, `results.json` beside it: their figures and `extra`."""
    run_folder.write_text(output, page(compared, title, command, study))
    if compared is not None:
        results = compared.results | (extra or {})
        run_folder.write_text(output.parent / "results.json", json.dumps(results, indent=2) + "\n")


def main(config: Report) -> None:
    """Compares the runs, reads the study, and names the page."""
    folders = [folder for folder in config.runs.split(",") if folder]
    if not folders and not config.study:
        raise ValueError(
            "--runs is missing; name the folders of the runs to compare, separated by commas, or a study with --study"
        )
    study = report_study.read(config.study) if config.study else []
    compared = None
    if folders:
        compared = compare(folders, config.dataset, config.data_dir, config.split, config.stride)
        progress.say(evaluate.table({name: result.figures for name, result in compared.evaluated.items()}))
        progress.say(retrieve.table(compared.retrieval))
    output = Path(config.output).expanduser()
    title = "MCSS: comparison of runs" if folders else "MCSS: supervision study"
    write(compared, output, title, report_commands.command("launch.report", config), study=study)
    progress.say(f"report: {output.resolve()}")


if __name__ == "__main__":
    flags.run(Report, "launch.report", __doc__ or "", main)
