"""Archives of NumPy's: what is read, and that every kind of damage is one of the errors that readers expect."""

import io
from pathlib import Path

import numpy as np
import pytest

from datasets import npz


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    np.savez_compressed(tmp_path / "a.npz", pose=np.arange(600.0), name=np.array(["x"]))
    return tmp_path / "a.npz"


def test_all_columns_or_those_that_are_named(archive: Path) -> None:
    assert set(npz.read(archive)) == {"pose", "name"}
    arrays = npz.read(archive, ["pose"])
    assert set(arrays) == {"pose"}
    np.testing.assert_array_equal(arrays["pose"], np.arange(600.0))


def test_the_systems_own_errors_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        npz.read(tmp_path / "none.npz")


def saved(**columns: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **columns)
    return file.getvalue()


def alone() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"text", saved(a=np.zeros(9))[:-30], alone(), saved(a=np.array([{}]))]
)
def test_damage_and_objects_are_unreadable(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "b.npz"
    file.write_bytes(content)
    with pytest.raises(npz.UNREADABLE):
        npz.read(file)


def test_a_column_that_is_not_there_and_bytes_that_were_changed(archive: Path) -> None:
    with pytest.raises(npz.UNREADABLE):
        npz.read(archive, ["time"])
    content = bytearray(archive.read_bytes())
    content[120] ^= 0xFF  # within the compressed numbers
    archive.write_bytes(bytes(content))
    with pytest.raises(npz.UNREADABLE):
        npz.read(archive)
