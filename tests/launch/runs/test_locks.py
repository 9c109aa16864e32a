"""Locks on folders."""

import errno
import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.runs import locks


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with locks.held(folder) as first, locks.held(folder) as second:
        assert (first, second) == (True, False)
    with locks.held(folder) as third, locks.held(tmp_path) as another:
        assert third and another
    assert [path.name for path in folder.iterdir()] == [locks.NAME]


def test_the_lock_is_a_file_that_is_open_for_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder's own descriptor, or one for reading, would keep out no other machine on NFS."""
    modes = []
    flock = fcntl.flock

    def recorded(descriptor: int, how: int) -> None:
        modes.append(fcntl.fcntl(descriptor, fcntl.F_GETFL))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", recorded)
    with locks.held(tmp_path), locks.waited_for(tmp_path / "b"):
        pass
    assert [mode & 3 for mode in modes] == [2, 2]  # O_RDWR


def test_who_does_not_get_it_keeps_no_file_open(tmp_path: Path) -> None:
    with locks.held(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        with locks.held(tmp_path) as second:
            assert not second and len(os.listdir("/proc/self/fd")) == before


def test_waiting_ends_when_the_other_is_done(tmp_path: Path) -> None:
    order = []

    def wait() -> None:
        with locks.waited_for(tmp_path):
            order.append("second")

    with locks.waited_for(tmp_path):
        other = threading.Thread(target=wait)
        other.start()
        other.join(0.05)
        order.append("first")
    other.join()
    assert order == ["first", "second"]


def test_a_lock_on_a_folder_that_was_removed_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had it removes the folder after it was opened, and before it is locked by the next one."""
    folder = tmp_path / "folder"
    flock, removed = fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not removed:
            (folder / locks.NAME).unlink()
            folder.rmdir()
            removed.append(folder)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locks.held(folder) as mine:
        assert mine and (folder / locks.NAME).is_file() and removed
        with locks.held(folder) as another:
            assert not another


def test_only_what_is_empty_and_free_is_removed(tmp_path: Path) -> None:
    full, used, free, bare = (tmp_path / name for name in ("full", "used", "free", "bare"))
    bare.mkdir()
    for folder in (full, used, free):
        with locks.held(folder):
            pass
    (full / "file").touch()
    with locks.held(used):
        for folder in (full, used, free, bare, tmp_path / "nothing"):
            locks.remove_empty(folder)
    assert {path.name for path in tmp_path.iterdir()} == {"full", "used"}
    assert {path.name for path in full.iterdir()} == {"file", locks.NAME}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes every lock fail with an error of the system."""

    def fail_with(number: int) -> None:
        def flock(descriptor: int, how: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    return fail_with


def test_a_file_system_without_locks_is_named(tmp_path: Path, failing: Callable[[int], None]) -> None:
    failing(errno.ENOLCK)
    with (
        pytest.raises(
            OSError, match=r"cannot lock this file \(No locks available\); use a folder on .*\.lock"
        ),
        locks.held(tmp_path),
    ):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_who_does_not_need_the_lock_goes_on_without(
    number: int, tmp_path: Path, failing: Callable[[int], None]
) -> None:
    failing(number)
    with pytest.warns(UserWarning, match=r"\.lock cannot be locked \(.*\): nothing keeps others") as said:
        with locks.held(tmp_path, needed=False) as mine:
            assert mine
    assert len(said) == 1


def test_another_error_is_not_taken_for_a_lack_of_locks(
    tmp_path: Path, failing: Callable[[int], None]
) -> None:
    failing(errno.EIO)
    with pytest.raises(OSError, match="cannot lock this file"), locks.held(tmp_path, needed=False):
        pass
