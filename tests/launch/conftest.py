"""A small trained run that several test files judge."""

from pathlib import Path

import pytest

from launch.cli import options
from launch.runs import settings
from launch.training import train
from tests.mcss_jax.steps import two_blocks


@pytest.fixture(scope="session")
def trained_run(prepared_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps with a small network: what is judged need not be good.

    Opening it takes the network it was trained with: do that within `two_blocks`.
    """
    folder = tmp_path_factory.mktemp("judged") / "mcss"
    with two_blocks():
        config = options.build(settings.Train, 
            dataset="synthetic_multiview/tiny", data_dir=str(prepared_tiny), workdir=str(folder), steps=3, width=8,
            stem="patch8", hidden=16, embedding_dim=8, blocks=2, sequences=1, instants=2, labelled_batch=4,
            validate_every=0, log_every=1,
        )  # fmt: skip
        train.train(config)
    return folder
