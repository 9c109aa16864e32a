"""Signals that end a run in good order: the update under way is finished and its state saved."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import jax

from launch.runs import hosts

# The exit code of a run that a scheduler has stopped, after it was saved: "try again later" to those who requeue.
REQUEUE = os.EX_TEMPFAIL
# What schedulers send before they take a machine away (SLURM: --signal=USR1@120).
PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Makes the first Ctrl-C, SIGTERM or SIGUSR1 a wish to stop after an update; a second one is obeyed at once.

    With several processes a signal to any of them stops all after the same update: JAX watches for SIGTERM itself, and
    the other signals are passed on to it.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._joined = jax.distributed.is_initialized()
        self.preempted = False

    @property
    def received(self) -> bool:
        """Whether a signal has come to this process, be it after the last question; SIGTERM is JAX's with several."""
        return self._received is not None

    def wanted(self) -> bool:
        """Whether to stop now; to be asked after every update, by every process."""
        stop = hosts.agree_to_stop() if self._joined else self._received is not None
        # A process that no signal reached stops for another's, and is to be started again with it.
        stopped_by_another = self._joined and self._received is None
        self.preempted = stop and (stopped_by_another or self._received in PREEMPTION)
        return stop

    def _handle(self, number: int, _frame: Any) -> None:
        self._received = number
        for name in self._handled:
            signal.signal(name, signal.SIG_DFL)
        if self._joined:
            signal.raise_signal(signal.SIGTERM)

    @property
    def _handled(self) -> tuple[signal.Signals, ...]:
        others = (signal.SIGINT, signal.SIGUSR1)
        return others if self._joined else (*others, signal.SIGTERM)

    @contextlib.contextmanager
    def watching(self) -> Iterator["Stop"]:
        """Handles the signals; outside the main thread they are somebody else's."""
        try:
            before = {name: signal.signal(name, self._handle) for name in self._handled}
        except ValueError:
            yield self
            return
        try:
            yield self
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)
