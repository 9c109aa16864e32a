"""The step in JAX and in PyTorch, measured in turn in one process."""

import dataclasses
from typing import Any

from launch.benchmarks.settings import MEASURE
from launch.cli.options import option
from launch.runs import settings
from mcss_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Comparison(settings.Train):
    """The settings of a run (its folder aside), and how to measure."""

    repeats: int = option(20, "Rounds in which each of the programs runs once.", MEASURE)
    compile: bool = option(
        True, "Beside PyTorch as it is, PyTorch under torch.compile, where it works.", MEASURE
    )
    output: str = option("", "File that the figures are appended to, as JSON lines; empty for none.", MEASURE)


def torch_step() -> Any:
    """The module with the PyTorch step. Raises UserError saying how to install PyTorch when it is missing."""
    try:
        from launch.benchmarks import torch_step as module
    except ImportError as error:
        raise UserError(
            f"this comparison needs PyTorch, which is not among the requirements ({error}); install it with "
            "`.venv/bin/pip install torch`"
        ) from error
    return module
