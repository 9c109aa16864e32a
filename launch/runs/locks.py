"""Locks on folders that end with their process, whatever ends it, and hold between machines that share the folder."""

import contextlib
import errno
import fcntl
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

# A file in the folder: NFS passes a lock on to other machines only for files that are open for writing. It stays there,
# as a file that came and went could be locked by two.
NAME = ".lock"
# What flock says where a file system has no locks: Lustre unless mounted with `flock`, NFS without its lock service.
# FUSE (gcsfuse, s3fs) says nothing of the kind: the kernel locks for one machine, and others are not kept out.
UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


@contextlib.contextmanager
def held(folder: Path, *, needed: bool = True) -> Iterator[bool]:
    """Tries to lock a folder, made if needed: True while nobody else has it, False at once when somebody has.

    `needed`: False, where a lock only guards against a user's mistake, warns on a file system without locks and goes on
    as if nobody else had the folder.

    Raises OSError when the folder cannot be made or written to, or its file system has no locks and one is needed.
    """
    with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB, needed) as mine:
        yield mine


@contextlib.contextmanager
def waited_for(folder: Path) -> Iterator[None]:
    """Locks a folder, made if needed, when those who have it are done. Raises OSError as `held` does."""
    with _locked(folder, fcntl.LOCK_EX):
        yield


def remove_empty(folder: Path) -> None:
    """Removes a folder that holds nothing, or only a lock that nobody has."""
    with contextlib.suppress(OSError):  # not a folder, or no longer empty
        if {path.name for path in folder.iterdir()} <= {NAME}:
            with held(folder) as mine:
                if mine:
                    (folder / NAME).unlink()
                    folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path, how: int, needed: bool = True) -> Iterator[bool]:
    file = folder / NAME
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            mine = _try(descriptor, how, file, needed)
            # Whoever had it before may have removed the folder: then this is a lock on nothing.
            if mine and _is_at(descriptor, file):
                yield True
                return
        finally:
            os.close(descriptor)
        if not mine:
            yield False
            return


def _try(descriptor: int, how: int, file: Path, needed: bool) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in UNSUPPORTED and not needed:
            warnings.warn(
                f"{file} cannot be locked ({error.strerror}): nothing keeps others from writing to the same folder",
                stacklevel=2,
            )
            return True
        message = (
            f"cannot lock this file ({error.strerror}); use a folder on a file system with locks (flock)"
        )
        raise OSError(error.errno, message, str(file)) from error
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except OSError:
        return False
