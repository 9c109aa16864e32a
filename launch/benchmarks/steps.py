"""The suite `step` of launch.benchmark: training steps on a synthetic batch that lies on the devices."""

from collections.abc import Callable
from typing import Any

import jax

from launch.benchmarks import roofline
from launch.benchmarks.batch import describe, pairs_in, random_batch, size_of, statistics
from launch.benchmarks.flops import multiplications
from launch.benchmarks.roofline import Ceilings, Cost
from launch.benchmarks.settings import Benchmark, enlarged, integers, numbered
from launch.benchmarks.timing import Row, Timing, in_turn
from launch.cli import cpu
from launch.runs import run_folder, settings
from mcss_jax.training import parallel
from mcss_jax.training.batch import Batch


class StepProgram:
    """One update after another on one batch, by the mapped step that training uses; `cost` is that of an update."""

    def __init__(self, config: settings.Train, batch: Batch) -> None:
        cpu.say_if_unmeasured()
        size = next(iter(batch.parts.values())).images.shape[-2]
        self.devices = parallel.choose_devices(config.devices.count)
        step = parallel.mapped_step(
            settings.method_of(config), config.devices.parallel, self.devices, config.batch.accumulate
        )
        first = parallel.replicate(run_folder.initial_state(config, size, statistics()))
        self._state, self._batch = step.place(first, own_rows(batch))
        self._rng = jax.random.key(0)
        self._mapped = step.mapped
        self.cost: Cost = roofline.cost(step.mapped, self._state, self._batch, self._rng)

    def __call__(self) -> dict[str, jax.Array]:
        self._state, report = self._mapped(self._state, self._batch, self._rng)
        return report


def own_rows(batch: Batch) -> Batch:
    """This process's rows of a global batch: all of them where there is one process."""
    count, index = jax.process_count(), jax.process_index()

    def share(x: Any) -> Any:
        return x[index * len(x) // count : (index + 1) * len(x) // count]

    return jax.tree.map(share, batch)


def trace(program: Callable[[], Any], folder: str, calls: int = 3) -> None:
    """Runs a few calls more under the profiler, where a folder is given."""
    if folder:
        with jax.profiler.trace(folder):
            for _ in range(calls):
                jax.block_until_ready(program())


def throughput(images: int, pairs: int, devices: int, timing: Timing) -> dict[str, float]:
    """Rates of repetitions that each took so many pictures and pairs over all devices."""
    return {
        "devices_used": float(devices),
        "images": float(images),
        "images_per_second_per_device": images / timing.median_s / devices,
        "pairs_per_second": pairs / timing.median_s,
        "pairs_per_second_per_device": pairs / timing.median_s / devices,
    }


def measure(config: Benchmark, size: int, limit: Ceilings) -> Row:
    """One row: the update of this batch at this image size."""
    settings.check_devices(config, len(parallel.choose_devices(config.devices.count)))
    batch = random_batch(config, size)
    program = StepProgram(config, batch)
    timing = in_turn({"step": program}, config.repeats)["step"]
    trace(program, config.profile)
    images, count = batch.pictures, len(program.devices)
    flop = images * multiplications(settings.method_of(config).network, size).training_flop
    figures = {
        "image_size": float(size),
        **throughput(images, pairs_in(batch), count, timing),
        **roofline.figures(program.cost, timing, flop, limit, config.network.precision, count),
        **roofline.peak_memory(parallel.local(program.devices)),
    }
    name = f"step {describe(config, size)}, {images} images, {config.network.precision}"
    return Row(name, timing, images, "images", figures)


def step_rows(config: Benchmark) -> list[Row]:
    """The flags' batch and its multiples; the flags' batch at further sizes; the ceilings they are held against."""
    devices = parallel.choose_devices(config.devices.count)
    config = numbered(config, len(devices))
    limit = roofline.ceilings(devices, min(config.repeats, 5))
    size = size_of(config)
    batches = [
        measure(enlarged(config, multiple), size, limit)
        for multiple in integers(config.sweep_batch, "sweep_batch")
    ]
    sizes = [
        measure(config, side, limit) for side in integers(config.sweep_size, "sweep_size") if side != size
    ]
    return [*batches, *sizes, *limit.rows]
