"""The program on the miniature distributions: what users meet, from bad files to a process killed in its work."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datasets.tuples import pipeline, records
from launch.cli import flags
from launch.preparation import prepare
from launch.preparation.settings import Prepare
from launch.runs import locks
from tests.datasets import videos
from tests.datasets.distributions.test_distribution_builder import hashes
from tests.distributions import human36m, mpi_inf_3dhp
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]
CAMERA = human36m.CAMERAS[1]
SMALL = human36m.Distribution(subjects=("S1", "S9"), takes=((9, 1),), frames=6, size=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    human36m.write(folder / "human36m", SMALL)
    what = mpi_inf_3dhp.Distribution(sequences=("S1/Seq1",), tests=("TS1",), frames=4, test_frames=4, size=64)
    mpi_inf_3dhp.write(folder / "mpi_inf_3dhp", what)
    return folder


@pytest.fixture
def source(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(made, tmp_path / "source"))


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "launch.prepare", "--crop_size=32", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.processes
def test_killed_and_started_again_it_ends_with_the_same_bytes(source: Path, tmp_path: Path) -> None:
    arguments = (f"--source={source / 'human36m'}", "--dataset=human36m", "--workers=1")
    data_dir = tmp_path / "data"
    killed = start(*arguments, f"--data_dir={data_dir}")
    stage = data_dir / ".staged/human36m/fps10"
    until = time.monotonic() + 60
    while not (finished := [p for p in stage.glob("S*") if p.suffix != ".part"]):
        assert killed.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in finished}
    assert not (data_dir / "human36m").exists()
    again = start(*arguments, f"--data_dir={data_dir}")
    printed, _ = again.communicate(timeout=120)
    assert again.returncode == 0 and "sequences are finished already" in printed and kept
    whole = start(*arguments, f"--data_dir={tmp_path / 'whole'}")
    whole.communicate(timeout=120)
    assert hashes(data_dir) == hashes(tmp_path / "whole")
    assert {path.name for path in data_dir.iterdir()} == {"human36m", locks.NAME}


def test_ctrl_c_in_a_terminal_is_one_line(source: Path, tmp_path: Path) -> None:
    """It goes to all processes of the group, some of which are just being started."""
    process = start(
        f"--source={source / 'human36m'}",
        "--dataset=human36m",
        "--workers=2",
        f"--data_dir={tmp_path / 'data'}",
    )
    until = time.monotonic() + 60
    while not (tmp_path / "data/.staged").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.002)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    _, printed = process.communicate(timeout=60)
    # Ended by itself, or by the second signal while Python was taking itself down: 130 to a shell, either way.
    assert process.returncode in (130, -signal.SIGINT) and "Traceback" not in printed, printed
    assert printed.splitlines()[-1] == "stopped; nothing half-made was left behind"
    assert not list((tmp_path / "data").rglob("*.part")) and not list(tmp_path.glob("data/.preparing*"))


def _h36m(kind: str) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        subject = source / "human36m" / "S1"
        video = subject / "Videos" / f"Sitting 1.{CAMERA}.mp4"
        pose = subject / "MyPoseFeatures" / "D3_Positions" / "Sitting 1.cdf"
        if kind == "no metadata":
            (source / "human36m" / "metadata.xml").unlink()
        elif kind == "no Pose":
            human36m.write_cdf(pose, np.zeros((6, 96)), variable="Mose")
        elif kind == "64 numbers":
            human36m.write_cdf(pose, np.zeros((6, 64)))
        elif kind == "truncated video":
            video.write_bytes(video.read_bytes()[:3000])
        elif kind == "short video":
            videos.write(video, np.zeros((3, 64, 64), np.uint8), 50)
        elif kind == "truncated archive":
            with tarfile.open(source / "human36m" / "S5.tgz", "w:gz") as archive:
                archive.add(subject, "S5")
            path = source / "human36m" / "S5.tgz"
            path.write_bytes(path.read_bytes()[:-2000])
        elif kind == "../x":
            with tarfile.open(source / "human36m" / "S5.tgz", "w:gz") as archive:
                archive.add(pose, "../x.cdf")
        elif kind == "link":
            with tarfile.open(source / "human36m" / "S5.tgz", "w:gz") as archive:
                member = tarfile.TarInfo("S5/Videos/x.mp4")
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(member)

    return spoil


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("no metadata", ("metadata.xml", "code-v1.2.zip")),
        ("no Pose", ("Sitting 1.cdf", "Pose")),
        ("64 numbers", ("Sitting 1.cdf", "96")),
        ("truncated video", (f"Sitting 1.{CAMERA}.mp4",)),
        ("short video", (f"Sitting 1.{CAMERA}.mp4", "3 frames", "6 poses")),
        ("truncated archive", ("S5.tgz", "truncated")),
        ("../x", ("S5.tgz", "../x.cdf")),
        ("link", ("S5.tgz", "link")),
    ],
)
def test_bad_files_of_human36m(source: Path, tmp_path: Path, kind: str, facts: tuple[str, ...]) -> None:
    _h36m(kind)(source)
    config = Prepare(
        dataset="human36m",
        source=str(source / "human36m"),
        data_dir=str(tmp_path / "data"),
        crop_size=32,
        workers=1,
    )
    with refused(*facts) as caught:
        prepare.prepare(config)
    assert "\n" not in flags.sentence(caught.value)
    assert not [
        path for path in (tmp_path / "data").rglob("*") if not path.is_relative_to(tmp_path / "data/.staged")
    ]


def test_a_calibration_without_a_camera(source: Path, tmp_path: Path) -> None:
    path = source / "mpi_inf_3dhp" / "S1/Seq1/camera.calibration"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-7]) + "\n")
    done = start(
        "--dataset=mpi_inf_3dhp/all_fps10",
        f"--source={source / 'mpi_inf_3dhp'}",
        f"--data_dir={tmp_path / 'data'}",
        "--allow_missing=*",
        "--workers=1",
    )
    _, printed = done.communicate(timeout=120)
    assert done.returncode == 1 and "Traceback" not in printed
    assert "camera.calibration" in printed.splitlines()[-1] and "camera 13" in printed.splitlines()[-1]


def test_the_test_set_joins_the_training_set(source: Path, tmp_path: Path) -> None:
    config = Prepare(
        dataset="mpi_inf_3dhp/chest_fps10",
        source=str(source / "mpi_inf_3dhp"),
        data_dir=str(tmp_path / "data"),
        crop_size=32,
        workers=1,
        allow_missing="*",
    )
    prepare.prepare(config)
    train, test = (pipeline.open_split(tmp_path / "data", config.dataset, name) for name in ("train", "test"))
    assert train.records == 2 and test.records == 4 and train.views == test.views == 5
    assert test[0]["view_valid"].tolist() == [True, False, False, False, False]
    assert records.decode_jpeg(test[0]["images"][0]).shape == (32, 32, 3)
    assert train.specification["annotation"] == "univ_annot3"
