"""One training a folder: process 0 locks it for all; where hosts may vanish, they wait for the lock of one that did."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from launch.runs import hosts, locks, stopping
from mcss_jax.errors import UserError

# A file server gives up the lock of a host that vanished when its lease ends (NFSv4 on Linux: 90 s).
ATTEMPTS = 25
SECONDS_BETWEEN = 5.0


@contextlib.contextmanager
def held(folder: Path, stop: stopping.Stop) -> Iterator[bool]:
    """Locks the folder of a run, made if needed: True, or False when told to stop while it waits for the lock.

    All processes of the run must call it, and all get the same.
    Where the file system has no locks it warns and goes on: they only guard against a second training by mistake, and
    users of a cluster cannot change how its file system is mounted.

    Raises UserError, on all of them, when another training has the folder.
    """
    attempts = ATTEMPTS if _hosts_may_vanish() else 1
    with contextlib.ExitStack() as stack:
        for attempt in range(1, attempts + 1):
            with hosts.together("use --workdir"):
                mine = hosts.first() and stack.enter_context(locks.held(folder, needed=False))
                if hosts.first() and not mine and attempt == attempts:
                    raise UserError(
                        f"another training is at work in {folder}; wait for it, stop it, or use another --workdir"
                    )
            # Process 0's word, in each round anew: who waits long in a single exchange may be given up (gloo: 30 s).
            ours = bool(hosts.gather(np.asarray(mine))[0])
            if ours:
                break
            if attempt == 1:
                seconds = SECONDS_BETWEEN * (attempts - 1)
                hosts.say(
                    f"{folder} is locked: another training is at work there, or its host has vanished; trying again "
                    f"for {seconds:.0f} s"
                )
            time.sleep(SECONDS_BETWEEN)
            if stop.wanted():
                break
        yield ours


def _hosts_may_vanish() -> bool:
    """Whether this run may go on with what another host began; SLURM also puts jobs of one task back into the queue."""
    return jax.process_count() > 1 or hosts.cluster(os.environ) is not None or "SLURM_JOB_ID" in os.environ
