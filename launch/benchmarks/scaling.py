"""The suite `scaling` of launch.benchmark: the same batch per device on 1, 2, 4, ... devices.

Where the devices are there, they are used as they are. Otherwise a CPU is cut into as many host devices as asked for,
each count in a process of its own, and again in two processes that train as one: all share one CPU, so no speed-up can
come of it; what a row says is the overhead, the time beyond that of the same work on one device.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from launch.benchmarks import roofline
from launch.benchmarks.batch import size_of
from launch.benchmarks.settings import Benchmark, arguments, enlarged, integers, numbered
from launch.benchmarks.steps import measure
from launch.benchmarks.timing import Row, Timing
from launch.cli import flags, options
from mcss_jax.errors import UserError
from mcss_jax.training import parallel

PROCESSES = 2
MOST_ON_CPU = 4
LIMIT_S = 3600


def _doubling(largest: int) -> tuple[int, ...]:
    return tuple(2**power for power in range(largest.bit_length()))


def counts_of(config: Benchmark) -> tuple[int, ...]:
    """The numbers of devices to measure; by default the powers of two that are here (on a CPU: to 4).

    Raises UserError for more accelerators than there are, or without the 1 that the others are held against.
    """
    on_cpu, here = jax.default_backend() == "cpu", jax.local_device_count()
    counts = integers(config.scaling_devices, "scaling_devices") or _doubling(MOST_ON_CPU if on_cpu else here)
    if 1 not in counts:
        raise UserError(f"--scaling_devices={config.scaling_devices}; expected 1 among them, to compare with")
    if max(counts) > here and not on_cpu:
        raise UserError(
            f"--scaling_devices names {max(counts)} devices, but there are {here} here; name at most {here}"
        )
    return counts


def _free_port() -> int:
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def commands(config: Benchmark, processes: int, output: Path) -> list[list[str]]:
    """One command a process: the suite `step`, its figures in `output`."""
    base = [sys.executable, "-m", "launch.benchmark", "--suite=step", f"--repeats={config.repeats}"]
    base += [*arguments(config), f"--output={output}"]
    if processes == 1:
        return [base]
    address = f"--coordinator_address=127.0.0.1:{_free_port()}"
    return [
        [*base, address, f"--num_processes={processes}", f"--process_id={index}"]
        for index in range(processes)
    ]


def on_host_devices(config: Benchmark, devices: int, processes: int) -> dict[str, Any]:
    """The record of `step` on `processes` x `devices` forced host devices, in new processes.

    Raises UserError with what a process said last when it fails; RuntimeError where it called that a defect.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, contextlib.ExitStack() as stack:
        output = Path(folder) / "figures.jsonl"
        running = []
        for command in commands(config, processes, output):
            output_file = stack.enter_context(tempfile.TemporaryFile("w+"))
            process = subprocess.Popen(command, env=environment, stdout=output_file, stderr=subprocess.STDOUT)
            stack.callback(process.kill)  # when a sibling failed; nothing where it has ended
            running.append((process, output_file))
        for process, output_file in running:
            if code := process.wait(LIMIT_S):
                output_file.seek(0)
                lines = output_file.read().strip().splitlines() or ["nothing was said"]
                kind = RuntimeError if code == flags.DEFECT else UserError
                raise kind(f"the step on {processes} x {devices} host devices failed: {lines[-1]}")
        return json.loads(output.read_text().splitlines()[0])


def _row(record: dict[str, Any], processes: int, devices: int, alone: float, shared: bool) -> Row:
    """`alone` is the rate on one device. Shared: all devices are one CPU; otherwise they add up."""
    timing = Timing(tuple(record["seconds"]), record["first_s"])
    rate = record["images"] / timing.median_s
    figures = {key: record[key] for key in ("images", "image_size", "images_per_second_per_device")}
    figures |= {"devices_used": float(devices), "processes": float(processes)}
    if shared:
        figures["overhead_beyond_compute"] = alone / rate - 1
    else:
        figures["efficiency"] = rate / (devices * alone)
    name = f"scaling, {processes} x {devices // processes} devices, {record['images']:g} images"
    return Row(name, timing, record["images"], "images", figures)


def scaling_rows(config: Benchmark) -> list[Row]:
    """Rows of every count, and on a CPU of two processes with half of the devices each."""
    config, counts = numbered(config), counts_of(config)
    shared = jax.default_backend() == "cpu"
    records: dict[tuple[int, int], dict[str, Any]] = {}
    if max(counts) <= jax.local_device_count():
        limit = roofline.ceilings(parallel.choose_devices(), min(config.repeats, 5))
        for count in counts:
            enlarged_config = options.replace(enlarged(config, count), devices=count, profile="")
            records[1, count] = measure(enlarged_config, size_of(config), limit).figures_of()
    else:
        for count in counts:
            records[1, count] = on_host_devices(enlarged(config, count), count, 1)
            if count % PROCESSES == 0:
                records[PROCESSES, count] = on_host_devices(
                    enlarged(config, count), count // PROCESSES, PROCESSES
                )
    alone = records[1, 1]["per_second"]
    return [_row(record, processes, count, alone, shared) for (processes, count), record in records.items()]
