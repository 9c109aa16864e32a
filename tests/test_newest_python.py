"""tests/newest_python.sh: which Python it takes, when it skips, with stand-ins for every Python and for pip."""

import shutil
from pathlib import Path

import pytest

from tests.launch.launchers import ROOT, Done, calls, program, run


def python(version: str) -> str:
    """The body of a stand-in that says it is Python `version`, makes venvs of itself and notes what it runs."""
    return f"""
case "$*" in
  "-c import sys, venv"*) echo {version} ;;
  "-c import jax"*) echo 1.2.3 ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  *) printf "%s\\t" {version} "$@" >>"$HOME/calls"; echo >>"$HOME/calls"
     for word; do case "$word" in --workdir=*) mkdir -p "${{word#*=}}/checkpoints/10" ;; esac; done
     [[ " $* " != *" ${{FAILS:-nothing}} "* ]] ;;
esac"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of what the script needs, with a .venv of Python 3.11."""
    root = tmp_path / "my clone"
    for name in ("launch/environment.sh", "tests/newest_python.sh"):
        (root / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, root / name)
    (root / "requirements.txt").write_text("a\n")
    (root / "tests" / "requirements.txt").write_text("b\n")
    program(root / ".venv" / "bin", "python", python("3.11"))
    return root


def newest(clone: Path, **variables: str) -> Done:
    """Runs the script where Python is what lies in `bin` and `pyenv` beside the clone, and nothing else."""
    home = clone.parent
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    for name in "bash cat cksum cp dirname grep mkdir mktemp mv rm tr uname".split():
        actual = shutil.which(name)
        assert actual
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(actual)
    variables = {"PATH": f"{home / 'bin'}:{tools}", "PYENV_ROOT": str(home / "pyenv"), **variables}
    return run([str(tools / "bash"), str(clone / "tests" / "newest_python.sh")], home, **variables)


def test_skips_where_none_is_newer(clone: Path, tmp_path: Path) -> None:
    done = newest(clone)
    assert done.returncode == 0 and "skipped: no Python 3.11 to 3.13 on PATH or among pyenv" in done.stdout
    program(tmp_path / "bin", "python3.11", python("3.11"))
    program(tmp_path / "bin", "python3.12", "exit 127")  # a shim of a Python that is not there
    done = newest(clone)
    assert done.returncode == 0
    assert "skipped: none is newer than .venv's 3.11 on PATH or among pyenv" in done.stdout
    assert not calls(tmp_path) and not (clone / ".venv-newest").exists()


def test_pyenv_newest_of_all(clone: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "python3.12", python("3.12"))
    program(tmp_path / "pyenv" / "versions" / "3.13.5" / "bin", "python", python("3.13"))
    program(tmp_path / "pyenv" / "versions" / "3.14.1" / "bin", "python", python("3.14"))
    done = newest(clone, MCSS_PYTHON="python3.11")  # says what .venv is made of, not this
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Python 3.13, jax 1.2.3; installed in" in done.stdout and "passed in" in done.stdout
    made, tests, prepare, train = calls(tmp_path)
    assert {call[0] for call in (made, tests, prepare, train)} == {"3.13"}
    assert made[1:4] == ["-m", "pip", "install"] and f"{clone}/tests/requirements.txt" in made
    named = [word for word in tests if word.startswith("tests/")]
    assert len(named) > 5 and all((ROOT / word).exists() for word in named)
    assert "launch.prepare" in prepare and "launch.train" in train
    assert (clone / ".venv" / "bin" / "python").read_text().count("3.11")  # left alone


def test_what_is_installed_is_used_again(clone: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin", "python3.12", python("3.12"))
    assert newest(clone).returncode == 0 and len(calls(tmp_path)) == 4
    assert newest(clone).returncode == 0 and len(calls(tmp_path)) == 7
    program(tmp_path / "bin", "python3.13", python("3.13"))
    assert "Python 3.13" in newest(clone).stdout
    assert calls(tmp_path)[7][:3] == ["3.13", "-m", "pip"]


@pytest.mark.parametrize("part", ["pip", "pytest", "launch.prepare", "launch.train"])
def test_a_part_fails(clone: Path, tmp_path: Path, part: str) -> None:
    program(tmp_path / "bin", "python3.12", python("3.12"))
    done = newest(clone, FAILS=part)
    assert done.returncode != 0 and "passed" not in done.stdout
    assert part in calls(tmp_path)[-1]
