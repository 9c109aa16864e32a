"""How fast this machine does what the project does.

    python -m launch.benchmark --suite=step,render,input --output=figures.jsonl

step       training steps on a synthetic batch that lies on the device (network, batch and so on: the flags of train)
render     pictures of synthetic people
prepare    generated videos to shards, as launch.prepare cuts a distribution (at most 5 repetitions)
input      the host's input pipeline alone, on the prepared data set that --dataset names
metrics    pose errors of many poses
retrieval  nearest neighbours and the oracle
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from datasets import pipeline
from datasets.synthetic_multiview import stream
from launch import benchmark_metrics, benchmark_prepare, flags, run_folder, settings, sources
from launch.flags import option
from launch.timing import Row, in_turn, table
from mcss_jax import parallel, train_step

MEASURE = "Measurement"


@dataclasses.dataclass(frozen=True)
class Benchmark(settings.Train):
    """The settings of a run (its folder aside), and how to measure."""

    suite: str = option("step", "What to measure, separated by commas; see above.", MEASURE)
    repeats: int = option(20, "Timed repetitions; medians and extremes are reported.", MEASURE)
    output: str = option("", "File that the figures are appended to, as JSON lines; empty for none.", MEASURE)


def check(config: Any) -> None:
    """Raises ValueError for settings that cannot be measured."""
    settings.check(dataclasses.replace(config, workdir=config.workdir or "unused"))
    if config.repeats < 1:
        raise ValueError(f"--repeats={config.repeats}; expected at least 1")


def random_poses(seed: int, count: int) -> Float[np.ndarray, "n 17 3"]:
    """Camera-frame poses of a standing person's extent, 4 m away, millimetres."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 17, 3)) * [120, 450, 120] + [0, 0, 4000]).astype(np.float32)


def random_batch(config: settings.Train, size: int) -> dict[str, dict[str, np.ndarray]]:
    """A batch of the run's make-up, as `train_step` takes it: noise for pictures, random poses."""
    rng = np.random.default_rng(0)
    batch = {}
    if config.labelled != "none" and config.labelled_batch:
        count = config.labelled_batch
        batch["labelled"] = {
            "images": rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
            "pose": random_poses(1, count),
            "intrinsics": np.tile(
                np.asarray([[1145, 0, 512], [0, 1145, 512], [0, 0, 1]], np.float32), (count, 1, 1)
            ),
            "box": np.tile(np.asarray([400, 300, 700, 600], np.float32), (count, 1)),
            "valid": np.ones(count, bool),
            "sample": np.arange(count, dtype=np.int32),
        }
    blocks = settings.blocks_of(config)
    if blocks is not None:
        index = np.arange(blocks.size, dtype=np.int32)
        batch["unlabelled"] = {
            "images": rng.integers(0, 256, (blocks.size, 2, size, size, 3), dtype=np.uint8),
            "group": index // (blocks.sequences * blocks.instants),
            "sequence": index // blocks.instants,
            "time": (index % blocks.instants * max(blocks.min_gap, 0.1)).astype(np.float32),
            "valid": np.ones(blocks.size, bool),
            "sample": index,
            "pose": random_poses(2, blocks.size),
        }
    return batch


def statistics() -> train_step.PoseStatistics:
    """Mean and scale of the random poses."""
    return train_step.pose_statistics(jnp.asarray(random_poses(1, 64)))


def images_in(batch: dict[str, dict[str, Any]]) -> int:
    """Pictures of all parts and views."""
    return sum(int(np.prod(part["images"].shape[:-3])) for part in batch.values())


def step_program(config: settings.Train, batch: dict[str, dict[str, np.ndarray]]) -> Callable[[], Any]:
    """A program that makes one update after another, mapped over all devices as in training."""
    size = next(iter(batch.values()))["images"].shape[-2]
    state = parallel.replicate(run_folder.initial_state(config, size, statistics()))
    step = parallel.pmap_step()
    on_device = jax.device_put(batch)
    rng = jax.random.key(0)

    def program() -> dict[str, jax.Array]:
        nonlocal state
        state, report = step(state, on_device, rng)
        return report

    return program


def describe(config: settings.Train, size: int) -> str:
    """The network and its pictures in a few words."""
    return f"ResNet-{config.depth}/{config.width} {config.stem} {size}px"


def _step(config: Benchmark) -> list[Row]:
    size = config.image_size or config.stream_size
    settings.check_devices(config, jax.device_count())
    batch = random_batch(config, size)
    timing = in_turn({"step": step_program(config, batch)}, config.repeats)["step"]
    return [Row(f"step {describe(config, size)}", timing, images_in(batch), "images")]


def _render(config: Benchmark) -> list[Row]:
    def row(size: int, instants: int) -> Row:
        of = stream.StreamConfig(subjects=(1,), groups=1, sequences=2, instants=instants, size=size)
        program = {"render": lambda: stream.stream_batch(0, 0, of).images}
        timing = in_turn(program, config.repeats)["render"]
        return Row(f"render {size}px", timing, 2 * instants * of.views, "images")

    return [row(size=64, instants=16), row(size=224, instants=2)]


def _input(config: Benchmark) -> list[Row]:
    per_repeat = 4  # batches, so that what was read ahead evens out
    source = sources.open_source(dataclasses.replace(config, validation_split=""))
    batches = source.batches(0, (config.repeats + 1) * per_repeat, pipeline.Waiting())
    images = []

    def program() -> list[Any]:
        several = [next(batches)[1] for _ in range(per_repeat)]
        images.append(sum(images_in(batch) for batch in several))
        return several

    timing = in_turn({"input": program}, config.repeats)["input"]
    return [Row(f"input {source.image_size}px", timing, images[-1], "images")]


SUITES: dict[str, Callable[[Benchmark], list[Row]]] = {
    "step": _step,
    "render": _render,
    "prepare": lambda config: benchmark_prepare.prepare_rows(min(config.repeats, 5)),
    "input": _input,
    "metrics": lambda config: benchmark_metrics.metrics_rows(config.repeats),
    "retrieval": lambda config: benchmark_metrics.retrieval_rows(config.repeats),
}


def conditions(config: Any) -> dict[str, Any]:
    """What the figures depend on: machine, versions, settings."""
    device = jax.devices()[0]
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in names},
        "settings": dataclasses.asdict(config),
    }


def keep(path: str, suite: str, rows: list[Row], config: Any) -> None:
    """Appends one JSON line a row. Raises OSError when the file cannot be written."""
    context = conditions(config)
    with open(path, "a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"suite": suite, **row.figures_of(), **context}) + "\n")


def main(config: Benchmark) -> None:
    """Runs the suites in the order given. Raises ValueError for an unknown one before any is run."""
    check(config)
    names = config.suite.split(",")
    for name in names:
        if name not in SUITES:
            raise ValueError(f"--suite names {name!r}; expected some of {', '.join(SUITES)}")
    for name in names:
        rows = SUITES[name](config)
        print(table(rows), flush=True)
        if config.output:
            keep(config.output, name, rows, config)


if __name__ == "__main__":
    flags.run(Benchmark, "launch.benchmark", __doc__ or "", main)
