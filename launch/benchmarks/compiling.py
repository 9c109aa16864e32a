"""The suite `compile` of launch.benchmark: how long a training takes from its start to the end of its first update.

Real starts of launch.train with the benchmark's flags, in processes of their own: the first with an empty compilation
cache, the others with what it left there.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from launch.benchmarks.settings import Benchmark, arguments
from launch.benchmarks.timing import Row, Timing
from launch.cli import flags, options
from launch.runs import metric_log
from mcss_jax.errors import UserError

TRAIN = (sys.executable, "-m", "launch.train")
MOST_WARM = 3
POLL_S = 0.02


def first_update(command: Sequence[str], environment: Mapping[str, str], workdir: Path) -> float:
    """Seconds from the start of a training to its first log line, which follows its first update; waits for its end.

    Raises UserError with what the program said last when it ends with an error; RuntimeError when that is a defect, or
    it ends without an update.
    """
    log = workdir / metric_log.JSONL
    start, seconds = time.perf_counter(), None
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
        while seconds is None and process.poll() is None:
            time.sleep(POLL_S)
            if log.is_file() and log.stat().st_size:
                seconds = time.perf_counter() - start
        code = process.wait()
        output.seek(0)
        lines = output.read().strip().splitlines() or ["nothing was said"]
    if code or seconds is None:
        # What its own sentence is about is the user's, and what it calls a defect is one.
        kind = RuntimeError if code in (0, flags.DEFECT) else UserError
        raise kind(f"the training that was to be timed ended with exit code {code}: {lines[-1]}")
    return seconds


def compile_rows(config: Benchmark, command: Sequence[str] = TRAIN) -> list[Row]:
    """The cold start, and up to three warm ones, each to its first update."""
    warm = min(config.repeats, MOST_WARM)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)  # of mode 0700: the programs' own cache goes there
        environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
        environment["XDG_CACHE_HOME"] = str(folder / "cache")

        def start(number: int) -> float:
            workdir = folder / f"run_{number}"
            run = options.replace(config, workdir=str(workdir), stop_after=1, validate_every=0)
            return first_update((*command, *arguments(run)), environment, workdir)

        cold, *others = (start(number) for number in range(1 + warm))
    return [
        Row("start to first update, empty cache", Timing((cold,), cold), 1, "starts"),
        Row("start to first update, warm cache", Timing(tuple(others), cold), 1, "starts"),
    ]
