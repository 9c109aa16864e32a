"""The supervision study: methods x label amounts x seeds on any prepared data set or stream.

    python -m launch.study --flagfile=launch/experiments/supervision_demo.flags
    python -m launch.study --flagfile=launch/experiments/supervision_demo.flags --judge=test

The same command again does what is left: a finished run is never redone, an interrupted one goes on where it was, a
failed one is tried again. Begun several times at once, on one machine or on several with a common file system, it
shares the runs out. Every choice is made on validation people; those of the test are read once, by the second
command, when every run of the grid is finished.

WORKDIR/runs/ holds the folders of the runs; results_JUDGE.jsonl, one line a run; summary_JUDGE.json and
error_JUDGE.png, what they say together.
"""

import contextlib
import dataclasses
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax

from datasets import pipeline
from launch import (
    flags,
    labelled,
    locks,
    progress,
    run_folder,
    settings,
    streamed,
    study_judge,
    study_plan,
    study_results,
    study_runs,
    study_summary,
)
from launch.flags import option
from launch.study_plan import PlannedRun

GRID, ABLATIONS, JUDGING, RUN = "Grid", "Ablations and controls", "Judging", "Study"


@dataclasses.dataclass(frozen=True)
class Study:
    """See `python -m launch.study --help`."""

    base: str = option(
        "", "Flag file of launch.train with the settings that the methods start from. Required.", RUN
    )
    workdir: str = option("", "Folder of the study. Required.", RUN)
    data_dir: str = option("", "Folder of prepared data sets; by default that of --base.", RUN)
    dry_run: bool = option(False, "List the runs and how far each one is; do nothing.", RUN)

    methods: str = option(
        "baseline,mcss", f"Methods, separated by commas: {', '.join(study_plan.METHODS)}.", GRID
    )
    amounts: str = option(
        "S1:0.05 S1:0.2 S1 S1,S5 all", "Label amounts, separated by spaces, each as for --labelled.", GRID
    )
    seeds: str = option("0,1,2", "Seeds, separated by commas.", GRID)

    ablations: str = option("", "Methods that run with fewer amounts and seeds; empty for none.", ABLATIONS)
    ablations_amounts: str = option("S1", "Their label amounts.", ABLATIONS)
    ablations_seeds: str = option("0", "Their seeds.", ABLATIONS)

    judge: Literal["validation", "test", "none"] = option(
        "validation",
        "validation: people on whom every choice is made; test: those who are read once, when every run is finished; "
        "none: train only, for data sets without validation people.",
        JUDGING,
    )
    every: int = option(0, "As of launch.evaluate: frames whose number is a multiple of this.", JUDGING)
    stride: int = option(1, "Of these instants, every n-th.", JUDGING)
    damaged: Literal["keep", "drop"] = option("keep", "Takes with a known defect: keep, or drop.", JUDGING)


def planned(config: Study) -> tuple[PlannedRun, ...]:
    """The runs of a study. Raises ValueError and FileNotFoundError for flags that describe none."""
    for name in ("base", "workdir"):
        if not getattr(config, name):
            raise ValueError(f"--{name} is missing; see python -m launch.study --help")
    base = flags.from_file(settings.Train, Path(config.base))
    if base.stop_after:
        raise ValueError(f"{config.base} sets --stop_after={base.stop_after}; a run of a study is finished")
    base = dataclasses.replace(base, data_dir=config.data_dir or base.data_dir)
    grids = (
        study_plan.parse_grid(config.methods, config.amounts, config.seeds),
        study_plan.parse_grid(
            config.ablations, config.ablations_amounts, config.ablations_seeds, prefix="ablations"
        ),
    )
    return study_plan.plan(base, config.workdir, grids)


def check_data(runs: Sequence[PlannedRun]) -> None:
    """Raises ValueError and FileNotFoundError when a run's data are not there or its batch cannot be had of them."""
    base = runs[0].config
    if base.stream:
        takes = streamed.labelled_takes(base)
        table, views, name = takes.table, takes.cameras, "the stream"
    else:
        split = pipeline.open_split(base.data_dir, base.dataset, base.train_split, base.image_size)
        table, views, name = split.table, split.views, base.dataset
    for run in runs:
        settings.check_devices(run.config, jax.local_device_count())
        labelled.choose(run.config, table, views, name)


def check_settings(runs: Sequence[PlannedRun]) -> None:
    """Raises ValueError with the differences when a run's folder holds a run with other settings."""
    for run in runs:
        if (run.folder / run_folder.CONFIG).exists():
            flags.refuse_differences(run.config, run.folder / run_folder.CONFIG)


