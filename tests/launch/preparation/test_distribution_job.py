"""Preparing a distribution: inventory first, what stops it, what is kept then, and that going on ends alike."""

import builtins
import dataclasses
import errno
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from datasets.distributions import originals, takes
from datasets.tuples import pipeline
from launch.preparation import distribution_job, inventory, jobs, prepare, stage_takes
from launch.preparation.settings import Prepare
from launch.runs import locks, staging
from mcss_jax.errors import UserError
from tests.datasets.distributions.test_distribution_builder import hashes
from tests.distributions import small
from tests.refusals import refused

NAMES = ["a", "b", "c", "test"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("made")
    small.write(source, NAMES)
    return source


@pytest.fixture
def source(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, of a distribution that joins with one line."""
    monkeypatch.setitem(jobs.BUILDERS, "small", small.Builder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / "source"))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, take by take: quicker than to start others."""

    def run(work: stage_takes.Work, workers: int, advance: stage_takes.Report, tell: Any) -> None:
        for take in work.takes:
            work.unpack(sorted(take.archived), advance) if take.archived else None
            work.cut(take, advance)

    monkeypatch.setattr(stage_takes, "run", run)


def settings_of(place: Path, data_dir: Path, **options: Any) -> Prepare:
    defaults: dict[str, Any] = {
        "dataset": "small",
        "source": str(place),
        "data_dir": str(data_dir),
        "crop_size": 32,
    }
    return Prepare(**{**defaults, "workers": 1, **options})


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, trouble: str) -> None:
    """Makes one take fail when it is read, in whichever process that is."""
    whole = small.inventory

    def inventory(files: Sequence[originals.File], **options: Any) -> takes.Inventory:
        stock = whole(files, **options)
        bad = [dataclasses.replace(t, trouble=trouble if t.name == name else "") for t in stock.takes]  # type: ignore[call-arg]
        return dataclasses.replace(stock, takes=tuple(bad))

    monkeypatch.setattr(small, "inventory", inventory)


def test_inventory_then_shards_then_nothing_to_do(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data_dir = tmp_path / "data"
    prepare.take_inventory(settings_of(source, data_dir))
    printed = capsys.readouterr().out
    for words in ("left", "right", "1/1", "4 sequences, 96 source pictures, 24 instants", "disk: about",
                  "free", "time: about", "nothing is missing"):  # fmt: skip
        assert words in printed
    assert not data_dir.exists()

    set_ = prepare.prepare(settings_of(source, data_dir))
    printed = capsys.readouterr()
    assert set_.fresh and set_.path == data_dir / "small/few/1.0.0"
    assert "note: a: read a" in printed.out and "96/96" in printed.err and "24/24" in printed.err
    assert {p.name for p in data_dir.iterdir()} == {"small", locks.NAME}, "nothing is left beside it"
    assert pipeline.open_split(data_dir, "small/few", "train").records == 18
    again = prepare.prepare(settings_of(source, data_dir))
    assert again == dataclasses.replace(set_, fresh=False)
    with refused("boxes 'auto'", "'joints'"):
        prepare.prepare(settings_of(source, data_dir, boxes="joints"))

    before = hashes(data_dir)
    prepare.prepare(settings_of(source, data_dir, overwrite=True))
    assert hashes(data_dir) == before


def test_what_is_missing_stops_it_unless_it_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    (source / "b" / "left.avi").unlink()
    data_dir = tmp_path / "data"
    with refused("1 files of small/few", "'b/left.avi'", "--allow_missing"):
        prepare.prepare(settings_of(source, data_dir))
    assert "missing: b/left.avi\n    made by the test" in capsys.readouterr().out and not data_dir.exists()
    with refused("--allow_missing", "'c'"):
        prepare.prepare(settings_of(source, data_dir, allow_missing="b/left.avi,c"))
    prepare.prepare(settings_of(source, data_dir, allow_missing="b"))
    assert "missing, and allowed to be: 1" in capsys.readouterr().out
    train = pipeline.open_split(data_dir, "small/few", "train")
    assert [train[k]["view_valid"].tolist() for k in (0, 6)] == [[True, True], [False, True]]


@pytest.mark.parametrize(
    ("allowed", "left"),
    [
        ("", ["S1/x.mp4", "S1/y.mp4", "S11/x.mp4"]),
        ("S1", ["S11/x.mp4"]),
        ("S1/", ["S11/x.mp4"]),
        ("*/x.mp4", ["S1/y.mp4"]),
        ("S1/x.mp4, S11", ["S1/y.mp4"]),
        ("*", []),
    ],
)
def test_names_folders_and_patterns_excuse(allowed: str, left: list[str]) -> None:
    missing = [takes.Missing(name, "") for name in ("S1/x.mp4", "S1/y.mp4", "S11/x.mp4")]
    assert [item.name for item in inventory.unexcused(missing, allowed)] == left


def test_only_what_is_unfinished_is_done_again_and_ends_alike(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: None,
) -> None:
    whole, data_dir = tmp_path / "whole", tmp_path / "data"
    prepare.prepare(settings_of(source, whole))
    with monkeypatch.context() as broken:
        spoil(broken, "c", "c/left.avi: is cut short")
        with refused("c/left.avi", "cut short") as caught:
            prepare.prepare(settings_of(source, data_dir))
        assert str(caught.value) == "c/left.avi: is cut short", (
            "a worker's own sentence, and nothing about it"
        )
    printed = capsys.readouterr().out
    assert f"2 of 4 sequences are finished and kept in {data_dir}/.staged/small/few" in printed
    assert not (data_dir / "small").exists()
    read = small.SmallTake.read
    reads: list[str] = []
    monkeypatch.setattr(
        small.SmallTake, "read", lambda self, at: (reads.append(self.name), read(self, at))[1]
    )
    prepare.prepare(settings_of(source, data_dir))
    assert reads == ["c", "test"] and "2 of 4 sequences are finished already" in capsys.readouterr().out
    assert hashes(data_dir) == hashes(whole) and not (data_dir / ".staged").exists()


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_at_once_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None, there: bool
) -> None:
    data_dir = tmp_path / "new" / "data"
    if there:
        data_dir.mkdir(parents=True)
    spoil(monkeypatch, "a", "a/left.avi: is cut short")
    with refused("cut short"):
        prepare.prepare(settings_of(source, data_dir))
    assert (tmp_path / "new").exists() == there
    assert not there or not list(data_dir.iterdir())


def test_a_full_disk(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None) -> None:
    def full(self: small.SmallTake, locate: takes.Locate) -> takes.Footage:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(small.SmallTake, "read", full)
    with refused("disk is full", "--data_dir", "free"):
        prepare.prepare(settings_of(source, tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_too_small_a_disk_is_refused_before_anything_is_decoded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 0))
    monkeypatch.setattr(stage_takes, "run", None)
    with refused("--data_dir", "0 bytes free"):
        prepare.prepare(settings_of(source, tmp_path / "data"))
    assert not (tmp_path / "data").exists()


def test_others_are_turned_away_and_harm_nothing(source: Path, tmp_path: Path) -> None:
    stage = tmp_path / "data" / distribution_job.STAGED / "small/few"
    with staging.kept(stage, tmp_path / "data"):
        for _ in range(2):  # the second would succeed if the first had removed the folder
            with refused("another process", "small/few"):
                prepare.prepare(settings_of(source, tmp_path / "data"))
            assert stage.is_dir()
    assert not (tmp_path / "data").exists()


def test_a_set_that_another_process_installed_meanwhile_is_taken(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    looked = distribution_job.Distribution.inventory

    def slow(self: distribution_job.Distribution, data_dir: Path) -> Any:
        looked_through = looked(self, data_dir)
        with monkeypatch.context() as patch:
            patch.setattr(distribution_job.Distribution, "inventory", looked)
            assert prepare.prepare(settings_of(source, data_dir)).fresh
        monkeypatch.setattr(stage_takes, "run", None)
        return looked_through

    monkeypatch.setattr(distribution_job.Distribution, "inventory", slow)
    assert not prepare.prepare(settings_of(source, tmp_path / "data")).fresh


def test_finished_sequences_of_other_settings_stay(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    data_dir = tmp_path / "data"
    with monkeypatch.context() as broken:
        spoil(broken, "c", "is cut short")
        for margin in (0.1, 0.2):
            with refused("cut short"):
                prepare.prepare(settings_of(source, data_dir, margin=margin))
    with monkeypatch.context() as broken:
        spoil(broken, "a", "is cut short")
        with refused("cut short"):
            prepare.prepare(settings_of(source, data_dir, margin=0.3))
    kept = list((data_dir / ".staged/small/few").iterdir())
    assert len(kept) == 4 + 1, "two takes at two margins, and the lock"
    # They are no room for what is still to be cut.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with refused("--data_dir", "1 kB free"):
        prepare.prepare(settings_of(source, data_dir, margin=0.3))
    assert list((data_dir / ".staged/small/few").iterdir()) == kept


def test_what_is_left_of_an_installed_set_goes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    data_dir = tmp_path / "data"
    with monkeypatch.context() as broken:
        remove = shutil.rmtree

        def stopped(path: Path, **options: Any) -> None:
            if Path(path).name == "few":
                raise KeyboardInterrupt
            remove(path, **options)

        broken.setattr(shutil, "rmtree", stopped)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(settings_of(source, data_dir))
    assert (data_dir / ".staged").exists() and (data_dir / "small/few/1.0.0").exists()
    assert not prepare.prepare(settings_of(source, data_dir)).fresh
    assert not (data_dir / ".staged").exists()


def test_a_split_without_a_picture_is_named(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    here: None,
) -> None:
    for camera in small.CAMERAS:
        (source / "test" / f"{camera}.avi").rename(source / "b" / f"no{camera}.txt")
        (source / "b" / f"{camera}.avi").unlink()
    whole = small.inventory

    def without(files: Sequence[originals.File], **options: Any) -> takes.Inventory:
        stock = whole(files, **options)
        blind = dataclasses.replace(stock.takes[0], split="test", name="blind", files={})
        return dataclasses.replace(stock, takes=(*stock.takes, blind), missing=())

    monkeypatch.setattr(small, "inventory", without)
    with refused("split test", "blind"):
        prepare.prepare(settings_of(source, tmp_path / "data"))
    assert "note: b: no camera shows it; it is left out" in capsys.readouterr().out


def test_an_archive_that_cannot_be_read_stops_it_unless_it_is_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], here: None
) -> None:
    (source / "backup.zip").write_bytes(b"PK\x03\x04 and no more")
    prepare.take_inventory(settings_of(source, tmp_path / "data"))
    assert "missing: backup.zip" in capsys.readouterr().out
    with refused("backup.zip", "--allow_missing"):
        prepare.prepare(settings_of(source, tmp_path / "data"))
    assert prepare.prepare(settings_of(source, tmp_path / "data", allow_missing="backup.zip")).fresh


def test_a_home_folder_is_found(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: None
) -> None:
    monkeypatch.setenv("HOME", str(source.parent))
    assert prepare.prepare(settings_of(Path("~/source"), tmp_path / "data")).fresh


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"dataset": "small/many"}, ("'many'", "small/few")),
        ({"source": ""}, ("--source", "Make it with")),
        ({"source": "no/where"}, ("no/where",)),
        ({"workers": -1}, ("--workers=-1", "at least 0")),
        ({"crop_size": 8}, ("size is 8", "16")),
    ],
)
def test_wrong_flags(source: Path, tmp_path: Path, options: dict[str, Any], facts: tuple[str, ...]) -> None:
    with refused(*facts):
        prepare.prepare(settings_of(source, tmp_path / "data", **options))
    assert not (tmp_path / "data").exists()


def test_a_source_without_the_distribution(source: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.rmtree(source / name)
    (source / "x").mkdir()
    with pytest.raises(UserError, match="source"):
        prepare.prepare(settings_of(source, tmp_path / "data"))
    with refused("--inventory", "synthetic_multiview/tiny"):
        prepare.take_inventory(Prepare(dataset="synthetic_multiview/tiny"))


def test_beam_is_asked_for_by_name_where_it_is_not(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Any] = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("apache_beam"):
            raise ImportError(name)
        return whole(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "apache_beam", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with refused("--beam_runner", "apache-beam", "pip"):
        prepare.prepare(settings_of(source, tmp_path / "data", beam_runner="DirectRunner"))


@pytest.mark.beam
def test_beam_makes_the_same_bytes(source: Path, tmp_path: Path, here: None) -> None:
    pytest.importorskip("apache_beam", reason="apache-beam is not installed: tests/extra.sh does this one")
    prepare.prepare(settings_of(source, tmp_path / "plain"))
    prepare.prepare(settings_of(source, tmp_path / "beam", beam_runner="DirectRunner"))
    assert hashes(tmp_path / "plain") == hashes(tmp_path / "beam")
