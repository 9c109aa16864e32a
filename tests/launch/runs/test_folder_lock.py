"""One training a folder, and the lock that a vanished host has left."""

import contextlib
import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest

from launch.runs import folder_lock, hosts, locks, stopping
from mcss_jax.errors import UserError

CLUSTER = (
    "SLURM_JOB_ID",
    "TPU_WORKER_HOSTNAMES",
    "TPU_ML_PLATFORM",
    "KUBERNETES_SERVICE_HOST",
)


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLUSTER:
        monkeypatch.delenv(name, raising=False)


def test_at_home_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slept(seconds: float) -> None:
        raise AssertionError("nobody can have vanished")

    monkeypatch.setattr(folder_lock.time, "sleep", slept)
    with (
        locks.held(tmp_path),
        pytest.raises(UserError, match="another training is at work in .*; wait for it, stop it, or use ano"),
        folder_lock.held(tmp_path, stopping.Stop()),
    ):
        pass
    assert capsys.readouterr().out == ""
    with folder_lock.held(tmp_path, stopping.Stop()), locks.held(tmp_path) as another:
        assert not another


@pytest.mark.parametrize("attempts", [2, 4])
def test_a_cluster_waits_for_a_lock_that_may_be_nobodys(
    attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes away while the run waits for the second time."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(folder_lock, "ATTEMPTS", attempts)
    slept: list[float] = []
    with contextlib.ExitStack() as left:
        assert left.enter_context(locks.held(tmp_path))

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            if len(slept) == 2:
                left.close()

        monkeypatch.setattr(folder_lock.time, "sleep", sleep)
        with (
            contextlib.nullcontext() if attempts == 4 else pytest.raises(UserError, match="another training")
        ):
            with folder_lock.held(tmp_path, stopping.Stop()), locks.held(tmp_path) as another:
                assert not another
    assert slept == [folder_lock.SECONDS_BETWEEN] * (attempts // 2)
    said = capsys.readouterr().out
    assert said.count("is locked: another training is at work there, or its host has vanished; trying") == 1
    assert f"for {folder_lock.SECONDS_BETWEEN * (attempts - 1):.0f} s" in said


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGUSR1])
def test_who_waits_can_be_told_to_stop(
    name: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(folder_lock, "ATTEMPTS", 2)
    monkeypatch.setattr(folder_lock.time, "sleep", lambda seconds: signal.raise_signal(name))
    with locks.held(tmp_path), stopping.Stop().watching() as stop, folder_lock.held(tmp_path, stop) as ours:
        assert not ours and stop.received and stop.preempted == (name == signal.SIGUSR1)


def test_the_wait_outlasts_a_lease() -> None:
    assert folder_lock.SECONDS_BETWEEN * (folder_lock.ATTEMPTS - 1) >= 100


def test_who_may_go_on_with_anothers_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not folder_lock._hosts_may_vanish()
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    assert folder_lock._hosts_may_vanish()
    monkeypatch.delenv("TPU_WORKER_HOSTNAMES")
    monkeypatch.setattr(folder_lock.jax, "process_count", lambda: 2)
    assert folder_lock._hosts_may_vanish()


def test_without_locks_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.warns(UserWarning, match="nothing keeps others from writing"),
        folder_lock.held(tmp_path, stopping.Stop()),
    ):
        assert (tmp_path / locks.NAME).exists() and hosts.first()
