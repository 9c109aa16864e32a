"""Several processes that train as one: how they find each other, agree on what they do, and stop together.

With one process there is nobody to agree with, and every function here says so at once.
"""

import contextlib
import hashlib
import itertools
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from launch.cli import options, out_of_memory, progress
from launch.runs import provenance, settings
from mcss_jax.errors import UserError, is_mendable
from mcss_jax.setting import Role
from mcss_jax.training import parallel
from mcss_jax.training.parallel import gather as gather

# How long JAX itself goes on after our own limit, seconds: it would end the process without a sentence.
SPARE = 600
# Seconds that a process which ends waits for the others; also how long they wait when one has failed.
SHUTDOWN = 20
# Seconds within which a file of one process has to be seen by the others.
VISIBLE = 10.0
# How a process comes out of what all do together.
DONE, MENDABLE, DEFECT = range(3)
# Numbers the questions of `agree_to_stop`, from the first in this process on, as JAX does.
_questions = itertools.count(1)


def first() -> bool:
    """Whether this process is the one that writes the run's files and speaks."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """`progress.say`, by process 0 for all of them."""
    if first():
        progress.say(text)


def bar(work: int, desc: str, unit: str, *, initial: int = 0) -> Any:
    """`progress.bar`, shown by process 0 for all of them."""
    return progress.bar(work, desc, unit, initial=initial, shown=first())


def cluster(environment: Mapping[str, str]) -> str | None:
    """The cluster, of several processes, in which JAX finds its own place; None on a machine by itself.

    SLURM: a step of several tasks. TPU: what `import jax` leaves in the environment of a TPU machine, and the hosts'
    names that GKE gives. Kubernetes: an indexed Job or JobSet (JAX asks the cluster for the rest, and needs the
    package `kubernetes` for it).
    """
    if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(environment):
        return "SLURM" if environment.get("SLURM_NTASKS", "1").strip() not in ("0", "1") else None
    if "TPU_WORKER_HOSTNAMES" in environment:
        return "TPU" if "," in environment["TPU_WORKER_HOSTNAMES"] else None
    if "TPU_ML_PLATFORM" in environment and "TPU_SKIP_MDS_QUERY" not in environment:
        return "TPU"
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environment):
        return "Kubernetes"
    return None


class _Meeting(NamedTuple):
    """Where processes meet, in words; what JAX is told of it; what a user can do who did not mean to meet anybody."""

    where: str
    arguments: dict[str, Any]
    way_out: str = ""


def _meeting(config: settings.Train, environment: Mapping[str, str]) -> _Meeting | None:
    """As flags or a cluster say; None where neither says that there are several processes."""
    if config.devices.num_processes > 1:
        arguments = {
            name: getattr(config.devices, name)
            for name in ("coordinator_address", "num_processes", "process_id")
        }
        return _Meeting(
            f"the coordinator at {config.devices.coordinator_address}",
            arguments | {"cluster_detection_method": "deactivate"},
        )
    cluster_name = None if config.devices.num_processes else cluster(environment)
    if cluster_name is None:
        return None
    # By itself JAX takes one GPU for a task of SLURM's; no restriction leaves the task all that it sees.
    every = {"local_device_ids": ()} if has_a_node(environment) else {}
    return _Meeting(
        coordinator(cluster_name, environment), every, "; --num_processes=1 trains on this machine alone"
    )


def coordinator(cluster_name: str, environment: Mapping[str, str]) -> str:
    """The coordinator of a cluster that JAX found, in words, as far as the environment tells where it is."""
    for name in ("JAX_COORDINATOR_ADDRESS", "MEGASCALE_COORDINATOR_ADDRESS"):
        if name in environment:
            return f"the coordinator at {environment[name]}"
    nodes = {"SLURM": "SLURM_STEP_NODELIST", "TPU": "TPU_WORKER_HOSTNAMES"}.get(cluster_name, "")
    on = f", on the first of {environment[nodes]}," if nodes in environment else ""
    return f"the coordinator of this {cluster_name} job{on}"


def has_a_node(environment: Mapping[str, str]) -> bool:
    """Whether this is SLURM's only task on its node, as on all others (`1`, `1(x4)`), and nobody chose its GPUs."""
    tasks = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    alone = cluster(environment) == "SLURM" and re.fullmatch(r"1(\(x\d+\))?", tasks)
    return bool(alone) and "JAX_LOCAL_DEVICE_IDS" not in environment


