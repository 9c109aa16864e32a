"""The training step beside the same step in PyTorch, in one process, in turn; prints the rates and their ratio.

    python -m launch.benchmark_torch --flagfile=launch/experiments/demo_mcss.flags

The same network, losses, augmentation and batch; PyTorch's are channels-last, under autocast with --precision=bfloat16,
with a fused optimiser, as they are and under torch.compile where that works. The ratio is to PyTorch's faster one. On a
CPU PyTorch has the number of threads that it is fastest with, tried beforehand. It is given the pose targets ready-made
and reports no metrics; the JAX step computes both, as in training. PyTorch is an extra of this program alone.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax

from launch.benchmarks import records
from launch.benchmarks.batch import describe, random_batch, size_of, statistics
from launch.benchmarks.settings import check, numbered
from launch.benchmarks.steps import StepProgram
from launch.benchmarks.timing import Row, in_turn, table
from launch.benchmarks.torch_comparison import Comparison, torch_step
from launch.cli import cpu, flags
from mcss_jax.errors import UserError


def main(config: Comparison) -> None:
    """Compares them. Raises UserError for settings that cannot be measured, or without PyTorch."""
    # Both share one accelerator: JAX would take most of its memory at the start.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    check(config)
    if config.repeats < 1:
        raise UserError(f"--repeats={config.repeats}; expected at least 1")
    if config.method != "mcss" or config.data.labelled == "none" or not config.batch.labelled_batch:
        raise UserError(
            "the comparison is of the joint step: use --method=mcss with --labelled and --labelled_batch"
        )
    for name, value, wanted in (
        ("encoder", config.network.encoder, "resnet"),
        ("metric_loss", config.objective.metric_loss, "triplet"),
    ):
        if value != wanted:
            raise UserError(f"--{name}={value}; PyTorch's step is written for {wanted}")
    module = torch_step()
    config = numbered(config)
    size = size_of(config)
    batch = random_batch(config, size)
    platform = jax.devices()[0].platform
    ours = StepProgram(config, batch)
    if platform != "cpu" and len(ours.devices) > 1:
        raise UserError(
            f"PyTorch's step is for one device, and there are {len(ours.devices)}; set --devices=1"
        )
    eager = module.program(config, batch, statistics(), platform)
    programs: dict[str, Callable[[], Any]] = {"JAX": ours, "PyTorch": eager}
    figures = {}
    if platform == "cpu":
        cores = cpu.cores()
        figures["threads"] = float(module.best_threads(eager, sorted({1, max(1, cores // 2), cores})))
    if config.compile:
        compiled, reason = module.compiled(eager)
        if compiled is None:
            print(f"without torch.compile, which does not work here: {reason}")
        else:
            programs["PyTorch compiled"] = compiled
    timings = in_turn(programs, config.repeats)
    images = batch.pictures
    fastest = min((timing for name, timing in timings.items() if name != "JAX"), key=lambda t: t.median_s)
    rows = [
        Row(
            f"{name} {describe(config, size)}, {images} images, {config.network.precision}",
            timing,
            images,
            "images",
        )
        for name, timing in timings.items()
    ]
    rows[0] = dataclasses.replace(
        rows[0],
        figures={
            "devices_used": float(len(ours.devices)),
            "rate_over_pytorch": timings["JAX"].ratio_to(fastest),
            "compile_s": ours.cost.compile_s,
        },
    )
    rows[1] = dataclasses.replace(rows[1], figures=figures)
    print(table(rows))
    if config.output:
        records.append(config.output, records.records("torch", rows, config))


if __name__ == "__main__":
    flags.run(Comparison, "launch.benchmark_torch", __doc__ or "", main)
