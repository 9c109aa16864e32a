"""Reading NumPy's archives that may be damaged, or somebody else's: columns, and nothing unpickled."""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

# What NumPy raises on a file that is no archive of plain numbers; the operating system's errors are not among them.
UNREADABLE = (ValueError, EOFError, TypeError, LookupError, AttributeError, zipfile.BadZipFile, zlib.error)


def read(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an archive by name, or those of `names`. Raises one of `UNREADABLE`, or OSError."""
    # Opened here: NumPy leaves a file that it cannot read open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in (archive.files if names is None else names)}
