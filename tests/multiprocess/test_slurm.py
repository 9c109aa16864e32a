"""Two tasks that meet as SLURM's variables say, on nodes with two devices and with one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launch.cli import options
from launch.runs import run_folder
from mcss_jax.storage import checkpoint
from tests.multiprocess.test_two_processes import ROOT, TINY, environment, free_port

pytestmark = pytest.mark.processes

TASK = """
import json, sys
import jax
from launch.cli import options
from launch.runs import hosts, settings
from launch.training import train
from tests.mcss_jax.steps import two_blocks
config = options.build(settings.Train, **json.loads(sys.argv[1]))
hosts.initialise(config)
seen = {"visible": jax.config.values["jax_cuda_visible_devices"], "devices": jax.local_device_count()}
try:
    train.train(config)
except ValueError as error:
    seen["said"] = str(error)
if sys.argv[2]:
    with two_blocks():
        seen["step"] = train.train(options.replace(config, devices=1)).step
print(json.dumps(seen))
"""


def tasks(config: Any, tasks_per_node: str, then_train: bool) -> list[dict[str, Any]]:
    """What each of two tasks found, on nodes of two and of one device."""
    # JAX takes the coordinator's port from the number of the job.
    job = {"SLURM_JOB_ID": "7", "JAX_COORDINATOR_PORT": str(free_port()), "SLURM_STEP_NODELIST": "localhost"}
    counts = {"SLURM_NTASKS": "2", "SLURM_STEP_TASKS_PER_NODE": tasks_per_node}
    started = []
    for task, devices in enumerate((2, 1)):
        place = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", TASK, json.dumps(options.values(config)), "x" if then_train else ""],
                cwd=ROOT, env={**os.environ, **environment(devices), **job, **counts, **place}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], [text[-2000:] for _, text in said]
    return [json.loads(text.splitlines()[-1]) for text, _ in said]


def test_a_node_s_only_task_has_all_devices_and_all_use_as_many(prepared_tiny: Path, tmp_path: Path) -> None:
    config = options.replace(
        TINY, method="baseline", data_dir=str(prepared_tiny), workdir=str(tmp_path / "run"), stop_after=1
    )
    actual = tasks(config, "1(x2)", then_train=True)
    assert [task["visible"] for task in actual] == ["all", "all"] and [t["devices"] for t in actual] == [2, 1]
    assert {task["said"] for task in actual} == {
        "processes have different numbers of devices (process 1: 1, process 0: 2); use as many of each, "
        "--devices=1 at most"
    }
    assert [task["step"] for task in actual] == [1, 1], "with as many as was said"
    assert checkpoint.latest(tmp_path / "run" / run_folder.CHECKPOINTS) == 1


def test_tasks_that_share_a_node_have_one_device_each(tmp_path: Path) -> None:
    """JAX's own choice, by the task's number on its node."""
    actual = tasks(options.replace(TINY, workdir=str(tmp_path / "run")), "2", then_train=False)
    assert [task["visible"] for task in actual] == ["0", "1"]
