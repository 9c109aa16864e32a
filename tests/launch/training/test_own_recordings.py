"""README's commands for recordings of one's own, on recordings of two seconds and more."""

from pathlib import Path

import pytest

from datasets.tuples import pipeline
from launch.cli import flags
from launch.preparation import prepare
from launch.preparation.settings import Prepare
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.training import train
from tests.datasets.multiview_video.test_inspection import session
from tests.mcss_jax.steps import two_blocks

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("seconds", "sessions", "instants"),
    [((2.0,), 1, range(14, 21)), ((2.2, 3.0), 2, range(17, 27))],
)
def test_they_run_as_written(
    seconds: tuple[float, ...],
    sessions: int,
    instants: range,
    tmp_path: Path,
) -> None:
    for number, length in enumerate(seconds):
        folder = tmp_path / "mine" / (f"s{number}" if sessions > 1 else "")
        folder.mkdir(parents=True, exist_ok=True)
        session(folder, ("a.mp4", 25, 0, length), ("b.mp4", 30, 0, length))
    prepare.prepare(
        Prepare(
            dataset="multiview_video", source=str(tmp_path / "mine"), data_dir=str(tmp_path), crop_size=64
        )
    )
    config = flags.from_file(
        Train,
        ROOT / "launch/experiments/multiview_video.flags",
        dataset="multiview_video/mine",
        data_dir=str(tmp_path),
        workdir=str(tmp_path / "run"),
        steps=2,
        width=8,
    )
    assert len(pipeline.open_split(str(tmp_path), "multiview_video/mine", "train").table) == sessions
    with two_blocks(), pytest.warns(UserWarning, match="few negatives: .* holds [3-6] instants"):
        trained = train.train(config)
    assert trained.finished
    batch = run_folder.settings_in(trained.folder).batch
    # All that the cameras have in common: their offset is estimated.
    assert (batch.blocks, batch.sequences) == (sessions, 1) and batch.instants in instants
