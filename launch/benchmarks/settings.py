"""The settings of `launch.benchmark`, and of the programs that it starts."""

import dataclasses
from typing import TypeVar

from launch.cli import options
from launch.cli.options import option
from launch.runs import settings
from mcss_jax.errors import UserError
from mcss_jax.method import COUNT

Config = TypeVar("Config", bound=settings.Train)
MEASURE = "Measurement"


@dataclasses.dataclass(frozen=True)
class Benchmark(settings.Train):
    """The settings of a run (its folder aside), and how to measure."""

    suite: str = option("step", "What to measure, separated by commas; see above.", MEASURE)
    repeats: int = option(
        20, "Timed repetitions; median, quartiles and extremes are kept.", MEASURE, bounds=COUNT
    )
    output: str = option("", "File that the figures are appended to, as JSON lines; empty for none.", MEASURE)
    compare: str = option("", "An earlier --output; ratios to its figures are printed.", MEASURE)
    plot: str = option(
        "", "PNG file for a plot of throughput against batch size, image size and devices.", MEASURE
    )
    profile: str = option(
        "", "Folder for a trace of a few updates of step and train, to look at in XProf.", MEASURE
    )
    sweep_batch: str = option("1", "step: multiples of the flags' batch.", MEASURE)
    sweep_size: str = option("", "step: further sides of the pictures, pixels.", MEASURE)
    updates: int = option(4, "train: updates of one repetition.", MEASURE, bounds=COUNT)
    loss_pairs: int = option(16384, "loss: positive pairs, of two embeddings each.", MEASURE, bounds=COUNT)
    scaling_devices: str = option(
        "", "scaling: numbers of devices; empty for 1, 2, 4, ... (4 at most on a CPU).", MEASURE
    )


def integers(text: str, flag: str) -> tuple[int, ...]:
    """Numbers separated by commas. Raises UserError naming the flag for anything but integers above 0."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--{flag}={text}; expected integers above 0, separated by commas")
    return tuple(map(int, parts))


def check(config: settings.Train) -> None:
    """Raises UserError for settings of a run that no data set could satisfy; it needs no --workdir."""
    settings.check(options.replace(config, workdir=config.run.workdir or "unused"))


def check_benchmark(config: Benchmark) -> None:
    """Raises UserError for settings that cannot be measured."""
    check(config)
    for name in ("sweep_batch", "sweep_size", "scaling_devices"):
        integers(getattr(config, name), name)
    if not config.sweep_batch:
        raise UserError("--sweep_batch is empty; expected at least one multiple, such as 1")


def numbered(config: Config, devices: int = 1) -> Config:
    """The settings with numbers in the place of `auto`, those of a large data set: suites whose batches are noise."""
    return settings.with_numbers(config, None, devices)


def enlarged(config: Benchmark, multiple: int) -> Benchmark:
    """The same run with a batch `multiple` times as large."""
    return options.replace(
        config,
        labelled_batch=config.batch.labelled_batch * multiple,
        blocks=int(config.batch.blocks) * multiple,
    )


def arguments(config: settings.Train) -> list[str]:
    """The command line of `launch.train` for these settings: what differs from the defaults."""
    run = {name: setting.value(config) for name, setting in options.options(settings.Train).items()}
    return options.arguments(options.build(settings.Train, **run))
