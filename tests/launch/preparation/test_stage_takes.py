"""Takes shared out over processes: all of them, once, in any order; and what remains when one fails."""

import dataclasses
import tarfile
import zipfile
from pathlib import Path

import pytest

from datasets.distributions import originals, staged
from launch.preparation import stage_takes
from tests.distributions import small
from tests.refusals import refused

CUTTING = staged.Cutting(size=32, margin=0.1, version="1.0.0")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One loose take, two in a .tgz, one in a .zip."""
    made, source = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("source")
    small.write(made, ["a", "b", "c", "test"])
    (made / "a").rename(source / "a")
    with tarfile.open(source / "x.tgz", "w:gz") as archive:
        for name in ("b", "c"):
            archive.add(made / name, name)
    with zipfile.ZipFile(source / "y.zip", "w") as archive:
        for path in (made / "test").iterdir():
            archive.write(path, f"test/{path.name}")
    return source


def work_of(source: Path, folder: Path) -> stage_takes.Work:
    return stage_takes.Work(small.inventory(originals.scan(source)).takes, CUTTING, folder)


def test_all_takes_whatever_they_lie_in(source: Path, tmp_path: Path) -> None:
    counted: list[int] = []
    messages: list[str] = []
    work = work_of(source, tmp_path / "stage")
    stage_takes.run(work, 2, counted.append, messages.append)
    assert [text.rpartition(" (")[0] for text in messages] == ["unpacking x.tgz", "unpacking y.zip"]
    assert all(work.done(take) for take in work.takes) and sum(counted) == 4 * 2 * 12
    assert not work.unpacked.exists(), "what was unpacked is gone"
    assert work.opened(work.takes[0]).notes[0] == "read a"
    before = {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")}
    stage_takes.run(work, 2, counted.append)
    assert before == {path: path.stat().st_mtime_ns for path in work.folder.rglob("*")}


def test_a_take_that_fails_stops_the_run_and_spares_the_finished(source: Path, tmp_path: Path) -> None:
    work = work_of(source, tmp_path / "stage")
    work.cut(work.takes[0], lambda n: None)
    bad = dataclasses.replace(work.takes[1], trouble="x.avi: holds 3 frames")  # type: ignore[call-arg]
    work = dataclasses.replace(work, takes=(work.takes[0], bad))
    with refused("x.avi", "3"):
        stage_takes.run(work, 1, lambda n: None)
    assert work.done(work.takes[0]) and not work.done(bad)
    assert not list(work.folder.glob(f"*{staged.UNFINISHED}"))


def test_a_worker_that_dies_is_told(source: Path, tmp_path: Path) -> None:
    work = work_of(source, tmp_path / "stage")
    dies = dataclasses.replace(work.takes[0], trouble="died")  # type: ignore[call-arg]
    with refused("worker process died", "memory", "--workers"):
        stage_takes.run(dataclasses.replace(work, takes=(dies,)), 1, lambda n: None)
