"""A cached split gives the loader's batches bit for bit, damage included, and is refused where it does not fit."""

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from datasets.tuples import pipeline, sampling, tuple_builder
from launch.cli import options
from launch.runs.settings import Train
from launch.training import cached, sources
from tests.datasets.changed_records import Records
from tests.refusals import refused


@pytest.fixture(scope="module")
def split(prepared_tiny: Path) -> pipeline.Split:
    """With a record that cannot be read, a picture that is none, one of another size, hidden views, a lost pose."""
    whole = pipeline.open_split(prepared_tiny, "synthetic_multiview/tiny", "train")
    images = whole.source[1]["images"]
    changes = {
        0: RuntimeError("unreadable block"),
        1: {"images": [images[0], b"not a picture", images[2], images[3]]},
        2: {"images": [tuple_builder.encode_jpeg(np.zeros((32, 32, 3), np.uint8)), *images[1:]]},
        3: {"view_valid": np.asarray([True, False, False, False])},
        4: {"view_valid": np.asarray([False, True, True, True]), "images": [b"", *images[1:]]},
        5: {"pose": np.full((4, 17, 3), np.nan, np.float32)},
    }
    return dataclasses.replace(whole, source=Records(whole.source, changes), cache={}, cached_bytes=0)


def test_batches_are_those_of_the_loader(split: pipeline.Split, capsys: pytest.CaptureFixture) -> None:
    labelled = sampling.labelled_records(split.table, sampling.parse_labelled("S1", split.table))
    plain, kept = pipeline.Loader(split, labelled), cached.Loader(split, labelled)
    said = capsys.readouterr().out
    assert re.search(rf"keeping {split.name} on .*: {split.records * 4} pictures, 0.00473 GB", said)
    met: set[int] = set()
    for step in range(12):
        plan = sampling.plan(
            split.table, split.views, seed=0, step=step, blocks=sampling.Blocks(2, 2, 3, 0.5), labelled=labelled,
            labelled_size=6,
        )  # fmt: skip
        met |= {*plan.unlabelled.tolist(), *plan.labelled.tolist()}
        expected, actual = plain(plan), kept(plan)
        assert all(isinstance(part.images, jax.Array) for part in actual.parts.values())
        assert jax.tree.map(lambda x: x.dtype, expected) == jax.tree.map(lambda x: x.dtype, actual)
        jax.tree.map(np.testing.assert_array_equal, expected, actual)
    assert {0, 1, 2, 3, 4, 5} <= met, "every damage is met"
    assert kept.skipped.records == plain.skipped.records > 6
    assert kept.skipped.reason and split.name in kept.skipped.reason


def test_a_run_reads_from_the_device(prepared_tiny: Path) -> None:
    config = options.build(Train, 
        data_dir=str(prepared_tiny), dataset="synthetic_multiview/tiny", labelled_batch=8, blocks=2, sequences=2,
        instants=2, workdir="x", validate_every=0,
    )  # fmt: skip
    actual = {}
    for cache in ("none", "device"):
        source = sources.Prepared(options.replace(config, cache=cache))
        actual[cache] = [batch for _, batch in source.batches(0, 2, pipeline.Waiting())]
    assert isinstance(actual["device"][1].labelled.images, jax.Array)
    jax.tree.map(np.testing.assert_array_equal, *actual.values())


def test_what_does_not_fit_is_refused(split: pipeline.Split, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = (1 + split.records * 4) * 64 * 64 * 3
    monkeypatch.setattr(cached, "free_bytes", lambda device: int(wanted / cached.SHARE) - 2)
    with refused("--cache=device", "0.00473", "GB", "80%", "0.00591"):
        cached.keep(split, 1, jax.devices()[0])


def test_free_memory_is_the_device_s_or_the_machine_s() -> None:
    assert 1e6 < cached.free_bytes(jax.devices()[0]) < 1e14

    def free(**said: int) -> int:
        return cached.free_bytes(SimpleNamespace(memory_stats=lambda: said))  # type: ignore[arg-type]

    assert free(bytes_limit=100, bytes_in_use=30) == 70
    assert 1e6 < free(bytes_in_use=30) < 1e14, (
        "of a device that does not say how much it has, nothing is known"
    )
