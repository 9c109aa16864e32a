"""What launch.predict leaves: tables that say what the arrays say, a folder whole or untouched; real cameras."""

import contextlib
import csv
from pathlib import Path

import numpy as np
import pytest

from launch.prediction import camera_views, predict
from launch.prediction import files as predict_files
from launch.prediction import model as predict_model
from launch.prediction.files import PREDICTIONS, STAGING, TABLE, staged
from launch.prediction.instants import Instants
from launch.prediction.predict import Predict
from launch.prediction.sources import Camera
from launch.runs import locks
from mcss_jax import skeleton
from mcss_jax.storage import model
from tests.mcss_jax import steps
from tests.refusals import refused


def views(count: int, seed: int) -> camera_views.Views:
    rng = np.random.default_rng(seed)
    pose = rng.normal(0, 300, (2, count, 17, 3)).astype(np.float32)
    embedding = rng.normal(0, 0.5, (count, 5)).astype(np.float32)
    return camera_views.Views(
        index=np.arange(count) + seed,
        time=np.arange(count) / 25,
        square=rng.uniform(0, 100, (count, 4)),
        size=np.full((count, 2), 64),
        joints=np.zeros((count, 17, 2)),
        out=model.Output(embedding, pose[0], np.zeros((count, 3, 3), np.float32), pose[1]),
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str], kind: str, unit: str = "") -> np.ndarray:
    return np.array([float(row[key]) for key in row if key.startswith(f"{kind}_") and key.endswith(unit)])


def test_the_tables_say_what_the_arrays_say(tmp_path: Path) -> None:
    """All the columns of all rows, with names that must be quoted, and pictures, which have no time."""
    names = ('left, "upper"', "line\nbreak")
    cameras = [Camera(name, (Path(f"{name}.mp4"),), "static", rate=25) for name in names]
    both = [views(3, 0), views(2, 7)]
    rng = np.random.default_rng(1)
    fused = rng.normal(0, 300, (2, 17, 3)).astype(np.float32), rng.normal(size=(2, 5)).astype(np.float32)
    row = np.array([[0, 1], [2, -1]])
    instants = Instants(np.arange(2), np.array([0, 0.04]), row, *fused, np.array([12.34, np.nan]))
    predict_files.save(tmp_path, cameras, both, instants, "about")
    rows = rows_of(tmp_path / TABLE)
    assert [(r["camera"], r["file"], r["frame"], r["time_s"]) for r in rows[2:4]] == [
        (names[0], f"{names[0]}.mp4", "2", "0.0800"),
        (names[1], f"{names[1]}.mp4", "7", "0.0000"),
    ]
    with np.load(tmp_path / PREDICTIONS) as archive:
        for i, row_of_view in enumerate(rows):
            for kind in ("canonical", "in_camera"):
                np.testing.assert_allclose(
                    numbers(row_of_view, kind, "_mm"), archive[kind][i].ravel(), atol=0.051
                )
            np.testing.assert_allclose(numbers(row_of_view, "embedding"), archive["embedding"][i], atol=6e-7)
            square = [float(row_of_view[side]) for side in ("x0", "y0", "x1", "y1")]
            np.testing.assert_allclose(square, archive["square"][i], atol=0.0051)
        assert float(rows[4]["in_camera_LWrist_y_mm"]) == pytest.approx(
            archive["in_camera"][4, skeleton.JOINTS.index("LWrist"), 1], abs=0.051
        )
    instant_rows = rows_of(tmp_path / "instants.csv")
    assert [(r["time_s"], r["views"], r["spread_mm"]) for r in instant_rows] == [
        ("0.0000", "2", "12.3"), ("0.0400", "1", ""),
    ]  # fmt: skip
    for row, pose, embedding in zip(instant_rows, *fused, strict=True):
        np.testing.assert_allclose(numbers(row, "canonical", "_mm"), pose.ravel(), atol=0.051)
        np.testing.assert_allclose(numbers(row, "embedding"), embedding, atol=6e-7)
    pictures = Camera("folder", tuple(Path(f"{n}.png") for n in "abc"), "whole", frames=3)
    predict_files.save(tmp_path, [pictures], [views(3, 0)], None, "about")
    assert [(r["file"], r["time_s"]) for r in rows_of(tmp_path / TABLE)] == [
        ("a.png", ""), ("b.png", ""), ("c.png", ""),
    ]  # fmt: skip


# -------- the folder


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    output = tmp_path / "out"
    left = output / STAGING / "results"
    left.mkdir(parents=True)
    (left / "overlay_old.mp4").write_text("half")
    with staged(output, overwrite=False) as folder:
        assert names_in(folder) == []
        (folder / TABLE).write_text("new")
    assert names_in(output) == [TABLE]


