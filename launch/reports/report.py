"""The report as one page, and the figures beside it."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.cli import progress
from launch.cli.options import option
from launch.pages import page as report_page
from launch.reports import commands as report_commands
from launch.reports import mined, pictures, study_protocol, study_sections
from launch.reports import sections as report_sections
from launch.reports.comparison import Compared
from launch.runs import run_folder
from launch.studies.results import Line


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
        sections += study_sections.sections(study)
    if compared is not None:
        makers = (
            report_sections.groups,
            report_sections.learning,
            lambda compared: mined.section(compared.mined),
            report_sections.retrieved,
            pictures.retrieved,
            report_sections.embeddings,
            pictures.skeletons,
            report_sections.protocol,
        )
        made = [make(compared) for make in progress.bar(makers, "draw the report", "section")]
        sections += [section for section in made if section is not None]
    commands = study_protocol.commands(study) if study else []
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
