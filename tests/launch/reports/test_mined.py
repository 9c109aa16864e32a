"""The negatives that a run is shown to mine: against loops over its batches, and which of them are shown."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from datasets.tuples import pipeline
from launch.cli import options
from launch.reports import mined
from launch.reports.mined import Mined
from launch.runs import run_folder
from launch.training import sources
from mcss_jax import skeleton
from mcss_jax.training.train_step import embed_step
from tests.mcss_jax.steps import two_blocks


@pytest.fixture(scope="module")
def run(trained_run: Path) -> Iterator[run_folder.Run]:
    with two_blocks():
        yield run_folder.open_run(trained_run)


def by_loops(run: run_folder.Run) -> list[tuple[float, float, float, float]]:
    """(positive, negative, seconds apart, pose gap) of every anchor that has a negative, batch after batch."""
    out = []
    gap = run.config.objective.min_negative_gap
    for _, batch in sources.open_source(run.config).batches(0, run.step, pipeline.Waiting()):
        seen = batch.unlabelled
        flat = seen.images.reshape(-1, *seen.images.shape[2:])
        z = (
            np.asarray(embed_step(run.state, jnp.asarray(flat)).embedding)
            .astype(np.float64)
            .reshape(len(seen.valid), 2, -1)
        )
        poses = np.asarray(skeleton.canonicalise(jnp.asarray(seen.pose))[0])
        for i in range(len(z)):
            for view in range(2):
                best = None
                for j in range(len(z)):
                    near = (
                        seen.sequence[i] == seen.sequence[j] and abs(seen.time[i] - seen.time[j]) < gap - 1e-3
                    )
                    if seen.group[i] != seen.group[j] or near:
                        continue
                    for other in range(2):
                        distance = np.linalg.norm(z[i, view] - z[j, other])
                        if best is None or distance < best[0]:
                            best = (distance, j)
                if best is None:
                    continue
                distance, j = best
                same = seen.sequence[i] == seen.sequence[j]
                known = np.isfinite(seen.pose[i] + seen.pose[j]).all()
                out.append(
                    (
                        np.linalg.norm(z[i, 0] - z[i, 1]),
                        distance,
                        abs(seen.time[i] - seen.time[j]) if same else np.nan,
                        np.linalg.norm(poses[i] - poses[j], axis=-1).mean() if known else np.nan,
                    )
                )
    return out


def test_they_are_those_of_the_last_batches(run: run_folder.Run) -> None:
    found, expected = mined.mine(run), by_loops(run)
    assert found is not None and len(found.negative) == len(expected) > 4
    actual = np.stack([found.positive, found.negative, found.apart, found.pose_gap], axis=1)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    assert np.isfinite(found.pose_gap).any() and np.isnan(found.pose_gap).any()
    assert not found.other_group.any() and found.pictures.shape[1:] == (3, 64, 64, 3)


def test_nothing_is_mined_where_there_is_nothing_to_mine(run: run_folder.Run, tmp_path: Path) -> None:
    def of(**changes: object) -> run_folder.Run:
        return dataclasses.replace(run, config=options.replace(run.config, **changes))

    assert mined.mine(of(method="baseline")) is None is mined.mine(of(method="batchnorm"))
    assert mined.mine(of(metric_weight=0.0)) is None
    assert mined.mine(run, str(tmp_path)) is None, "the training data are not at hand"
    other = dataclasses.replace(run, card=run.card | {"fingerprint": "of other data"})
    assert mined.mine(other) is None
    assert mined.section({}) is None


def made(negative: list[float], sequence: list[int], gap: list[float]) -> Mined:
    count = len(negative)
    return Mined(
        pictures=np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8, 3), np.uint8),
        positive=np.full(count, 0.2, np.float32),
        negative=np.asarray(negative, np.float32),
        sequence=np.asarray(sequence),
        apart=np.asarray([np.nan if k % 2 else 0.5 + k for k in range(count)]),
        other_group=np.arange(count) == 3,
        pose_gap=np.asarray(gap),
    )


def test_what_is_shown_of_a_kind_is_of_different_recordings() -> None:
    few = made([0.5, 0.1, 0.2, 0.9, 0.3], [1, 2, 2, 3, 4], [10.0, 49.9, 50.0, np.nan, 20.0])
    kinds = mined.chosen(few)
    assert kinds["Hardest"].tolist() == [1, 4, 0, 3], "2 is of the recording of 1"
    assert kinds["Typical"].tolist()[0] == 4, "the median"
    assert kinds["False: nearly the same pose"].tolist() == [0, 4, 1], (
        "nearest pose first, 50 mm is not false"
    )
    many = made(list(np.linspace(0, 1, 40)), list(range(40)), [np.nan] * 40)
    kinds = mined.chosen(many)
    assert kinds["Hardest"].tolist() == list(range(mined.SHOWN))
    assert set(kinds["Typical"].tolist()) == set(range(17, 23)) and not len(
        kinds["False: nearly the same pose"]
    )


def test_the_section_says_what_is_known() -> None:
    few = made([0.5, 0.1, 0.2, 0.9], [1, 2, 5, 3], [10.0, 49.9, 50.0, np.nan])
    section = mined.section({"mcss": few})
    assert section is not None
    for words in ("4 anchors", "Of 3 whose poses are known 67 % are false", "50 mm away", "another group",
                  "another recording", "0.5 s away", "positive, d 0.20", "negative, d 0.50", "10 mm"):  # fmt: skip
        assert words in section.body, words
    assert "mcss</h3>" not in section.body and "mcss</h3>" in mined.section({"mcss": few, "b": few}).body  # type: ignore[union-attr]
    unknown = mined.section({"mcss": dataclasses.replace(few, pose_gap=np.full(4, np.nan))})
    assert unknown is not None and "known" not in unknown.body and "False" not in unknown.body
