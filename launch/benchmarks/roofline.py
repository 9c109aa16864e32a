"""How close a program runs to what the machine can do.

Ceilings are measured on the spot: a large matrix product, and a pass over a large array. A program's least time is that
of its FLOP or of its bytes, whichever is longer; the share of the roofline is that time over the measured one.
"""

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from launch.benchmarks.timing import Row, Timing, in_turn
from mcss_jax.training import parallel

DTYPES = ("float32", "bfloat16")
# Side of the matrices and number of float32 in the array: large enough to fill the machine, and larger than its caches.
ON_CPU = (2048, 64 << 20)
ON_ACCELERATOR = (8192, 256 << 20)


class Ceilings(NamedTuple):
    """Of all devices together: FLOP/s of a matrix product by dtype, bytes/s of a read and write; and their rows."""

    flop: dict[str, float]
    bytes: float
    rows: list[Row]


class Cost(NamedTuple):
    """What the compiler says of one call on one device, and the time it took."""

    flop: float
    bytes: float
    memory_bytes: float
    compile_s: float


def ceilings(devices: Sequence[jax.Device], repeats: int) -> Ceilings:
    """Measured on the first device here, for all: forced host devices share one CPU, accelerators add up."""
    first = parallel.local(devices)[0]
    on_cpu = first.platform == "cpu"
    count = 1 if on_cpu else len(devices)
    side, length = ON_CPU if on_cpu else ON_ACCELERATOR
    product = jax.jit(jnp.matmul)
    matrices = {dtype: jax.device_put(jnp.ones((side, side), dtype), first) for dtype in DTYPES}
    # Donated, so that it is memory that is measured, and not how fast the system hands out new pages.
    increment = jax.jit(lambda x: x + 1, donate_argnums=0)
    held = jax.device_put(jnp.ones(length, jnp.float32), first)

    def sweep() -> jax.Array:
        nonlocal held
        held = increment(held)
        return held

    products = {dtype: functools.partial(product, x, x) for dtype, x in matrices.items()}
    timings = in_turn({**products, "memory": sweep}, repeats)
    work = {**dict.fromkeys(DTYPES, count * 2 * side**3), "memory": count * 2 * held.nbytes}
    rows = [
        Row(f"ceiling, {name}", timing, work[name], "bytes" if name == "memory" else "FLOP")
        for name, timing in timings.items()
    ]
    rate = {name: work[name] / timing.median_s for name, timing in timings.items()}
    return Ceilings({dtype: rate[dtype] for dtype in DTYPES}, rate["memory"], rows)


def cost(jitted: Any, *arguments: Any) -> Cost:
    """Compiles `jitted` for the arguments and reads the compiler's own count; a later call finds it compiled."""
    start = time.perf_counter()
    compiled = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    counted = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    held = ("argument", "output", "temp")
    total = sum(getattr(memory, f"{name}_size_in_bytes") for name in held) - memory.alias_size_in_bytes
    return Cost(counted.get("flops", 0.0), counted.get("bytes accessed", 0.0), float(total), seconds)


def figures(
    program_cost: Cost, timing: Timing, model_flop: float, limit: Ceilings, precision: str, devices: int
) -> dict[str, float]:
    """Utilisation of one repetition that takes `model_flop` over all devices.

    The FLOP are the model's; the bytes are the compiler's: it counts what each fused operation reads and writes,
    so caches can make the share exceed one. The compiler's FLOP stand beside, for what its count leaves out.
    """
    least_time = max(model_flop / limit.flop[precision], program_cost.bytes * devices / limit.bytes)
    return {
        "model_flop": model_flop,
        "model_flop_utilisation": model_flop / timing.median_s / limit.flop[precision],
        "compiled_flop": program_cost.flop * devices,
        "compiled_bytes": program_cost.bytes * devices,
        "share_of_roofline": least_time / timing.median_s,
        "program_memory_MB": program_cost.memory_bytes / 1e6,
        "compile_s": program_cost.compile_s,
    }


def peak_memory(devices: Sequence[jax.Device]) -> dict[str, float]:
    """The most memory that a device has held since the program began, MB; nothing where the device does not tell."""
    statistics = [device.memory_stats() for device in devices]
    peaks = [
        device_statistics["peak_bytes_in_use"]
        for device_statistics in statistics
        if device_statistics and "peak_bytes_in_use" in device_statistics
    ]
    return {"peak_device_memory_MB": max(peaks) / 1e6} if peaks else {}
