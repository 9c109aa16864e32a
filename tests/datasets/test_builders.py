"""What TFDS's own test case asks of a builder, without TensorFlow (`test_official_tfds.py` is that case itself)."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from datasets.human36m import human36m_dataset_builder
from datasets.mpi_inf_3dhp import mpi_inf_3dhp_dataset_builder
from datasets.multiview_video import multiview_video_dataset_builder
from datasets.synthetic_multiview import synthetic_multiview_dataset_builder
from datasets.tuples import tuple_builder
from tests.distributions import human36m, mpi_inf_3dhp

BUILDERS = (
    human36m_dataset_builder.Builder,
    mpi_inf_3dhp_dataset_builder.Builder,
    multiview_video_dataset_builder.Builder,
    synthetic_multiview_dataset_builder.Builder,
)


def _human36m(folder: Path) -> tfds.core.DatasetBuilder:
    human36m.write(folder / "source", human36m.Distribution())
    return human36m_dataset_builder.Builder(source=folder / "source", size=32, data_dir=str(folder))


def _mpi_inf_3dhp(folder: Path) -> tfds.core.DatasetBuilder:
    mpi_inf_3dhp.write(folder / "source", mpi_inf_3dhp.Distribution())
    return mpi_inf_3dhp_dataset_builder.Builder(
        source=folder / "source", config="chest_fps10", size=32, data_dir=str(folder)
    )


MADE: dict[str, tuple[Callable[[Path], Any], dict[str, int]]] = {
    "human36m": (_human36m, {"train": 12, "test": 6}),
    "mpi_inf_3dhp": (_mpi_inf_3dhp, {"train": 24, "retrieval": 10, "test": 12}),
}


@pytest.fixture(scope="module", params=MADE)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A set read back from its folder, and the number of records that each split should have."""
    make, counts = MADE[request.param]
    tfds.disable_progress_bar()
    builder = make(tmp_path_factory.mktemp(request.param))
    builder.download_and_prepare()
    yield tfds.builder_from_directory(str(builder.data_path)), counts


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.name)
def test_papers_of_a_builder(builder: type[tfds.core.DatasetBuilder]) -> None:
    metadata = builder.get_metadata()
    assert metadata.description or builder.description
    assert set(metadata.tags) <= set(tfds.core.dataset_metadata.valid_tags())
    assert str(builder.VERSION) in builder.RELEASE_NOTES
    for config in builder.BUILDER_CONFIGS:
        assert config.description and config.version == builder.VERSION


def test_splits_have_their_records(prepared: Any) -> None:
    builder, counts = prepared
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == counts
    for name, count in counts.items():
        assert len(builder.as_data_source(name)) == count
        assert sum(row.length for row in tuple_builder.sequence_table(builder.info, name)) == count


def test_records_are_what_the_features_say(prepared: Any) -> None:
    builder, counts = prepared
    specs = builder.info.features.get_tensor_info()
    for name in counts:
        record = builder.as_data_source(name)[0]
        assert record.keys() == specs.keys()
        for key, spec in specs.items():
            value = np.asarray(record[key])
            assert value.shape == spec.shape, key
            if np.dtype(spec.np_dtype) != object:  # not text, not pictures
                assert np.can_cast(value.dtype, spec.np_dtype, "same_kind"), key
                assert value.dtype.itemsize >= np.dtype(spec.np_dtype).itemsize, key


def test_no_record_and_no_person_is_in_two_splits(prepared: Any) -> None:
    builder, counts = prepared
    hashes, people = {}, {}
    for name, count in counts.items():
        records = [builder.as_data_source(name)[k] for k in range(count)]
        hashes[name] = {hashlib.sha256(b"".join(record["images"])).digest() for record in records}
        people[name] = {row.subject for row in tuple_builder.sequence_table(builder.info, name)}
    for one, other in itertools.combinations(counts, 2):
        assert not hashes[one] & hashes[other] and not people[one] & people[other]
