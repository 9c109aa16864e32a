"""What is said of a machine, of the code's revision and of the code itself."""

import re
import shutil
import subprocess
from pathlib import Path

import jax
import pytest

from launch.runs import provenance


def test_hardware_names_the_device() -> None:
    actual = provenance.hardware()
    assert actual["devices"] == jax.device_count() and actual["platform"] == jax.default_backend()
    assert actual["jax"] == jax.__version__ and actual["cores"] >= 1 and actual["device"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_revision_says_whether_files_differ(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(("git", *who, *arguments), cwd=tmp_path, check=True, capture_output=True)

    assert provenance.revision(tmp_path) is None, "no repository"
    git("init", "-q")
    assert provenance.revision(tmp_path) is None, "no commit"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    actual = provenance.revision(tmp_path)
    assert actual is not None and re.fullmatch("[0-9a-f]{40}", actual)
    (tmp_path / "a").write_text("2")
    assert provenance.revision(tmp_path) == f"{actual}-dirty"


def test_without_git_nobody_can_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.revision(tmp_path) is None


def test_code_is_told_apart_by_its_own_files(tmp_path: Path) -> None:
    for package in provenance.PACKAGES:
        (tmp_path / package / "inner").mkdir(parents=True)
        (tmp_path / package / "a.py").write_text("x")
    module, script = tmp_path / "launch" / "inner" / "b.py", tmp_path / "launch" / "c.js"
    seen = [provenance.code(tmp_path)]
    for change in (
        lambda: module.write_text(""),
        lambda: module.write_text("y"),
        lambda: module.rename(module.with_name("d.py")),
        lambda: script.write_text("z"),
    ):
        change()
        seen.append(provenance.code(tmp_path))
    assert len(set(seen)) == 5
    (tmp_path / "launch" / "notes.txt").write_text("nothing that runs")
    (tmp_path / "e.py").write_text("not of the programs")
    # What editors leave: a link to nowhere, which is no file to read, and copies.
    (tmp_path / "launch" / ".#a.py").symlink_to("somebody@somewhere.99")
    (tmp_path / "launch" / "gone.py").symlink_to("nowhere")
    (tmp_path / "launch" / ".copies").mkdir()
    (tmp_path / "launch" / ".copies" / "a.py").write_text("old")
    assert provenance.code(tmp_path) == seen[-1]
    assert re.fullmatch("[0-9a-f]{16}", provenance.code()) and provenance.code() not in seen
