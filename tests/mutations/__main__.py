"""Do the tests notice when the method is broken? Puts in one fault after another and runs the tests that should see it.

    python -m tests.mutations                    all of them, about a quarter of an hour on two cores
    python -m tests.mutations --only='mining'    those whose name matches a regular expression

Faults are put into copies of the project. Ends with `N mutants, M survived`, and exit code 0 only where none did.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tqdm import tqdm

from tests import environment
from tests.mutations import warm
from tests.mutations.catalogue import every_fault
from tests.mutations.fault import ROOT, Fault

COPIED = ("mcss_jax", "datasets", "launch", "tests", "pyproject.toml", "README.md")
FAILED, BROKEN, LONGEST = 1, 3, 300  # pytest's exit codes for tests that failed, for pytest itself; seconds
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider")


def pytest_in(copy: Path, tests: Sequence[str], longest: float | None = LONGEST) -> tuple[int, str]:
    """Exit code and last lines of the tests, in a copy of the project; no end of them is a failure.

    A failure is one that pytest counts: what goes wrong before tests begin (exit code 1 too) judges nothing.
    """
    code, said = warm.pytest_in(copy, [*OPTIONS, *tests], longest)
    if code is None:
        return FAILED, "no end"
    if code == FAILED and not re.search(r"\d+ (failed|error)", said):
        return BROKEN, said
    return code, said


def copied(folder: Path) -> Path:
    """The project's files in a new folder."""
    for name in COPIED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    if (ROOT.parent / "shared").is_dir():
        (folder.parent / "shared").symlink_to(ROOT.parent / "shared")
    return folder


def outcome(fault: Fault, copy: Path) -> str:
    """Empty where the tests noticed; otherwise what happened instead."""
    file = copy / fault.file
    text = file.read_text(encoding="utf-8")
    file.write_text(fault.mutated(text), encoding="utf-8")
    try:
        code, said = pytest_in(copy, fault.tests)
    finally:
        file.write_text(text, encoding="utf-8")
    if code == FAILED:
        return ""
    return "survived" if code == 0 else f"could not be judged, pytest ended with {code}: {said}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where every fault was noticed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", metavar="PATTERN", default="", help="those whose name matches a regular expression"
    )
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="at a time (default: 2)"
    )
    asked = parser.parse_args(arguments)
    faults = [fault for fault in every_fault() if re.search(asked.only, fault.name)]
    if not faults:
        parser.error(f"--only={asked.only}: no fault has such a name")
    survivors = 0
    environment.prepare()
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary:
        copies: Queue[Path] = Queue()
        for job in range(asked.jobs):
            parent = Path(temporary) / str(job)
            (parent / "copy").mkdir(parents=True)
            copies.put(copied(parent / "copy"))

        def passes(tests: Sequence[str]) -> tuple[int, str]:
            copy = copies.get()
            try:
                return pytest_in(copy, tests, None) if tests else (0, "")
            finally:
                copies.put(copy)

        def judged(fault: Fault) -> tuple[Fault, str]:
            copy = copies.get()
            try:
                return fault, outcome(fault, copy)
            finally:
                copies.put(copy)

        tests = sorted({test for fault in faults for test in fault.tests})
        with ThreadPoolExecutor(asked.jobs) as pool:
            # Tests that fail without a fault would notice everything.
            for code, said in pool.map(passes, (tests[job :: asked.jobs] for job in range(asked.jobs))):
                if code != 0:
                    print(said, "\nthe tests fail without any fault", file=sys.stderr)
                    return 2
            for fault, problem in tqdm(
                pool.map(judged, faults), total=len(faults), unit="mutant", mininterval=1
            ):
                if problem:
                    survivors += 1
                    tqdm.write(f"{fault.name} ({fault.file}): {problem}", file=sys.stdout)
    print(f"{len(faults)} mutants, {survivors} survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
