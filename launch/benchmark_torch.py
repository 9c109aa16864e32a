"""The training step beside the same step in PyTorch, in one process, in turn; prints both rates and their ratio.

    python -m launch.benchmark_torch --flagfile=launch/experiments/demo_mcss.flags

PyTorch is an extra of this program alone. Both use every core. PyTorch is given the pose targets ready-made and reports
no metrics; the JAX step computes both, as in training.
"""

import dataclasses
from typing import Any

from launch import benchmark, flags, settings
from launch.flags import option
from launch.timing import Row, in_turn, table


@dataclasses.dataclass(frozen=True)
class Comparison(settings.Train):
    """The settings of a run (its folder aside), and how to measure."""

    repeats: int = option(20, "Rounds in which each of the two runs once.", benchmark.MEASURE)
    compile: bool = option(False, "Compile PyTorch's network with torch.compile.", benchmark.MEASURE)
    output: str = option(
        "", "File that the figures are appended to, as JSON lines; empty for none.", benchmark.MEASURE
    )


def torch_step() -> Any:
    """The module with the PyTorch step. Raises ValueError saying how to install PyTorch when it is missing."""
    try:
        from launch import torch_step as module
    except ImportError as error:
        raise ValueError(
            f"this comparison needs PyTorch, which is not among the requirements ({error}); install it with "
            "`.venv/bin/pip install torch`"
        ) from error
    return module


def main(config: Comparison) -> None:
    """Compares the two. Raises ValueError for settings that cannot be measured, or without PyTorch."""
    benchmark.check(config)
    if config.method != "mcss" or config.labelled == "none" or not config.labelled_batch:
        raise ValueError(
            "the comparison is of the joint step: use --method=mcss with --labelled and --labelled_batch"
        )
    torch = torch_step()
    size = config.image_size or config.stream_size
    batch = benchmark.random_batch(config, size)
    found = in_turn(
        {
            "JAX": benchmark.step_program(config, batch),
            "PyTorch": torch.program(config, batch, benchmark.statistics(), config.compile),
        },
        config.repeats,
    )
    images = benchmark.images_in(batch)
    ratio = found["JAX"].ratio_to(found["PyTorch"])
    rows = [
        Row(f"{name} {benchmark.describe(config, size)}", timing, images, "images")
        for name, timing in found.items()
    ]
    rows[0] = dataclasses.replace(rows[0], figures={"rate_over_pytorch": ratio})
    print(table(rows))
    if config.output:
        benchmark.keep(config.output, "torch", rows, config)


if __name__ == "__main__":
    flags.run(Comparison, "launch.benchmark_torch", __doc__ or "", main)
