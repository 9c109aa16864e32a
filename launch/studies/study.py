"""Runs what is left of a study's grid, judges it and sums it up."""

import dataclasses
import io
import json
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from datasets.tuples import pipeline
from launch.cli import flags, options, progress
from launch.cli.options import option
from launch.runs import locks, run_folder, settings, stopping
from launch.studies import figures, plan, summary
from launch.studies import judge as study_judge
from launch.studies import results as study_results
from launch.studies import runs as study_runs
from launch.studies.plan import PlannedRun
from launch.training import batch_numbers, labelled, streamed, train
from mcss_jax.errors import UserError, is_mendable
from mcss_jax.training import parallel

GRID, ABLATIONS, JUDGING, RUN = "Grid", "Ablations and controls", "Judging", "Study"


@dataclasses.dataclass(frozen=True)
class Study:
    """See `python -m launch.study --help`."""

    base: str = option(
        "", "Flag file of launch.train with the settings that the methods start from. Required.", RUN
    )
    workdir: str = option("", "Folder of the study. Required.", RUN)
    results: str = option(
        "", "Where the results are kept: PREFIX_JUDGE.jsonl; by default WORKDIR/results_JUDGE.jsonl.", RUN
    )
    data_dir: str = option("", "Folder of prepared data sets; by default that of --base.", RUN)
    dry_run: bool = option(False, "List the runs and how far each one is; do nothing.", RUN)

    methods: str = option(
        "baseline,mcss",
        f"Methods, separated by commas: {', '.join(plan.METHODS)}, or any that --settings names.",
        GRID,
    )
    settings: options.Texts = option(
        (),
        "METHOD:FILE gives a method the settings that a flag file of launch.train names, the same for all label "
        "amounts; may be repeated. Those of mcss hold for all methods but the baseline, and a METHOD of your own name "
        "is mcss with them. Labels, seed and folder are the grid's.",
        GRID,
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
    """The runs of a study. Raises UserError for flags that describe none."""
    for name in ("base", "workdir"):
        if not getattr(config, name):
            raise UserError(f"--{name} is missing; see python -m launch.study --help")
    base = flags.from_file(settings.Train, Path(config.base))
    if base.run.stop_after:
        raise UserError(
            f"{config.base} sets --stop_after={base.run.stop_after}; a run of a study is finished"
        )
    base = options.replace(base, data_dir=config.data_dir or base.data.data_dir)
    own = plan.own_settings(base, config.settings)
    known = tuple(dict.fromkeys((*plan.METHODS, *own)))
    grids = (
        plan.parse_grid(config.methods, config.amounts, config.seeds, known=known),
        plan.parse_grid(
            config.ablations,
            config.ablations_amounts,
            config.ablations_seeds,
            prefix="ablations",
            known=known,
        ),
    )
    return plan.plan(base, config.workdir, grids, own)


def check_data(runs: Sequence[PlannedRun]) -> None:
    """Raises UserError when a run's data are not there or its batch cannot be had of them."""
    base = runs[0].config
    if base.data.stream:
        takes = streamed.labelled_takes(base)
        table, views, name = takes.table, takes.cameras, "the stream"
    else:
        split = pipeline.open_split(
            base.data.data_dir, base.data.dataset, base.data.train_split, base.data.image_size
        )
        table, views, name = split.table, split.views, base.data.dataset
        for run in runs:
            if (run.folder / run_folder.CARD).is_file():
                study_judge.check_fingerprint(run, run_folder.read_json(run.folder / run_folder.CARD), split)
    for run in runs:
        devices = len(parallel.choose_devices(run.config.devices.count))
        config = batch_numbers.of_table(run.config, None if base.data.stream else table, devices)
        settings.check_devices(config, devices)
        labelled.choose(config, table, views, name)


def check_settings(runs: Sequence[PlannedRun]) -> None:
    """Raises UserError with the differences when a run's folder holds a run with other settings."""
    for run in runs:
        if (run.folder / run_folder.CONFIG).exists():
            options.refuse_differences(run.config, run.folder / run_folder.CONFIG)


def check_finished(config: Study, runs: Sequence[PlannedRun]) -> None:
    """Raises UserError when a run of the study is not trained: only then may the test people be read.

    That is a run of this grid, or one that another grid in the study's folder has planned.
    """
    left = [run for run in runs if not study_runs.trained(run)]
    if left:
        raise UserError(
            f"--judge=test reads the test people, and that once, for the finished grid, but {len(left)} of "
            f"{len(runs)} runs are not finished, the first: {left[0]}; run the study without --judge=test first"
        )
    trained = {run.key for run in runs}
    before = [study_results.Results(results_file(config, judge)) for judge in ("validation", "none")]
    trained.update(*(results.finished_keys() for results in before))
    for results in before:
        others = [key for key in results.keys() if key not in trained]
        if others:
            raise UserError(
                f"--judge=test reads the test people, and that once, for the finished grid, but {results.file} has "
                f"{len(others)} runs more that are not finished, the first: {plan.describe(others[0])}; finish "
                "them, or take their lines out of the file"
            )


def results_file(config: Study, judge: str) -> Path:
    """The result file of a study and judge."""
    prefix = Path(config.results or Path(config.workdir) / "results").expanduser()
    return prefix.with_name(f"{prefix.name}_{judge}.jsonl")


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a call of the study ended: runs of its grid that failed; whether a scheduler's signal left some undone."""

    failed: int = 0
    preempted: bool = False


def study(config: Study) -> Ended:
    """Does what is left of a study; a run's failure is recorded and stops no other.

    Raises UserError and OSError, before anything is trained, for what no run could be made of.
    """
    runs = planned(config)
    folder = Path(config.workdir).expanduser()
    results = study_results.Results(results_file(config, config.judge))
    judged = {name: getattr(config, name) for name in ("judge", "every", "stride", "damaged")}
    results.check(runs, judged)
    check_settings(runs)
    if config.dry_run:
        for k, run in enumerate(runs, 1):
            progress.say(f"run {k} of {len(runs)}: {run}: {study_runs.state(run, results)}")
        return Ended()
    preempted = False
    if not all(map(results.finished, runs)):
        judge = prepare(config, runs)
        results.plan(runs)
        preempted = do_what_is_left(runs, results, judge, judged)
    write_summary(folder, config.judge, results, runs)
    failed = sum(results.line(run)["status"] == "failed" for run in runs)
    return Ended(failed, preempted and not all(map(results.finished, runs)))


def prepare(config: Study, runs: Sequence[PlannedRun]) -> study_judge.Judge | None:
    """Looks at all that runs need before the first one begins, and opens the people who judge; None for nobody."""
    if config.judge == "test":
        check_finished(config, runs)
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
) -> bool:
    """Trains and judges the runs that nobody has finished or is at, one after another, until a signal comes.

    A signal ends the study after an update, or after the run that is being judged. True when it was a scheduler's.
    """
    with stopping.Stop().watching() as stop:
        for k, run in enumerate(runs, 1):
            with locks.held(run.folder.with_name(f".{run.folder.name}")) as mine:
                results.reread()
                if results.finished(run):
                    continue
                if not mine:
                    progress.say(f"run {k} of {len(runs)}: {run}: another process is at it")
                    continue
                progress.say(f"run {k} of {len(runs)}: {run}")
                trained = do_run(run, results, judge, judged)
            if (trained is not None and trained.stopped) or stop.wanted():
                progress.say(f"stopped in run {k} of {len(runs)}; the same command goes on from there")
                return stop.preempted or (trained is not None and trained.preempted)
    return False


