"""launch.predict from flags to files, with a model that computes nothing: where it writes, what it says."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.footage import video
from launch import predict as predict_program
from launch.prediction import model, predict
from launch.prediction.files import check_place
from launch.prediction.predict import Predict
from launch.prediction.sources import Camera
from mcss_jax.storage.model import Output
from tests.datasets import videos
from tests.launch import command_line
from tests.refusals import refused


class Blank:
    """A model whose every answer is nought."""

    image_size = 8

    def __call__(self, pictures: np.ndarray) -> Output:
        n = len(pictures) if pictures.ndim == 4 else 1
        pose = np.zeros((n, 17, 3), np.float32)
        return Output(np.zeros((n, 2), np.float32), pose, np.zeros((n, 3, 3), np.float32), pose)


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = model.Opened(Blank(), "nothing")  # type: ignore[arg-type]
    monkeypatch.setattr(model, "open_model", lambda workdir, step: opened)


def film(path: Path, count: int = 3) -> Path:
    path.parent.mkdir(exist_ok=True)
    return videos.write(path, np.full((count, 48, 64), 90, np.uint8))


# -------- where it writes


def test_recordings_are_never_among_the_results(tmp_path: Path) -> None:
    """A user's own overlay_left.mp4 in the source's folder was taken for an earlier result and deleted."""
    scene = tmp_path / "scene"
    for name in ("overlay_left.mp4", "right.mp4"):
        film(scene / name)
    before = sorted(scene.iterdir())
    config = Predict(source=str(scene), output=str(scene), boxes="whole", overwrite=True)
    with refused("--output", "scene", "name a folder of its own"):
        predict.predict(config)
    with refused("--output", "out", "scene"):
        predict.predict(Predict(source=str(scene), output=str(scene / "out"), boxes="whole", video=True))
    assert sorted(scene.iterdir()) == before
    # Without videos of its own a folder within is in nobody's way, nor is one beside a single video.
    predict.predict(Predict(source=str(scene), output=str(scene / "out"), boxes="whole"))
    predict.predict(
        Predict(source=str(scene / "right.mp4"), output=str(scene / "right"), boxes="whole", video=True)
    )


def test_every_folder_that_holds_a_recording(tmp_path: Path) -> None:
    clips, lists, real = (tmp_path / name for name in ("rig/clips", "lists", "real"))
    for folder in (clips, lists, real):
        folder.mkdir(parents=True)
    (real / "a.mp4").touch()
    (clips / "a.mp4").symlink_to(real / "a.mp4")
    (lists / "manifest.toml").touch()
    (tmp_path / "link").symlink_to(clips)
    cameras = [Camera("a", (clips / "a.mp4",), "whole", rate=25)]
    source = lists / "manifest.toml"
    for folder in (clips, tmp_path / "rig", lists, real, tmp_path / "link", tmp_path, lists / "no" / ".."):
        with refused("--output", "holds what is predicted"):
            check_place(folder, source, cameras, has_films=False)
    for folder in (clips / "out", tmp_path / "rig2", tmp_path / "link" / "out"):
        check_place(folder, source, cameras, has_films=True)


# -------- what it says


def test_a_slow_film_and_what_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = film(tmp_path / "in" / "a.mp4")
    predict_program.main(
        Predict(source=str(source), output=str(tmp_path / "o"), boxes="whole", every=60_000, video=True)
    )
    printed = capsys.readouterr()
    assert "\n1 view in " in printed.out and "frame/s" in printed.err
    assert len(list(video.frames(tmp_path / "o" / "overlay_a.mp4"))) == 1


def test_libraries_are_not_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pillow warns of large pictures and of odd palettes; the reader of boxes of people whom it leaves out."""
    folder = tmp_path / "in"
    folder.mkdir()
    colours = np.arange(48, dtype=np.uint8).reshape(6, 8)
    Image.fromarray(colours).convert("P").save(folder / "a.png", transparency=bytes([0, 128, 255]))
    (folder / "boxes.csv").write_text("file,frame,id,x0,y0,x1,y1\na.png,0,1,0,0,2,2\na.png,0,2,0,0,8,6\n")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
        with pytest.warns(Image.DecompressionBombWarning), pytest.warns(UserWarning, match="Palette images"):
            Image.open(folder / "a.png").convert("RGB")  # so they would be
        predict_program.main(Predict(source=str(folder), output=str(tmp_path / "out")))
    assert [str(one.message) for one in heard] == []
    printed = capsys.readouterr()
    assert "note: " in printed.out and "2 people are listed for a.png; id 2 is taken" in printed.out
    assert "picture/s" in printed.err


# -------- how it ends


def test_nothing_is_left_of_folders_made_for_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    (tmp_path / "boxes.csv").write_text("file,frame,x0,y0,x1,y1\na.png,0,20,0,30,10\n")
    with refused("nothing could be predicted", "boxes of 1 picture"):
        predict.predict(Predict(source=str(tmp_path / "a.png"), output=str(tmp_path / "deep" / "er" / "o")))
    assert not (tmp_path / "deep").exists()


def test_an_interrupt_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(self: Blank, pictures: np.ndarray) -> Output:
        raise KeyboardInterrupt

    monkeypatch.setattr(Blank, "__call__", interrupted)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    flags = (f"--source={tmp_path / 'a.png'}", f"--output={tmp_path / 'deep' / 'o'}")
    with pytest.raises(SystemExit) as ended:
        command_line.run(monkeypatch, Predict, predict_program.main, *flags)
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("stopped; nothing half-made was left behind\n")
    assert not (tmp_path / "deep").exists()
