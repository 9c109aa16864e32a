"""Where processes find each other, what they say when they do not; agreement itself is in tests/multiprocess."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch.cli import options
from launch.runs import hosts
from launch.runs.settings import Train
from mcss_jax.errors import UserError
from mcss_jax.setting import Role
from tests.refusals import refused

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
}
PAIR = options.build(
    Train,
    workdir="x",
    coordinator_address="10.0.0.1:99",
    num_processes=2,
    process_id=1,
    coordinator_timeout=1,
)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (SLURM, "SLURM"),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        (SLURM | {"SLURM_NTASKS": "some"}, "SLURM"),  # JAX says what it makes of it
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


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ("1", True),
        ("1(x16)", True),
        ("2(x4)", False),
        ("1,2", False),
        ("2,1(x3)", False),
        ("11", False),
        ("", False),
    ],
)
def test_a_task_with_a_node_to_itself_is_left_all_its_gpus(
    tasks: str, expected: bool, joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """JAX would give each task one; in tests/multiprocess it is asked what it made of it."""
    for name, value in (SLURM | {"SLURM_STEP_TASKS_PER_NODE": tasks}).items():
        monkeypatch.setenv(name, value)
    hosts.initialise(options.build(Train, workdir="x"))
    (given,) = joined
    assert given.get("local_device_ids") == (() if expected else None)
    assert not hosts.has_a_node({"SLURM_STEP_TASKS_PER_NODE": "1"}), "not in a step of several tasks"
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", "0")
    hosts.initialise(options.build(Train, workdir="x"))
    assert "local_device_ids" not in joined[1], "the user's choice"


@pytest.mark.parametrize(
    ("cluster", "environment", "expected"),
    [
        ("SLURM", SLURM, "the coordinator of this SLURM job, on the first of node[01-02],"),
        ("SLURM", SLURM | {"JAX_COORDINATOR_ADDRESS": "a:1"}, "the coordinator at a:1"),
        ("TPU", {"TPU_WORKER_HOSTNAMES": "a,b"}, "the coordinator of this TPU job, on the first of a,b,"),
        ("TPU", {"TPU_ML_PLATFORM": "JAX"}, "the coordinator of this TPU job"),
        (
            "TPU",
            {"TPU_WORKER_HOSTNAMES": "c,d", "MEGASCALE_COORDINATOR_ADDRESS": "a"},
            "the coordinator at a",
        ),
        ("Kubernetes", {}, "the coordinator of this Kubernetes job"),
    ],
)
def test_where_a_cluster_s_coordinator_is(cluster: str, environment: dict[str, str], expected: str) -> None:
    assert hosts.coordinator(cluster, environment) == expected


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `jax.distributed.initialize` is called with, instead of calling it."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    return calls


def test_nobody_is_joined_on_a_machine_by_itself(
    joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.initialise(options.build(Train, workdir="x"))
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    hosts.initialise(options.build(Train, workdir="x", num_processes=1))
    assert joined == []
    hosts.initialise(options.build(Train, workdir="x"))
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
    assert given["initialization_timeout"] > PAIR.devices.coordinator_timeout, "ours comes first"


def test_who_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: time.sleep(1.5))
    with refused("10.0.0.1:99", "1"):
        hosts.initialise(PAIR)
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    with refused("SLURM", "node[01-02]", "--num_processes=1"):
        hosts.initialise(options.build(Train, workdir="x", coordinator_timeout=0))


def test_a_cluster_that_does_not_say_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(**given: Any) -> None:
        raise RuntimeError("jobs must be indexed")

    monkeypatch.setattr(jax.distributed, "initialize", lacks)
    for name, value in {"KUBERNETES_SERVICE_HOST": "h", "JOB_COMPLETION_INDEX": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError,
        match="coordinator of this Kubernetes job cannot be joined: jobs must be indexed; --num_processes=1 trains on",
    ):
        hosts.initialise(options.build(Train, workdir="x"))


def test_differing() -> None:
    actual = np.zeros((3, 4, 32), np.uint8)
    assert hosts.differing(actual) == {}
    actual[1, 2, 31] = actual[2, 2, 0] = actual[2, 0, 5] = 1
    assert hosts.differing(actual) == {0: [2], 2: [1, 2]}
    actual[0, 3] = 9  # it is process 0 that is alone with it
    assert hosts.differing(actual)[3] == [1, 2]


def test_process_0_speaks_for_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for process, said in ((0, "begun\n"), (1, "")):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        hosts.say("begun")
        with hosts.bar(3, "train", "step") as bar:
            bar.update(3)
        actual = capsys.readouterr()
        assert actual.out == said and ("3/3" in actual.err) == (process == 0)


def test_a_file_of_another_machine_may_come_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "VISIBLE", 0.3)
    file = tmp_path / "run" / "mark"
    start = time.monotonic()
    assert not hosts._appears(file) and time.monotonic() - start > 0.3
    monkeypatch.setattr(hosts, "VISIBLE", 30.0)

    def come() -> None:
        file.parent.mkdir()
        file.touch()

    later = threading.Timer(0.2, come)
    later.start()
    assert hosts._appears(file)
    later.join()


def test_questions_are_counted_whatever_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal before the first question of a run that resumes at step 100 is answered at that question, JAX's 1."""
    monkeypatch.setattr(hosts, "_questions", itertools.count(1))
    asked: list[int] = []
    monkeypatch.setattr(hosts.multihost_utils, "reached_preemption_sync_point", asked.append)
    for _ in range(3):
        hosts.agree_to_stop()
    assert asked == [1, 2, 3]


def test_code_that_cannot_be_read_ends_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def together(what: str) -> Iterator[None]:
        entered.append(what)
        yield

    def unreadable() -> str:
        raise OSError("Input/output error")

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(hosts, "together", together)
    monkeypatch.setattr(hosts.provenance, "code", unreadable)
    with pytest.raises(OSError, match="Input/output error"):
        hosts.compare_settings(PAIR)
    assert entered == ["read the code"]


def test_one_process_agrees_with_itself(tmp_path: Path) -> None:
    assert hosts.first() and not hosts.agree_to_stop()
    hosts.compare({"x": "1"})
    hosts.compare_settings(PAIR)
    hosts.compare_folder(tmp_path / "nowhere", "--workdir")
    hosts.compare_state({"w": np.ones(2)})
    np.testing.assert_array_equal(hosts.gather(np.arange(3)), np.arange(3)[None])
    with hosts.together("work"):
        pass
    with pytest.raises(OSError, match="disk full"):
        with hosts.together("work"):
            raise OSError("disk full")


def test_processes_may_differ_in_what_is_their_own() -> None:
    own = set(options.with_role(Train, Role.OF_HOST))
    assert {"data_dir", "workdir", "process_id"} <= own
    assert not {"save_every", "stop_after", "seed", "parallel", "devices", "num_processes"} & own