def initialise(config: settings.Train) -> None:
    """Joins the other processes of the run, where flags or a cluster say that there are any; before any use of JAX.

    Raises UserError when the coordinator does not answer, or some process does not come, within
    `--coordinator_timeout` seconds, and when a cluster does not say all that is needed.
    """
    meeting = _meeting(config, os.environ)
    if meeting is None:
        return
    failure: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                initialization_timeout=config.devices.coordinator_timeout + SPARE,
                shutdown_timeout_seconds=SHUTDOWN,
                **meeting.arguments,
            )
        except Exception as error:  # whatever a cluster's environment lacks
            failure.append(error)

    # In a thread of its own: JAX ends the process, without a word to the user, when its own limit is reached.
    thread = threading.Thread(target=join, name="join", daemon=True)
    thread.start()
    thread.join(config.devices.coordinator_timeout)
    if thread.is_alive():
        raise UserError(
            f"{meeting.where} did not bring all processes together within {config.devices.coordinator_timeout} s; "
            "check that process 0 runs, that its address can be reached from here, and that all processes were started "
            f"(--coordinator_timeout waits longer{meeting.way_out})"
        )
    if failure:
        raise UserError(f"{meeting.where} cannot be joined: {failure[0]}{meeting.way_out}") from failure[0]


def differing(digests: np.ndarray) -> dict[int, list[int]]:
    """Of gathered digests [process, item, byte]: the items that differ, and on which processes from process 0."""
    other = (digests != digests[:1]).any(axis=2)
    return {int(item): np.flatnonzero(other[:, item]).tolist() for item in np.flatnonzero(other.any(axis=0))}


def compare(items: Mapping[str, str]) -> None:
    """Raises UserError on every process, naming the items that are not the same on all and the processes.

    All processes must call it, with as many items, in the same order.
    """
    if jax.process_count() == 1:
        return
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in items.values()]
    differences = differing(gather(np.stack(digests)))
    if differences:
        names = list(items)
        listed = "; ".join(
            f"{names[item]} (here {items[names[item]]}) on {differences[item]}" for item in differences
        )
        raise UserError(
            f"the processes of this run differ from process 0 in: {listed}; start all of them alike"
        )


def compare_settings(config: settings.Train) -> None:
    """`compare` for the code itself and every setting that decides what the processes do together."""
    if jax.process_count() == 1:
        return
    with together("read the code"):
        revision, code = provenance.revision(), provenance.code()
    # By itself first: other code may have other settings. The revision is only shown: not every copy knows its own.
    compare({f"the code of revision {revision}" if revision else "the code": code})
    own = options.with_role(type(config), Role.OF_HOST)
    compare({f"--{k}": repr(v) for k, v in options.values(config).items() if k not in own})


def compare_state(state: Any) -> None:
    """`compare` for all arrays of a replicated state."""
    if jax.process_count() == 1:
        return
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parallel.replicate(state)):
        digest.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    compare({"the parameters": digest.hexdigest()[:16]})


def _outcome(failure: Exception | None) -> int:
    if failure is None:
        return DONE
    return MENDABLE if is_mendable(failure) or out_of_memory.exhausted(failure) else DEFECT


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Ends when all processes have done `what`; where one fails all do, instead of waiting for it for ever.

    Raises, on those that did not fail, UserError with the processes that did; RuntimeError where one of these met a
    defect, which is one of the whole run then.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if jax.process_count() > 1:
        outcomes = gather(np.asarray(_outcome(failure)))
        failed = np.flatnonzero(outcomes).tolist()
        if failed and failure is None:
            kind = RuntimeError if DEFECT in outcomes else UserError
            raise kind(f"processes {failed} could not {what}; their own output says why")
    if failure is not None:
        raise failure


def compare_folder(folder: Path, flag: str) -> None:
    """Raises UserError on all processes when one does not see the folder of process 0, which has to exist.

    A folder of the same name elsewhere may hold the same files: what process 0 puts there, for that long, is a file
    whose name nobody could know.
    """
    if jax.process_count() == 1:
        return
    name = gather(np.frombuffer(secrets.token_bytes(8), np.uint8))[0].tobytes().hex()
    mark = folder / f".seen-{name}"
    try:
        with together(f"use {flag}"):
            if first():
                mark.touch()
        with together(f"see {flag}"):
            if not _appears(mark):
                raise UserError(
                    f"{flag}={folder} is not the folder that process 0 writes to; all processes of a run need one "
                    "that they share"
                )
    finally:
        if first():
            with contextlib.suppress(OSError):  # of no consequence, and the others would not learn of it
                mark.unlink(missing_ok=True)


def _appears(file: Path) -> bool:
    """Whether `file` is there, or comes within `VISIBLE` seconds: NFS may go on for a while to say that it is not."""
    end = time.monotonic() + VISIBLE
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
        with contextlib.suppress(OSError):
            # To open a folder asks the server anew; so for the parent, which may have been looked at before.
            os.listdir(file.parent.parent)
            os.listdir(file.parent)
    return True


def agree_to_stop() -> bool:
    """Whether all processes stop now, since one of them was told to (SIGTERM); False with one process.

    To be asked by all, equally often: JAX lets them stop at the question after the last that any had asked when the
    signal came. So questions are counted, not steps, of which a resumed run would never ask for that one.
    """
    return bool(multihost_utils.reached_preemption_sync_point(next(_questions)))
