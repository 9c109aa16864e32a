"""What a program sets before JAX begins on a machine without an accelerator; measured in docs/performance.md.

With both, a training step of the demo takes 0.6 of the time on two cores (jax 0.10).
"""

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
from collections.abc import MutableMapping

import jax

from launch.cli import progress

# glibc's numbers of parameters, <malloc.h>.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
KEPT = 1 << 30  # bytes
# What has XLA leave convolutions to Eigen: from this version of JAX, up to before that one, by this flag. XLA aborts
# the program at a flag that it does not know, so only measured versions are here; requirements.txt says how to add one.
# At 224 px it is worth 1.5 times the rate with 0.10.2, 0.11.2 and 0.12.0; at the demo's 64 px, where YNNPACK of the
# last two does better, 1.11, 0.93 and 1.02 times: provisional figures (docs/limits.md).
CONVOLUTIONS = (((0, 10), (0, 13), "--xla_cpu_experimental_ynn_fusion_type=dot,reduce"),)


def prepare() -> None:
    """Both settings, where JAX will run on the CPU alone; to be called before JAX's first use."""
    if alone(os.environ):
        keep_memory()
        if cores() > 1:
            use_threads_in_convolutions(os.environ, jax.__version_info__)


def alone(environment: MutableMapping[str, str]) -> bool:
    """Whether JAX can run on nothing but the CPU: so it was told, or nothing for another device is installed."""
    if "JAX_PLATFORMS" in environment:
        return environment["JAX_PLATFORMS"] == "cpu"
    if importlib.metadata.entry_points(group="jax_plugins"):
        return False
    return all(importlib.util.find_spec(name) is None for name in ("jax_plugins", "libtpu"))


def cores() -> int:
    """Those that this process may use; on systems that do not say, those that there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory() -> bool:
    """Lets the C library keep what is freed: every step takes the same 100 MB, which the system would clear again.

    All threads share one arena, as only the first one can grow so far. False, and nothing set, where the library is not
    glibc, or one that keeps no such large blocks (before 2.35).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(MMAP_THRESHOLD, KEPT):
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT) and mallopt(ARENA_MAX, 1))


def convolution_flag(version: tuple[int, ...]) -> str | None:
    """The flag for this version of JAX; None for one that was not measured."""
    return next((flag for first, last, flag in CONVOLUTIONS if first <= version < last), None)


def use_threads_in_convolutions(environment: MutableMapping[str, str], version: tuple[int, ...]) -> None:
    """Has XLA leave convolutions to Eigen, which spreads each over the cores; YNNPACK runs small ones on a single one.

    (On one core YNNPACK is the faster of the two.) A user's own choice stays.
    """
    flags = environment.get("XLA_FLAGS", "")
    flag = convolution_flag(version)
    if flag and flag.split("=")[0] not in flags:
        environment["XLA_FLAGS"] = f"{flags} {flag}".strip()


@functools.cache
def say_if_unmeasured(version: tuple[int, ...] = jax.__version_info__) -> None:
    """Says once, to those who train or measure on a CPU, that this JAX is newer than what is known to be fast there."""
    if alone(os.environ) and cores() > 1 and version >= max(last for _, last, _ in CONVOLUTIONS):
        progress.say(
            f"JAX {'.'.join(map(str, version))} is newer than launch/cli/cpu.py knows: XLA chooses how convolutions "
            "run, perhaps far slower; requirements.txt says what to do about a new JAX"
        )
