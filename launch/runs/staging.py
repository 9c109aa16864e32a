"""A folder to build in, beside the prepared sets: a set appears there complete, or not at all."""

import contextlib
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launch.runs import locks
from mcss_jax.errors import UserError

PREFIX = ".preparing-"
# In a staging folder: the set that a fresh one took the place of, and where it stood.
REPLACED, PLACE = "replaced", "replaced_from"


@contextlib.contextmanager
def staging(data_dir: Path) -> Iterator[Path]:
    """A fresh folder in `data_dir`, removed at the end with what is left in it; so are parents made for it.

    A folder left by a process that was killed is removed too: its lock is free.

    Raises:
        UserError: `data_dir` cannot be made or written to.
    """
    made = [path for path in (data_dir, *data_dir.parents) if not path.exists()]
    try:
        with contextlib.ExitStack() as stack:
            with _writable(data_dir):
                # Otherwise another process could sweep the folder before it is locked.
                with locks.waited_for(data_dir):
                    _sweep(data_dir)
                    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=data_dir))
                    stack.callback(shutil.rmtree, folder, ignore_errors=True)
                    stack.enter_context(locks.held(folder))
            yield folder
    finally:
        prune(made)


@contextlib.contextmanager
def kept(folder: Path, data_dir: Path) -> Iterator[None]:
    """A folder below `data_dir` for work that outlives an interrupted process; removed at the end if it is empty.

    Raises:
        UserError: it cannot be made or written to, or another process works in it.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    within = [path for path in (folder, *folder.parents) if data_dir in path.parents]
    try:
        with contextlib.ExitStack() as stack:
            with _writable(data_dir):
                mine = stack.enter_context(locks.held(folder))
            if not mine:
                raise UserError(f"another process is preparing in {folder}; wait for it, or stop it")
            yield
    finally:
        prune([*within, *made])


def install(fresh: Path, target: Path, staged: Path) -> None:
    """Moves a complete set into place; one that stood there before goes into the staging folder.

    Whatever interrupts it, there is a set at `target` afterwards: the fresh one, or the one before.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with uninterrupted():
        if target.exists():
            (staged / PLACE).write_text(str(target.absolute()), encoding="utf-8")
            target.rename(staged / REPLACED)
        try:
            fresh.rename(target)
        except BaseException:
            _put_back(staged)
            raise


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _writable(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--data_dir={data_dir} cannot be written to ({error.strerror}); choose another folder"
        ) from error


def _put_back(staged: Path) -> None:
    """A set that was moved away and not replaced goes back to its place."""
    if (staged / REPLACED).is_dir() and (staged / PLACE).is_file():
        place = Path((staged / PLACE).read_text(encoding="utf-8"))
        if not place.exists():
            (staged / REPLACED).rename(place)


def prune(folders: list[Path]) -> None:
    """Removes those of the folders, inner ones first, that hold nothing."""
    for path in dict.fromkeys(folders):
        locks.remove_empty(path)


def _sweep(data_dir: Path) -> None:
    for folder in data_dir.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), locks.held(folder) as mine:
            if mine:  # otherwise another process is at work in it
                _put_back(folder)
                shutil.rmtree(folder)
