"""Preparing a user's own recordings: what is refused, what is looked through, what is warned of."""

import dataclasses
import signal
from pathlib import Path

import pytest

from datasets.multiview_video import inspection
from datasets.tuples import pipeline
from launch import prepare as prepare_program
from launch.cli import flags, options
from launch.preparation import prepare
from launch.preparation.settings import Prepare
from tests.datasets.multiview_video.test_inspection import session
from tests.refusals import refused


def settings_of(data_dir: Path, **options: object) -> Prepare:
    return Prepare(**{"data_dir": str(data_dir), **options})  # type: ignore[arg-type]


def bad(folder: Path, kind: str) -> str:
    """Spoils a good session in one way; the fact that the refusal must state."""
    if kind == "one camera":
        (folder / "b.mp4").unlink()
        return "1 camera"
    if kind == "columns":
        (folder / "boxes.csv").write_text("frame,left,top\n0,1,2\n")
        return "boxes.csv"
    whole = (folder / "b.mp4").read_bytes()
    content = {"empty": b"", "no video": b"plain words " * 50, "truncated": whole[: len(whole) // 2]}
    (folder / "b.mp4").write_bytes(content[kind])
    return "b.mp4"


@pytest.mark.parametrize("kind", ["one camera", "columns", "empty", "no video", "truncated"])
def test_bad_recordings(kind: str, tmp_path: Path) -> None:
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 0.6), ("b.mp4", 25, 0, 0.6))
    fact = bad(source, kind)
    with refused(fact) as caught:
        prepare.prepare(settings_of(tmp_path / "data", dataset="multiview_video", source=str(source)))
    assert "\n" not in flags.sentence(caught.value) and not (tmp_path / "data").exists()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return session(
        tmp_path_factory.mktemp("recorded") / "my clip", ("a.mp4", 25, 0, 1.2), ("b.mp4", 30, 0, 1.2)
    )


def test_recordings(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_of(tmp_path, dataset="multiview_video", source=str(recorded), crop_size=48)
    made = prepare.prepare(config)
    printed = capsys.readouterr().out
    assert (
        "session my clip: 2 cameras, 12 instants at 10 per second" in printed
        and "estimated offset" in printed
    )
    assert "use it with: --dataset=multiview_video/my_clip " in printed
    assert f"look at: {made.path}/boxes_my_clip.jpg" in printed and (made.path / "contact_sheet.jpg").exists()
    assert pipeline.open_split(tmp_path, made.dataset, "train").image_size == 48

    # Again: nothing is decoded; the set is found by its name too, without the source.
    monkeypatch.setattr(inspection, "inspect", None)
    again = dataclasses.replace(made, fresh=False)
    assert prepare.prepare(config) == again
    assert prepare.prepare(settings_of(tmp_path, dataset="multiview_video/my_clip")) == again
    assert prepare.prepare(settings_of(tmp_path, dataset="multiview_video", name="my_clip")) == again
    with refused("fps 10.0, now 'native'", "size 48, now 256", "--name"):
        prepare.prepare(options.replace(config, fps="native", crop_size=256))
    boxes = recorded / "boxes.csv"
    boxes.write_text("camera,frame,x0,y0,x1,y1\na,0,1,1,20,20\n")
    try:
        with refused("sessions", "boxes.csv", "changed"):
            prepare.prepare(config)
    finally:
        boxes.unlink()


def test_inspect_draws_and_prepares_nothing(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings_of(tmp_path, dataset="multiview_video", source=str(recorded), name="x", inspect=True)
    for _ in range(2):  # a second look replaces the first
        (sheet,) = prepare.inspect(config)
        assert sheet == tmp_path / "multiview_video/x/inspection/boxes_my_clip.jpg" and sheet.exists()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
    assert left == [sheet]
    printed = capsys.readouterr().out
    assert "session my clip: 2 cameras" in printed and f"look at: {sheet}" in printed
    with refused("not prepared"):
        pipeline.prepared_path(tmp_path, "multiview_video/x")


def test_a_warning_is_one_sentence_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    source = session(tmp_path / "s", ("a.mp4", 25, 0, 2.0), ("b.mp4", 25, 0, 1.2))
    config = settings_of(tmp_path / "data", dataset="multiview_video", source=str(source), crop_size=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [])
        prepare_program.main(config)
    printed = [line for line in capsys.readouterr().err.splitlines() if "differ in length" in line]
    assert len(printed) == 1 and printed[0].startswith("warning: s: the cameras differ in length")
