"""launch/pods/: what the launchers do, with stand-ins for SLURM, kubectl, gcloud and a TPU's host."""

import os
import re
import shlex
import shutil
import signal
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
    SLICE,
    SUBMIT,
    TRAIN,
    WATCH,
    calls,
    make_clone,
    make_launch,
    program,
    run,
    wait_for,
)  # fmt: skip

clone = pytest.fixture(scope="module")(make_clone)
launch = pytest.fixture(make_launch)
linux = pytest.mark.skipif(sys.platform != "linux", reason="the hosts of a cluster run Linux")
TEXTS = tuple(f"--text={word}" for word in AWKWARD)


def test_slurm_script(launch, clone, tmp_path):
    """What --dry_run shows is run, and then the batch script that this hands to sbatch."""
    second = FLAGS.replace("a.flags", "c.flags")
    shown = launch(
        "slurm.sh", *SUBMIT, f"--flagfile={second}", "--seeds=0,1", "--nodes=2", "--dry_run", "--", *TEXTS
    )
    program(tmp_path, "sbatch", 'cat >"$HOME/job"')
    program(tmp_path, "mkdir", NOTE)
    assert run(["bash", "-c", shown.stdout], tmp_path).returncode == 0
    program(tmp_path, "scontrol", "echo node7; echo node8")
    program(tmp_path, "srun", 'while [[ $1 == --* ]]; do shift; done; SLURM_PROCID=1 exec "$@"')
    program(clone / ".venv" / "bin", "python", "printf '%s|' \"$@\"")
    job = (tmp_path / "job").read_text()
    variables = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "4099",
                 "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_CPUS_PER_TASK": "16"}  # fmt: skip
    done = run(["bash", "-c", job], tmp_path, **variables)
    shutil.rmtree(clone / ".venv")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("|")[:-1] == [
        "-m", "launch.train", f"--flagfile={second}", "--workdir=/shared/my runs/c_seed1", *TEXTS, "--seed=1",
        "--coordinator_address=node7:61443", "--num_processes=2", "--process_id=1",
    ]  # fmt: skip


