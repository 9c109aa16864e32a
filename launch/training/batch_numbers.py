"""The numbers that stand for `auto`: those that a run began with, or those that its data ask for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from datasets.tuples import block_numbers, pipeline, sampling
from datasets.tuples.records import SequenceRow
from launch.cli import options
from launch.runs import run_folder, settings
from mcss_jax.setting import AUTO

Config = TypeVar("Config", bound=settings.Train)


def settled(config: Config, devices: int) -> Config:
    """The settings with numbers in the place of `auto`; on other devices than those it began on, a run keeps its own.

    Raises UserError for data that are not there and a bad `--unlabelled`.
    """
    if not settings.has_auto(config):
        return config
    config = _as_begun(config)
    return of_table(config, table_of(config), devices) if settings.has_auto(config) else config


def of_table(config: Config, table: Sequence[SequenceRow] | None, devices: int) -> Config:
    """The settings with the numbers that the training split's table asks for; None: that of a stream."""
    if not settings.has_auto(config):
        return config
    config = _as_begun(config)
    unlabelled = None if table is None else sampling.unlabelled_table(config.data.unlabelled, table)
    return settings.with_numbers(config, unlabelled, devices)


def table_of(config: settings.Train) -> Sequence[SequenceRow] | None:
    """The sequence table of the training split, or None where people are streamed."""
    data = config.data
    if data.stream:
        return None
    return pipeline.open_split(data.data_dir, data.dataset, data.train_split, data.image_size).table


def _as_begun(config: Config) -> Config:
    folder = Path(config.run.workdir).expanduser()
    if not ((folder / run_folder.CONFIG).exists() and run_folder.begun(folder)):
        return config
    before = options.values(run_folder.settings_in(folder))
    now = options.values(config)
    auto = (name for name in block_numbers.NAMES if now[name] == AUTO)
    return options.replace(config, **{name: before[name] for name in auto})
