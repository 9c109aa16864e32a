"""Where `auto` stands, a run chooses its numbers once, keeps them, and goes on with them."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from launch.cli import options
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.training import batch_numbers, train
from tests.launch.training.test_train import TINY
from tests.mcss_jax.steps import two_blocks
from tests.refusals import refused

AUTO: dict[str, Any] = dict.fromkeys(("blocks", "sequences", "instants"), "auto")


@pytest.fixture
def config(prepared_tiny: Path, tmp_path: Path) -> Train:
    return options.replace(TINY, data_dir=str(prepared_tiny), workdir=str(tmp_path / "run"), **AUTO)


def numbers(config: Train) -> tuple[Any, Any, Any]:
    return config.batch.blocks, config.batch.sequences, config.batch.instants


def test_numbers_are_those_of_the_data_and_of_the_unlabelled_part_alone(config: Train) -> None:
    table = batch_numbers.table_of(config)
    assert table is not None
    assert numbers(batch_numbers.settled(config, 1)) == numbers(batch_numbers.of_table(config, table, 1))
    one = batch_numbers.settled(options.replace(config, unlabelled="S1"), 1)
    assert one.batch.blocks == 1, "S1 is one group"
    streamed = options.replace(config, stream=True)
    assert batch_numbers.table_of(streamed) is None and numbers(batch_numbers.settled(streamed, 1)) == (
        4,
        4,
        6,
    )
    kept = options.replace(config, blocks=1, sequences=2, instants=3)
    assert batch_numbers.settled(kept, 1) is kept
    with refused("--unlabelled", "S9"):
        batch_numbers.settled(options.replace(config, unlabelled="S9"), 1)


def test_a_run_keeps_its_numbers_on_other_devices_and_by_name(config: Train) -> None:
    with two_blocks(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="few negatives")
        half = train.train(options.replace(config, blocks=2, sequences=2, instants=2, stop_after=4))
        stored = json.loads((half.folder / run_folder.CONFIG).read_text())
        assert stored["batch"]["blocks"] == 2
        # `auto` now is what it was, whatever the data would ask for on three devices.
        assert numbers(batch_numbers.settled(config, 3)) == (2, 2, 2)
        assert train.train(config).finished
        with refused("--blocks", "2", "1"):
            train.train(options.replace(config, blocks=1))


def test_what_is_chosen_is_stored(config: Train) -> None:
    with two_blocks(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="few negatives")
        trained = train.train(options.replace(config, steps=1))
    chosen = batch_numbers.settled(options.replace(config, workdir=config.run.workdir + "2"), 1)
    assert numbers(run_folder.settings_in(trained.folder)) == numbers(chosen)
    assert all(isinstance(number, int) for number in numbers(chosen))


def test_few_negatives_are_said_once_where_a_run_begins(config: Train) -> None:
    with (
        two_blocks(),
        pytest.warns(UserWarning, match="few negatives: a typical group .* holds 8 instants") as told,
    ):
        train.train(options.replace(config, steps=2, min_negative_gap=100.0))
    assert len([w for w in told if "few negatives" in str(w.message)]) == 1
