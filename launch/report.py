"""One self-contained page about trained runs, a supervision study, or both: figures, plots, pictures, protocol.

    python -m launch.report --runs=runs/demo/baseline,runs/demo/mcss --output=runs/demo/report.html
    python -m launch.report --study=runs/study

The runs are compared on people none of them saw; the figures of a study are read from its result file. The page loads
nothing from elsewhere and runs no script.
"""

from pathlib import Path

from launch.cli import flags, options, progress
from launch.evaluation import evaluate
from launch.reports import study_sections
from launch.reports.comparison import compare
from launch.reports.report import Report, write
from launch.retrieval import retrieve
from mcss_jax.errors import UserError


def main(config: Report) -> None:
    """Compares the runs, reads the study, and names the page."""
    folders = [folder for folder in config.runs.split(",") if folder]
    if not folders and not config.study:
        raise UserError(
            "--runs is missing; name the folders of the runs to compare, separated by commas, or a study with --study"
        )
    study = study_sections.read(config.study) if config.study else []
    compared = None
    if folders:
        compared = compare(folders, config.dataset, config.data_dir, config.split, config.stride)
        progress.say(evaluate.table({name: result.figures for name, result in compared.evaluated.items()}))
        progress.say(retrieve.table(compared.retrieval))
    output = Path(config.output).expanduser()
    title = "MCSS: comparison of runs" if folders else "MCSS: supervision study"
    write(compared, output, title, options.command("launch.report", config), study=study)
    progress.say(f"report: {output.resolve()}")


if __name__ == "__main__":
    flags.run(Report, "launch.report", __doc__ or "", main)
