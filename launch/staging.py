"""A folder to build in, beside the prepared sets: a set appears there complete, or not at all."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".preparing-"


@contextlib.contextmanager
def staging(data_dir: Path) -> Iterator[Path]:
    """A fresh folder in `data_dir`, removed at the end with what is left in it; so are parents made for it.

    A folder left by a process that was killed is removed too: its lock is free.

    Raises:
        OSError: `data_dir` cannot be made or written to.
    """
    made = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    try:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            _sweep(data_dir)
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=data_dir))
        except OSError as error:
            raise OSError(
                f"--data_dir={data_dir} cannot be written to ({error.strerror}); choose another folder"
            ) from error
        try:
            with _locked(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # holds something: the set that was made
                path.rmdir()


@contextlib.contextmanager
def kept(folder: Path, data_dir: Path) -> Iterator[None]:
    """A folder below `data_dir` for work that outlives an interrupted process; removed at the end if it is empty.

    Raises:
        OSError: it cannot be made or written to, or another process works in it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"--data_dir={data_dir} cannot be written to ({error.strerror}); choose another folder"
            ) from error
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(_locked(folder))
            except BlockingIOError as error:
                raise OSError(f"another process is preparing in {folder}; wait for it, or stop it") from error
            yield
    finally:
        between = [path for path in (folder, *folder.parents) if data_dir in path.parents]
        for path in dict.fromkeys([*between, *made]):
            with contextlib.suppress(OSError):  # not empty, or gone
                path.rmdir()


def install(fresh: Path, target: Path, staged: Path) -> None:
    """Moves a complete set into place; one that stood there before goes into the staging folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        target.rename(staged / "replaced")
    fresh.rename(target)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sweep(data_dir: Path) -> None:
    for folder in data_dir.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # locked: another process is at work in it
            with _locked(folder):
                shutil.rmtree(folder)