def check_finished(runs: Sequence[PlannedRun]) -> None:
    """Raises ValueError when a run of the grid is not trained: only then may the test people be read."""
    left = [run for run in runs if not study_runs.trained(run)]
    if left:
        raise ValueError(
            f"--judge=test reads the test people, and that once, for the finished grid, but {len(left)} of "
            f"{len(runs)} runs are not finished, the first: {left[0]}; run the study without --judge=test first"
        )


def study(config: Study) -> study_results.Results:
    """Does what is left of a study, and returns its results; a run's failure is recorded and stops no other.

    Raises ValueError, FileNotFoundError and OSError, before anything is trained, for what no run could be made of.
    """
    runs = planned(config)
    folder = Path(config.workdir).expanduser()
    results = study_results.Results(folder / f"results_{config.judge}.jsonl")
    judged = {name: getattr(config, name) for name in ("judge", "every", "stride", "damaged")}
    results.check(runs, judged)
    check_settings(runs)
    if config.dry_run:
        for k, run in enumerate(runs, 1):
            progress.say(f"run {k} of {len(runs)}: {run}: {study_runs.state(run, results)}")
        return results
    if not all(map(results.finished, runs)):
        judge = prepare(config, runs)
        results.plan(runs)
        do_what_is_left(runs, results, judge, judged)
    if results.others(runs):
        progress.say(f"{results.file} has {results.others(runs)} runs more, which are not in this grid")
    write_summary(folder, config.judge, results.of(runs))
    return results


def prepare(config: Study, runs: Sequence[PlannedRun]) -> study_judge.Judge | None:
    """Looks at all that runs need before the first one begins, and opens the people who judge; None for nobody."""
    if config.judge == "test":
        check_finished(runs)
        progress.say(f"all {len(runs)} runs are finished: the test people are read now, once")
    check_data(runs)
    if config.judge == "none":
        return None
    protocol = study_judge.Protocol(config.judge, config.every, config.stride, config.damaged)
    return study_judge.open_judge(runs[0].config, protocol)


def do_what_is_left(
    runs: Sequence[PlannedRun],
    results: study_results.Results,
    judge: study_judge.Judge | None,
    judged: dict[str, Any],
) -> None:
    """Trains and judges the runs that nobody has finished or is at, one after another, until one is interrupted."""
    for k, run in enumerate(runs, 1):
        with locks.held(run.folder.with_name(f".{run.folder.name}")) as mine:
            results.reread()
            if results.finished(run):
                continue
            if not mine:
                progress.say(f"run {k} of {len(runs)}: {run}: another process is at it")
                continue
            progress.say(f"run {k} of {len(runs)}: {run}")
            try:
                if not study_runs.trained(run) and not study_runs.train_run(run):
                    progress.say(f"stopped in run {k} of {len(runs)}; the same command goes on from there")
                    return
                results.put(study_runs.judge_run(run, judge, judged))
            except Exception as error:  # whatever ends one run, the others go on
                expected = isinstance(error, ValueError | OSError)
                said = ("" if expected else f"{type(error).__name__}: ") + flags.sentence(error)
                results.put(study_results.failed(run, said))
                progress.say(f"failed: {said}")


def write_summary(folder: Path, judge: str, lines: Sequence[study_results.Line]) -> None:
    """Prints the tables, and writes them as JSON and the error against label amount as a picture."""
    progress.say(study_summary.text(lines))
    if judge == "none":
        return
    summary, picture = folder / f"summary_{judge}.json", folder / f"error_{judge}.png"
    run_folder.write_text(summary, json.dumps(study_summary.content(lines), indent=2) + "\n")
    drawn = io.BytesIO()
    study_summary.curve(lines).savefig(drawn, format="png", dpi=150)
    picture.write_bytes(drawn.getvalue())
    progress.say(f"written to {summary} and {picture}")


@contextlib.contextmanager
def compiled_once() -> Iterator[None]:
    """Within it JAX keeps what it has compiled, as runs that differ in seed or labels are one program.

    In a folder of this call alone: what is compiled for one processor may not run on another. Where the user names a
    folder (JAX_COMPILATION_CACHE_DIR), it is that one.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", None)


def main(config: Study) -> None:
    """Runs the study."""
    with compiled_once():
        study(config)


if __name__ == "__main__":
    flags.run(Study, "launch.study", __doc__ or "", main)
