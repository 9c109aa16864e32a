"""Suites of launch.benchmark that make or read pictures: `render`, `input`, and `train`, input and step together."""

import contextlib
from typing import Any

import jax

from datasets.synthetic_multiview import stream
from datasets.tuples import pipeline
from launch.benchmarks.batch import describe, pairs_in
from launch.benchmarks.settings import Benchmark
from launch.benchmarks.steps import throughput, trace
from launch.benchmarks.timing import Row, in_turn
from launch.cli import options
from launch.runs import run_folder, settings
from launch.training import batch_numbers, sources
from mcss_jax import streams
from mcss_jax.training import parallel

TRACED = 3


def render_rows(config: Benchmark) -> list[Row]:
    """Pictures of synthetic people, small and large."""

    def row(size: int, instants: int) -> Row:
        stream_config = stream.StreamConfig(
            subjects=(1,), groups=1, sequences=2, instants=instants, size=size
        )
        program = {"render": lambda: stream.stream_batch(0, 0, stream_config).images}
        timing = in_turn(program, config.repeats)["render"]
        return Row(f"render {size}px", timing, 2 * instants * stream_config.views, "images")

    return [row(size=64, instants=16), row(size=224, instants=2)]


def _source(config: Benchmark) -> sources.Source:
    return sources.open_source(options.replace(config, validation_split=""))


def input_rows(config: Benchmark) -> list[Row]:
    """The host's pipeline alone, read ahead as in training; several batches a repetition, so that this evens out."""
    config = batch_numbers.settled(config, len(parallel.choose_devices(config.devices.count)))
    source = _source(config)
    last = (config.repeats + 1) * config.updates
    images: list[int] = []
    with contextlib.closing(source.batches(0, last, pipeline.Waiting())) as batches:

        def program() -> list[Any]:
            updates_batches = [next(batches)[1] for _ in range(config.updates)]
            images.append(sum(batch.pictures for batch in updates_batches))
            return updates_batches

        timing = in_turn({"input": program}, config.repeats)["input"]
    return [Row(f"input {source.image_size}px", timing, images[-1], "images")]


def train_rows(config: Benchmark) -> list[Row]:
    """Input and step as training runs them; `input_wait` is the time that the loop waited for its next batch."""
    devices = parallel.choose_devices(config.devices.count)
    config = batch_numbers.settled(config, len(devices))
    settings.check_devices(config, len(devices))
    source = _source(config)
    statistics = sources.means(source.labelled_poses).statistics
    state = parallel.replicate(run_folder.initial_state(config, source.image_size, statistics))
    step = parallel.mapped_step(
        settings.method_of(config), config.devices.parallel, devices, config.batch.accumulate
    )
    rng = streams.stream(config.run.seed, "augment")
    waiting = pipeline.Waiting()
    waits: list[float] = []
    made = {"images": 0, "pairs": 0}
    last = (config.repeats + 1 + TRACED) * config.updates

    with contextlib.closing(source.batches(0, last, waiting)) as batches:

        def program() -> Any:
            nonlocal state
            before = waiting.seconds
            made["images"] = made["pairs"] = 0
            for _ in range(config.updates):
                batch = next(batches)[1]
                made["images"] += batch.pictures * jax.process_count()
                made["pairs"] += pairs_in(batch) * jax.process_count()
                state, report = step(state, batch, rng)
            waits.append(waiting.seconds - before)
            return report

        timing = in_turn({"train": program}, config.repeats)["train"]
        timed = waits[1:]
        trace(program, config.profile, TRACED)
    figures = {
        **throughput(made["images"], made["pairs"], len(devices), timing),
        "input_wait_share": sum(timed) / sum(timing.seconds),
        "input_wait_ms_per_update": 1e3 * sum(timed) / (config.repeats * config.updates),
    }
    name = f"train {describe(config, source.image_size)}, {made['images'] // config.updates} images an update"
    return [Row(name, timing, made["images"], "images", figures)]
