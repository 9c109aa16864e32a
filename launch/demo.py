"""The whole path on synthetic people, in minutes on a CPU: prepare, train, evaluate, retrieve, report.

One person has labels; nine others were recorded without any, each in a room and with cameras of their own. A baseline
learns from the one alone, MCSS from all.

    bash launch/demo.sh

Leaves runs/demo/report.html, the same figures as runs/demo/results.json, and a small model that launch.predict uses by
default (its card: runs/demo/mcss/MODEL.md). Interrupted, the same command continues.
"""

import dataclasses
import json
import time
from pathlib import Path

from launch.cli import flags, options, progress
from launch.cli.options import option
from launch.evaluation import evaluate
from launch.preparation import prepare
from launch.reports import comparison, demo_card, report
from launch.retrieval import retrieve
from launch.runs import run_folder, settings
from launch.training import train

EXPERIMENTS = Path(__file__).parent / "experiments"
METHODS = ("baseline", "mcss")


@dataclasses.dataclass(frozen=True)
class Demo:
    """See `python -m launch.demo --help`."""

    output: str = option("runs/demo", "Folder of the two runs, the report and the figures.", "Demo")
    data_dir: str = option("data", "Folder of prepared data sets.", "Demo")
    seed: int = option(0, "Seed of weights, batches and augmentation.", "Demo")


def _seconds_before(output: Path) -> float:
    """What an interrupted call had used already."""
    try:
        return float(json.loads((output / "seconds.json").read_text())["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0


def demo(config: Demo) -> Path:
    """Runs what is not done yet and returns the report's path."""
    output = Path(config.output).expanduser()
    start = time.perf_counter() - _seconds_before(output)
    configs = {
        method: flags.from_file(
            settings.Train,
            EXPERIMENTS / f"sessions_{method}.flags",
            workdir=str(output / method),
            data_dir=config.data_dir,
            seed=config.seed,
        )
        for method in METHODS
    }
    dataset = configs["mcss"].data.dataset
    progress.say(f"[1/4] synthetic people: {dataset} in {config.data_dir}")
    prepare.prepare(prepare.Prepare(dataset=dataset, data_dir=config.data_dir))
    for number, (method, run) in enumerate(configs.items(), start=2):
        updates, labels = run.optimiser.steps, run.data.labelled
        progress.say(f"[{number}/4] train {method}: {updates} updates, labels {labels}")
        trained = train.train(run)
        (output / "seconds.json").write_text(json.dumps({"seconds": time.perf_counter() - start}) + "\n")
        if not trained.finished:
            raise KeyboardInterrupt
    progress.say("[4/4] evaluate, retrieve and report on people never seen")
    compared = comparison.compare([str(output / method) for method in METHODS], "", config.data_dir, "test")
    first = compared.evaluated["baseline"]
    progress.say(
        evaluate.table({"mean pose": first.mean_pose} | {n: r.figures for n, r in compared.evaluated.items()})
    )
    progress.say(retrieve.table(compared.retrieval))
    run_folder.write_text(
        output / "mcss" / demo_card.FILE,
        demo_card.text(run_folder.open_run(output / "mcss"), compared.evaluated["mcss"]),
    )
    page = output / "report.html"
    report.write(
        compared,
        page,
        "MCSS demo",
        options.command("launch.demo", config),
        extra={"seconds": time.perf_counter() - start, "seed": config.seed},
    )
    return page.resolve()


def main(config: Demo) -> None:
    """Runs the demo and prints where its report is."""
    page = demo(config)
    seconds = json.loads((page.parent / "results.json").read_text())["seconds"]
    progress.say(
        f"done in {seconds / 60:.1f} minutes\nreport: {page}\nfigures: {page.parent / 'results.json'}"
    )


if __name__ == "__main__":
    flags.run(Demo, "launch.demo", __doc__ or "", main)
