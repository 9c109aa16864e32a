"""Where processes find each other, what they say when they do not; agreement itself is in tests/multiprocess."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np
import pytest

from launch import hosts
from launch.settings import Train

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
}
PAIR = Train(
    workdir="x", coordinator_address="10.0.0.1:99", num_processes=2, process_id=1, coordinator_timeout=1
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (SLURM, "SLURM"),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        (
            {name: value for name, value in SLURM.items() if name != "SLURM_STEP_NODELIST"},
            None,
        ),  # salloc's shell
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_ML_PLATFORM": "JAX"}, "TPU"),
        ({"TPU_WORKER_HOSTNAMES": "a", "TPU_ML_PLATFORM": "JAX"}, None),
        ({"TPU_ML_PLATFORM": "JAX"}, "TPU"),
        ({"TPU_SKIP_MDS_QUERY": "1"}, None),  # what JAX sets where it finds no TPU
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, "Kubernetes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_cluster(environment: dict[str, str], expected: str | None) -> None:
    assert hosts.cluster(environment) == expected


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `jax.distributed.initialize` is called with, instead of calling it."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    return calls


def test_nobody_is_joined_on_a_machine_by_itself(
    joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.initialise(Train(workdir="x"))
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    hosts.initialise(Train(workdir="x", num_processes=1))
    assert joined == []
    hosts.initialise(Train(workdir="x"))
    assert len(joined) == 1 and "num_processes" not in joined[0]


def test_flags_say_it_all(joined: list[dict[str, Any]]) -> None:
    hosts.initialise(PAIR)
    (given,) = joined
    assert (given["coordinator_address"], given["num_processes"], given["process_id"]) == (
        "10.0.0.1:99",
        2,
        1,
    )
    assert given["cluster_detection_method"] == "deactivate"
    assert given["initialization_timeout"] > PAIR.coordinator_timeout, "ours comes first"


def test_who_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: time.sleep(1.5))
    with pytest.raises(
        ValueError, match="coordinator at 10.0.0.1:99 did not bring all processes together within 1 s"
    ):
        hosts.initialise(PAIR)


def test_a_cluster_that_does_not_say_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(**given: Any) -> None:
        raise RuntimeError("jobs must be indexed")

    monkeypatch.setattr(jax.distributed, "initialize", lacks)
    for name, value in {"KUBERNETES_SERVICE_HOST": "h", "JOB_COMPLETION_INDEX": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match="coordinator of this Kubernetes job cannot be joined: jobs must be indexed"
    ):
        hosts.initialise(Train(workdir="x"))


def test_differing() -> None:
    found = np.zeros((3, 4, 32), np.uint8)
    assert hosts.differing(found) == {}
    found[1, 2, 31] = found[2, 2, 0] = found[2, 0, 5] = 1
    assert hosts.differing(found) == {0: [2], 2: [1, 2]}
    found[0, 3] = 9  # it is process 0 that is alone with it
    assert hosts.differing(found)[3] == [1, 2]


def test_one_process_agrees_with_itself() -> None:
    assert hosts.first() and not hosts.agree_to_stop(1)
    hosts.compare({"x": "1"})
    hosts.compare_settings(PAIR)
    hosts.compare_state({"w": np.ones(2)})
    np.testing.assert_array_equal(hosts.gather(np.arange(3)), np.arange(3)[None])
    with hosts.together("work"):
        pass
    with pytest.raises(OSError, match="disk full"):
        with hosts.together("work"):
            raise OSError("disk full")


def test_processes_may_differ_in_what_is_their_own() -> None:
    fields = {field.name for field in dataclasses.fields(Train)}
    assert set(hosts.OWN) <= fields
    assert not {"save_every", "stop_after", "seed", "parallel", "devices", "num_processes"} & set(hosts.OWN)
