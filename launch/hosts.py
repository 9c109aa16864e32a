"""Several processes that train as one: how they find each other, agree on what they do, and stop together.

With one process there is nobody to agree with, and every function here says so at once.
"""

import contextlib
import dataclasses
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from launch import provenance, settings
from mcss_jax import parallel

# Settings in which the processes of one run may differ; all others decide what they do together.
OWN = ("data_dir", "workdir", "decode_threads", "coordinator_address", "process_id", "coordinator_timeout")
# How long JAX itself goes on after our own limit, seconds: it would end the process without a sentence.
SPARE = 600
# Seconds that a process which ends waits for the others.
SHUTDOWN = 60


def first() -> bool:
    """Whether this process is the one that writes the run's files and speaks."""
    return jax.process_index() == 0


def cluster(environment: Mapping[str, str]) -> str | None:
    """The cluster, of several processes, in which JAX finds its own place; None on a machine by itself.

    SLURM: a step of several tasks. TPU: what `import jax` leaves in the environment of a TPU machine, and the hosts'
    names that GKE gives. Kubernetes: an indexed Job or JobSet (JAX asks the cluster for the rest, and needs the
    package `kubernetes` for it).
    """
    if {"SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"} <= set(environment):
        return "SLURM" if int(environment.get("SLURM_NTASKS", "1")) > 1 else None
    if "TPU_WORKER_HOSTNAMES" in environment:
        return "TPU" if "," in environment["TPU_WORKER_HOSTNAMES"] else None
    if "TPU_ML_PLATFORM" in environment and "TPU_SKIP_MDS_QUERY" not in environment:
        return "TPU"
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environment):
        return "Kubernetes"
    return None


def initialise(config: settings.Train) -> None:
    """Joins the other processes of the run, where flags or a cluster say that there are any; before any use of JAX.

    Raises ValueError when the coordinator does not answer, or some process does not come, within
    `--coordinator_timeout` seconds, and when a cluster does not say all that is needed.
    """
    arguments: dict[str, Any] = {}
    if config.num_processes > 1:
        where = f"the coordinator at {config.coordinator_address}"
        arguments = {
            "coordinator_address": config.coordinator_address,
            "num_processes": config.num_processes,
            "process_id": config.process_id,
            "cluster_detection_method": "deactivate",
        }
    elif not config.num_processes and (found := cluster(os.environ)):
        where = f"the coordinator of this {found} job"
    else:
        return
    failure: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                initialization_timeout=config.coordinator_timeout + SPARE,
                shutdown_timeout_seconds=SHUTDOWN,
                **arguments,
            )
        except Exception as error:  # whatever a cluster's environment lacks
            failure.append(error)

    # In a thread of its own: JAX ends the process, without a word to the user, when its own limit is reached.
    thread = threading.Thread(target=join, name="join", daemon=True)
    thread.start()
    thread.join(config.coordinator_timeout)
    if thread.is_alive():
        raise ValueError(
            f"{where} did not bring all processes together within {config.coordinator_timeout} s; check that process "
            "0 runs, that its address can be reached from here, and that all processes were started "
            "(--coordinator_timeout waits longer)"
        )
    if failure:
        raise ValueError(f"{where} cannot be joined: {failure[0]}") from failure[0]


def gather(values: np.ndarray) -> np.ndarray:
    """Every process's array, stacked in order of process. All processes must call it, with equal shapes."""
    return np.asarray(multihost_utils.process_allgather(values)).reshape(jax.process_count(), *values.shape)


def differing(found: np.ndarray) -> dict[int, list[int]]:
    """Of gathered digests [process, item, byte]: the items that differ, and on which processes from process 0."""
    other = (found != found[:1]).any(axis=2)
    return {int(item): np.flatnonzero(other[:, item]).tolist() for item in np.flatnonzero(other.any(axis=0))}


def compare(items: Mapping[str, str]) -> None:
    """Raises ValueError on every process, naming the items that are not the same on all and the processes.

    All processes must call it, with the same names.
    """
    if jax.process_count() == 1:
        return
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in items.values()]
    found = differing(gather(np.stack(digests)))
    if found:
        names = list(items)
        said = "; ".join(f"{names[item]} (here {items[names[item]]}) on {found[item]}" for item in found)
        raise ValueError(
            f"the processes of this run differ from process 0 in: {said}; start all of them alike"
        )


def compare_settings(config: settings.Train) -> None:
    """`compare` for the revision of the code and every setting that decides what the processes do together."""
    # By itself first: other code may have other settings.
    compare({"the code's revision": str(provenance.revision())})
    compare({f"--{k}": repr(v) for k, v in dataclasses.asdict(config).items() if k not in OWN})


def compare_state(state: Any) -> None:
    """`compare` for all arrays of a replicated state."""
    if jax.process_count() == 1:
        return
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(parallel.replicate(state)):
        found.update(np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data)
    compare({"the parameters": found.hexdigest()[:16]})


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Ends when all processes have done `what`; where one fails all do, instead of waiting for it for ever.

    Raises ValueError with the processes that failed, on those that did not.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    if jax.process_count() > 1:
        failed = np.flatnonzero(gather(np.asarray(failure is not None))).tolist()
        if failed and failure is None:
            raise ValueError(f"processes {failed} could not {what}; their own output says why")
    if failure is not None:
        raise failure


def agree_to_stop(step: int) -> bool:
    """Whether this is the step after which all processes stop, since one was told to (SIGTERM); False with one process.

    To be called after every step, by all.
    """
    return bool(multihost_utils.reached_preemption_sync_point(step))
