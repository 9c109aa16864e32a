"""Pytest in processes that have imported the slow libraries already: half of what a test's run takes is their import.

A server imports them once and forks for every run (multiprocessing's `forkserver`). What is tested is imported in the
fork, from the copy that the fault was put into.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# None of them starts JAX, which would not survive a fork, or imports the project.
LIBRARIES = ("pytest", "hypothesis", "numpy", "jax", "jaxtyping", "flax.linen", "optax", "orbax.checkpoint",
             "tensorflow_datasets", "absl.flags", "tensorboardX", "PIL.Image")  # fmt: skip
PROJECT = ("mcss_jax", "datasets", "launch", "tests", "conftest")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(LIBRARIES))


def _child(copy: str, arguments: list[str], output: str) -> None:
    with open(output, "w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(copy)
    sys.path[:] = [copy, *(path for path in sys.path if path and not (Path(path) / "mcss_jax").is_dir())]
    for name in [name for name in sys.modules if name.partition(".")[0] in PROJECT]:
        del sys.modules[name]
    import pytest

    # A plugin that is imported already cannot have its assertions rewritten, which it does not need.
    code = int(pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *arguments]))
    sys.stdout.flush()
    # Without the exit's own waiting: nobody needs what libraries would tidy up.
    os._exit(code)


def pytest_in(copy: Path, arguments: Sequence[str], longest: float | None) -> tuple[int | None, str]:
    """Exit code (None: it took longer than `longest` seconds) and last lines of pytest's output in a copy."""
    output = copy.parent / "output.txt"
    process = _context.Process(target=_child, args=(str(copy), list(arguments), str(output)))
    process.start()
    process.join(longest)
    if process.is_alive():
        process.kill()
        process.join()
        return None, ""
    return process.exitcode, output.read_text(errors="replace")[-1500:]