def test_earlier_results_stay_until_the_new_ones_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (TABLE, "instants.csv", "overlay_left.mp4", "overlay_mine.mp4"):
        (tmp_path / name).write_text("earlier")
    np.savez(tmp_path / PREDICTIONS, camera_names=np.array(["left", "right"]))
    with refused("not empty", "--overwrite"):
        with staged(tmp_path, overwrite=False):
            pass
    with pytest.raises(KeyboardInterrupt):
        with staged(tmp_path, overwrite=True) as folder:
            (folder / TABLE).write_text("new")
            raise KeyboardInterrupt
    assert names_in(tmp_path) == [
        "instants.csv", "overlay_left.mp4", "overlay_mine.mp4", TABLE, PREDICTIONS,
    ]  # fmt: skip
    assert (tmp_path / TABLE).read_text() == "earlier"

    def removed(path: Path, missing_ok: bool = False) -> None:
        assert (tmp_path / TABLE).read_text() == (tmp_path / "overlay_right.mp4").read_text() == "new"
        with contextlib.suppress(FileNotFoundError):
            real(path)

    real = Path.unlink
    with staged(tmp_path, overwrite=True) as folder:
        for name in (TABLE, "overlay_right.mp4"):
            (folder / name).write_text("new")
        monkeypatch.setattr(Path, "unlink", removed)
    # A film of a camera that no earlier predictions name is not one of theirs.
    assert names_in(tmp_path) == ["overlay_mine.mp4", "overlay_right.mp4", TABLE]


@pytest.mark.parametrize(
    "kind", ["none", "no archive", "damaged", "objects", "other arrays", "names that lead elsewhere"]
)
def test_films_stay_where_it_is_not_known_whose_they_are(tmp_path: Path, kind: str) -> None:
    inner = tmp_path / "out" / "overlay_a"
    inner.mkdir(parents=True)
    for path in (inner.parent / "overlay_left.mp4", tmp_path / "x.mp4"):
        path.write_text("recorded")
    names = {
        "objects": {"camera_names": np.array(["left", 1], object)},
        "other arrays": {"names": np.array(["left"])},
        "names that lead elsewhere": {"camera_names": np.array(["a/../../x"])},
    }
    if kind in names:
        np.savez(inner.parent / PREDICTIONS, **names[kind])
    elif kind == "damaged":
        np.savez_compressed(inner.parent / PREDICTIONS, camera_names=np.arange(9000))
        stored = bytearray((inner.parent / PREDICTIONS).read_bytes())
        stored[200:300] = bytes(100)
        (inner.parent / PREDICTIONS).write_bytes(stored)
    elif kind == "no archive":
        (inner.parent / PREDICTIONS).write_bytes(b"PK\x03\x04 not for long")
    with staged(tmp_path / "out", overwrite=True):
        pass
    assert names_in(tmp_path) == ["out", "x.mp4"]
    assert names_in(tmp_path / "out") == ["overlay_a", "overlay_left.mp4"]


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    """A lock is its descriptor's, so that another of this process is as good as another process's."""
    with locks.held(tmp_path / "out" / STAGING):
        with refused("another process", "--output"):
            with staged(tmp_path / "out", overwrite=True):
                pass
    with staged(tmp_path / "out", overwrite=False):
        pass
    assert names_in(tmp_path / "out") == []


def test_a_folder_made_for_nothing_goes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        with staged(tmp_path / "out", overwrite=False):
            raise ValueError("nobody")
    assert names_in(tmp_path) == []
    with refused("--output", r"caf\xe9"):
        with staged(tmp_path / "caf\udce9", overwrite=False):
            pass


# -------- real cameras


def test_real_cameras(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VP9 with sound beside H.264, of two sizes; the person is found in both. Two of the four cameras, for time."""
    clip = shared / "data" / "four_camera_clip"
    files = [clip / f"{name}.mp4" for name in ("cam02", "cam04")]
    cameras = "".join(f"[[session.camera]]\nfile='{file}'\n" for file in files)
    (tmp_path / "manifest.toml").write_text(f"[[session]]\nname='clip'\n{cameras}")
    with steps.two_blocks():
        opened = predict_model.Opened(model.of_state(steps.make_state(), steps.SIZE), "nobody trained it")
        monkeypatch.setattr(predict_model, "open_model", lambda workdir, step: opened)
        predict.predict(Predict(source=str(tmp_path), output=str(tmp_path / "out"), every=10, batch=16))
    with np.load(tmp_path / "out" / PREDICTIONS) as arrays:
        assert arrays["camera_names"].tolist() == ["cam02", "cam04"]
        assert arrays["camera"].tolist() == [0] * 10 + [1] * 10
        assert arrays["frame"].tolist() == [*range(0, 100, 10)] * 2
        np.testing.assert_allclose(arrays["instant_time"], np.arange(10) / 6, atol=0.01)
        assert (arrays["instant_view"] == np.arange(20).reshape(2, 10).T).all()
        # Upright in upright pictures, 1080 and 1088 by 1920: the square is the person's height, and a margin.
        height = arrays["square"][:, 3] - arrays["square"][:, 1]
        assert (height > 600).all() and (height < 2400).all()
        assert np.isfinite(arrays["in_camera"]).all()
    assert len(rows_of(tmp_path / "out" / "instants.csv")) == 10