def do_run(
    run: PlannedRun,
    results: study_results.Results,
    judge: study_judge.Judge | None,
    judged: dict[str, Any],
) -> train.Trained | None:
    """Trains what is left of a run and, unless a signal came, judges it and puts its line.

    Gives what the training did, if there was any left and it did not fail.
    """
    trained = None
    try:
        if not study_runs.trained(run):
            trained = study_runs.train_run(run)
        if trained is None or (trained.finished and not trained.stopped):
            results.put(study_runs.judge_run(run, judge, judged))
    except Exception as error:  # whatever ends one run, the others go on
        expected = is_mendable(error)
        if not expected:
            traceback.print_exc()
        message = ("" if expected else f"{type(error).__name__}: ") + flags.sentence(error)
        results.put(study_results.failed(run, message))
        progress.say(f"failed: {message}")
    return trained


def write_summary(
    folder: Path, judge: str, results: study_results.Results, runs: Sequence[PlannedRun]
) -> None:
    """Prints the tables, and writes them as JSON and the error against label amount as pictures.

    Of several processes the last one writes the results of all.
    """
    with locks.waited_for(folder):
        results.reread()
        lines = results.lines_of(runs)
        if results.others(runs):
            progress.say(f"{results.file} has {results.others(runs)} runs more, which are not in this grid")
        progress.say(summary.text(lines))
        if judge == "none":
            return
        files = [folder / f"summary_{judge}.json"]
        run_folder.write_text(files[0], json.dumps(summary.content(lines), indent=2) + "\n")
        for name, figure in figures.drawn(lines).items():
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=150)
            files.append(folder / f"{name}_{judge}.png")
            run_folder.write_bytes(files[-1], buffer.getvalue())
    progress.say(f"written: {', '.join(map(str, files))}")
