"""Runs the launchers of launch/pods/ from a small clone, with stand-ins for the programs of a cluster."""

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = "launch/experiments/a.flags"
# What a shell, YAML or Kubernetes would read as something else.
AWKWARD = (
    "a b", "it's", 'say "x"', "$(touch x)", "`touch x`", "$HOME", "$(HOME)", "$$(A)", "a\\b", "&", "*", "~", "", "é",
    ";ls",
)  # fmt: skip
SUBMIT = ("submit", "--partition=gpu", "--time=4:00:00", f"--flagfile={FLAGS}", "--workdir=/shared/my runs")
RENDER = (
    "render",
    "--name=h36m",
    "--image=r.io/mcss:1",
    "--claim=shared",
    f"--flagfile={FLAGS}",
    "--workdir=/mnt/mcss/a",
)
GPUS = (*RENDER, "--gpus=8")
SLICE = (*RENDER, "--tpu=tpu-v5-lite-podslice", "--topology=4x4")
PLACE = ("--project=p", "--zone=us-west4-a", "--name=mcss")
TRAIN = (f"--flagfile={FLAGS}", "--workdir=/mnt/mcss/a", "--share=gs://b")
WATCH = ("watch", *PLACE, *TRAIN, "--type=v5litepod-16")
# The body of a stand-in that notes how it was called: a line a call, words ended by tabs.
NOTE = 'printf "%s\\t" "${0##*/}" "$@" >>"$HOME/calls"; echo >>"$HOME/calls"'

Done = subprocess.CompletedProcess[str]


def program(folder: Path, name: str, body: str) -> None:
    """Puts a stand-in into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + body + "\n")
    (folder / name).chmod(0o755)


def calls(folder: Path) -> list[list[str]]:
    """What the stand-ins of `folder` noted."""
    log = folder / "calls"
    return [line.split("\t")[:-1] for line in log.read_text().splitlines()] if log.exists() else []


def run(command: list[str], folder: Path, **variables: str) -> Done:
    """Runs a command that finds the stand-ins of `folder` first, has it as its home and knows no settings."""
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, cwd="/")


def make_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of the launchers and a few experiments; its path has a space."""
    root = tmp_path_factory.mktemp("pods") / "my clone"
    shutil.copytree(ROOT / "launch" / "pods", root / "launch" / "pods")
    shutil.copy(ROOT / "launch" / "environment.sh", root / "launch")
    (root / "launch" / "experiments" / "b").mkdir(parents=True)
    for name in ("a", "c", "b/a"):
        (root / "launch" / "experiments" / f"{name}.flags").write_text("--steps=2\n")
    (root / "requirements.txt").write_text("a\n")
    (root / ".gitignore").write_text(".venv\n")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=a"]):
        subprocess.run([*git, *command], check=True)
    return root


def make_launch(clone: Path, tmp_path: Path) -> Callable[..., Done]:
    """`launch(script, *arguments, **variables)`, with the stand-ins of `tmp_path`."""

    def call(script: str, *arguments: str, **variables: str) -> Done:
        return run(["bash", str(clone / "launch" / "pods" / script), *arguments], tmp_path, **variables)

    return call


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until a background process has come to a point; ten seconds at most."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited for 10 s in vain")
