"""Padding to few sizes: every batch size that a compiled function meets is compiled for anew."""

import numpy as np


def padded(array: np.ndarray, rows: int) -> np.ndarray:
    """`array` with zeros behind its last row, `rows` in all; as it is where it has as many or more."""
    return np.pad(array, [(0, max(0, rows - len(array)))] + [(0, 0)] * (array.ndim - 1))


def bucket(count: int) -> int:
    """The batch size that `count` rows are padded to where any number may come: the next power of two."""
    return 1 << (count - 1).bit_length()