@linux
@pytest.mark.parametrize(("ends", "warning", "restarts", "requeued", "code"), [
    (75, "USR1", 0, True, 0),
    (75, "USR1", 3, False, 75),  # the third requeue was the last
    (75, "TERM", 0, False, 75),  # preempted, which SLURM requeues itself, or cancelled
    (0, "USR1", 0, False, 0),  # finished in time
    (1, None, 0, False, 1),
])  # fmt: skip
def test_slurm_requeues_what_ran_out_of_time(clone, tmp_path, ends, warning, restarts, requeued, code):
    program(tmp_path, "scontrol", NOTE)
    if warning:  # as launch.train does, the step stops at a signal, after a moment
        wait = 'touch "$HOME/ready"; while true; do sleep 0.02; done'
        program(tmp_path, "srun", f"trap 'sleep 0.1; exit {ends}' USR1 TERM; {wait}")
    else:
        program(tmp_path, "srun", f"exit {ends}")
    variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_JOB_NUM_NODES": "1",
                 "SLURM_RESTART_COUNT": str(restarts), "PATH": f"{tmp_path}:/usr/bin:/bin"}  # fmt: skip
    job = subprocess.Popen(
        ["bash", str(clone / "launch" / "pods" / "slurm_job.sh"), "3", "--steps=2"],
        env=variables | {"HOME": str(tmp_path)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if warning:
        wait_for((tmp_path / "ready").exists)
        job.send_signal(signal.Signals[f"SIG{warning}"])
        if warning == "TERM":  # SLURM sends it to the step as well; the shell has only to outlive it
            step = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()[0]
            os.kill(int(step), signal.SIGTERM)
    message = job.communicate(timeout=30)[1]
    assert job.returncode == code, message
    assert calls(tmp_path) == ([["scontrol", "requeue", "7_1"]] if requeued else [])


def read_by_kubernetes(arguments: list[str]) -> list[str]:
    """Arguments as the second pod gets them: $$ is $, and $(NAME) the value of a variable."""
    variables = {"JOB_COMPLETION_INDEX": "1", "HOME": "/wrong"}
    return [re.sub(r"\$\$|\$\((\w+)\)", lambda m: variables[m[1]] if m[1] else "$", a) for a in arguments]


def parts_of(manifest: dict) -> tuple[dict, dict, dict]:
    """Job, pod and container of the only replicated job."""
    (replicated,) = manifest["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    return job, job["template"]["spec"], container


def test_manifest_for_gpus(launch):
    yaml = pytest.importorskip("yaml", reason="manifests are parsed with pyyaml")
    done = launch("kubernetes.sh", *GPUS, "--hosts=2", "--selector=example.com/gpu=h100", "--", *TEXTS)
    assert done.returncode == 0, done.stderr
    manifest = yaml.safe_load(done.stdout)
    job, pod, container = parts_of(manifest)
    assert (manifest["apiVersion"], manifest["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert manifest["metadata"] == {"name": "h36m", "namespace": "default"}
    assert manifest["spec"]["failurePolicy"] == {"maxRestarts": 3, "rules": [
        {"action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureReasons": ["PodFailurePolicy"]},
        {"action": "RestartJobSet"},
    ]}  # fmt: skip
    assert job["parallelism"] == job["completions"] == 2
    assert (job["completionMode"], job["backoffLimit"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    assert job["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": container["name"], "operator": "In", "values": [75]},
        },
    ]
    assert pod["nodeSelector"] == {"example.com/gpu": "h100"}
    assert container["command"] == [".venv/bin/python", "-m", "launch.train"]
    assert read_by_kubernetes(container["args"]) == [
        f"--flagfile={FLAGS}", "--workdir=/mnt/mcss/a", "--coordinator_timeout=1800", *TEXTS,
        "--coordinator_address=h36m-train-0-0.h36m:8476", "--num_processes=2", "--process_id=1",
    ]  # fmt: skip
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 8}}
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "shared"}


@pytest.mark.parametrize(("shape", "chips", "hosts"), [("4x4", 4, 4), ("2x4", 8, 1), ("2x2x4", 4, 4)])
def test_manifest_for_a_slice(launch, shape, chips, hosts):
    yaml = pytest.importorskip("yaml", reason="manifests are parsed with pyyaml")
    done = launch("kubernetes.sh", *SLICE, f"--topology={shape}", f"--chips={chips}")
    manifest = yaml.safe_load(done.stdout)
    job, pod, container = parts_of(manifest)
    assert job["completions"] == job["parallelism"] == hosts
    assert pod["nodeSelector"] == {"cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
                                   "cloud.google.com/gke-tpu-topology": shape}  # fmt: skip
    assert container["resources"] == {"limits": {"google.com/tpu": chips}}
    # Hosts of a slice find each other; a host alone must not look for others in its cluster.
    assert container["args"][3:] == ([] if hosts > 1 else ["--num_processes=1"])
    assert "exclusive-topology" in "".join(manifest["metadata"]["annotations"])
    # Alone, a host that fails has no peer to blame, and would fail again.
    action = "RestartJobSet" if hosts > 1 else "FailJobSet"
    assert manifest["spec"]["failurePolicy"]["rules"][1] == {"action": action}


def test_apply_hands_over_what_render_prints(launch, tmp_path):
    program(tmp_path, "kubectl", NOTE + '; cat >"$HOME/manifest"')
    done = launch("kubernetes.sh", "apply", *GPUS[1:], "--context=my cluster")
    assert done.returncode == 0, done.stderr
    assert calls(tmp_path) == [
        ["kubectl", "--context=my cluster", "--namespace=default", "apply", "--filename=-"]
    ]
    assert (tmp_path / "manifest").read_text() == launch("kubernetes.sh", *GPUS).stdout


# Answers with the next line of a file, and notes in a word what it was asked to do.
GCLOUD = r"""
next() { head -n 1 "$HOME/$1"; sed -i 1d "$HOME/$1"; }
case "$*" in
  *" list "*) next states ;;
  *"tpu_host.sh status"*) note=look; next answers | tr ';' '\n' | sed 's/^[a-z0]/mcss-status: &/' ;;
  *" create "*) note=create ;;
  *" delete "*) note=delete ;;
  *" scp "*) note=copy ;;
  *"tpu_host.sh setup"*) note=setup ;;
  *"tpu_host.sh start"*) note=start ;;
esac
[[ -z ${note:-} ]] || echo "$note" >>"$HOME/calls"
"""


@linux
@pytest.mark.parametrize(("states", "answers", "done", "code", "message"), [
    # queued, made, started, finished
    (["", "WAITING_FOR_RESOURCES", *["ACTIVE"] * 3], ["none;none", "running;exit 0", "exit 0;exit 0"],
     "create copy setup look start look look", 0, "training is finished"),
    # taken away while it runs
    (["ACTIVE", "ACTIVE", "SUSPENDING", "SUSPENDED", "ACTIVE", "ACTIVE"], ["lost", "running", "none", "exit 0"],
     "copy setup look start look delete create copy setup look start look", 0, "mcss is SUSPENDED: deleting it"),
    # hosts that do not answer; a run that was stopped; a process that was killed, and its peer
    (["ACTIVE"] * 4, ["", "exit 75;exit 75", "exit 1;exit 137", "exit 0"],
     "copy setup look look start look start look", 0, "training is finished"),
    (["ACTIVE"], ["exit 1;exit 1"], "copy setup look", 1, "training failed and would fail again"),
    (["ACTIVE"] * 3, ["lost"] * 3, "copy setup look start look start look", 1, "started 2 times on this slice"),
])  # fmt: skip
def test_watch(launch, tmp_path, states, answers, done, code, message):
    program(tmp_path, "gcloud", GCLOUD)
    for name, lines in {"states": states, "answers": answers}.items():
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    watched = launch("tpu.sh", *WATCH, "--interval=0", "--restarts=2")
    assert watched.returncode == code and message in watched.stderr, watched.stderr
    assert (tmp_path / "calls").read_text().split() == done.split()


@linux
def test_create_waits_for_the_slice(launch, tmp_path):
    program(tmp_path, "gcloud", GCLOUD)
    (tmp_path / "states").write_text("\nPROVISIONING\nACTIVE\n")
    assert launch("tpu.sh", "create", *PLACE, "--type=v4-8", "--interval=0").returncode == 0
    (tmp_path / "states").write_text("FAILED\nFAILED\n")
    failed = launch("tpu.sh", "create", *PLACE, "--type=v4-8", "--interval=0")
    assert failed.returncode == 1 and "the request for mcss is FAILED; delete it" in failed.stderr
    assert (tmp_path / "calls").read_text() == "create\n"


def test_setup_takes_only_what_is_committed(launch, clone, tmp_path):
    program(tmp_path, "gcloud", NOTE)
    (clone / "new.flags").write_text("")
    done = launch("tpu.sh", "setup", *PLACE)
    (clone / "new.flags").unlink()
    assert done.returncode == 1 and "only what is committed reaches the hosts; commit first" in done.stderr
    assert calls(tmp_path) == []


@linux
def test_a_host_from_setup_to_resume(launch, tmp_path):
    """gcloud copies and runs here; the host's sudo, gcsfuse, Python and training are stand-ins."""
    copy, call = 'cp "$5" "$HOME/${6#*:}"', 'cd "$HOME" && bash -c "${7#--command=}"'
    program(tmp_path, "gcloud", f'case "$4" in scp) {copy} ;; ssh) {call} ;; esac')
    program(tmp_path, "sudo", NOTE + "; [[ $1 != tee ]] || cat >/dev/null")
    program(tmp_path, "mountpoint", '[[ -e "$HOME/mounted" ]]')
    program(tmp_path, "gcsfuse", NOTE + '; touch "$HOME/mounted"')
    program(
        tmp_path,
        "python3.13",
        f"""
if [[ "$*" == "-m venv "* ]]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
elif [[ "$*" == "-m pip "* ]]; then echo "pip $*"
elif [[ "$*" == "-m launch.train "* ]]; then
  trap "sleep 0.1; exit 75" TERM
  printf "%s\\n" "$@" >"$HOME/flags"
  while [[ ! -e $HOME/end ]]; do sleep 0.02; done
else exec "{sys.executable}" "$@"; fi""",
    )

    def status() -> str:
        return run(
            ["bash", str(tmp_path / "mcss" / "launch" / "pods" / "tpu_host.sh"), "status"], tmp_path
        ).stdout

    made = launch("tpu.sh", "setup", *PLACE, "--share=gs://b")
    assert made.returncode == 0 and "jax[tpu]" in made.stdout, made.stderr
    assert ["gcsfuse", "--implicit-dirs", "--rename-dir-limit=100000", "b", "/mnt/mcss"] in calls(tmp_path)
    assert status() == "mcss-status: none\n"

    assert launch("tpu.sh", "run", *PLACE, *TRAIN, "--", *TEXTS).returncode == 0
    wait_for((tmp_path / "flags").exists)
    assert status() == "mcss-status: running\n"
    again = launch("tpu.sh", "run", *PLACE, *TRAIN)
    assert again.returncode == 1 and "training runs already on" in again.stderr
    assert (tmp_path / "flags").read_text().splitlines() == ["-m", "launch.train", *TRAIN[:2], *TEXTS]
    assert launch("tpu.sh", "stop", *PLACE).returncode == 0
    wait_for(lambda: status() == "mcss-status: exit 75\n")

    (tmp_path / "flags").unlink()
    assert launch("tpu.sh", "run", *PLACE, *TRAIN).returncode == 0
    wait_for((tmp_path / "flags").exists)
    os.killpg(int((tmp_path / "mcss_job" / "process").read_text()), signal.SIGKILL)  # as when memory runs out
    wait_for(lambda: status() == "mcss-status: lost\n")
    assert launch("tpu.sh", "stop", *PLACE).returncode == 0  # nothing to stop

    (tmp_path / "end").touch()
    assert launch("tpu.sh", "run", *PLACE, *TRAIN).returncode == 0
    wait_for(lambda: status() == "mcss-status: exit 0\n")
    (tmp_path / "mcss_job" / "exit_code").unlink()
    (tmp_path / "mcss_job" / "process").write_text(str(os.getpid()))  # another's number, after a reboot
    assert status() == "mcss-status: lost\n"


def test_the_python_that_a_host_lacks_is_brought(clone, tmp_path):
    """Only python3 is there, and it is too old; uv, by stand-ins, brings one."""
    for name in "dirname basename cat bash tr cksum rm mkdir cp mv grep uname".split():
        (tmp_path / name).symlink_to(shutil.which(name))
    program(tmp_path, "sudo", NOTE + "; [[ $1 != tee ]] || cat >/dev/null")
    program(
        tmp_path / "new",
        "python",
        f"""
if [[ "$*" == "-m venv "* ]]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
elif [[ "$*" != "-m pip "* ]]; then exec "{sys.executable}" "$@"; fi""",
    )
    old = f'[[ $1 == -m ]] || exit 1; {NOTE}; [[ "$*" != *find* ]] || echo "$HOME/new/python"'
    program(tmp_path, "python3", old)
    shutil.copytree(clone, tmp_path / "mcss")
    script = str(tmp_path / "mcss" / "launch" / "pods" / "tpu_host.sh")
    done = run(["/bin/bash", script, "setup", "", "/mnt/mcss"], tmp_path, PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert f"({tmp_path}/new/python)" in done.stdout and "Ready." in done.stdout
    assert [shlex.join(call[1:4]) for call in calls(tmp_path) if call[0] == "python3"] == [
        "-m pip install", "-m uv python", "-m uv python",
    ]  # fmt: skip
