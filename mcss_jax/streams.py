"""The random numbers of a run: one seed, and a stream of its own for every purpose.

Whoever needs another purpose adds a name. Streams of one seed, and one stream of two seeds, have nothing in common:
what seed 1 draws for its weights is not what seed 0 draws for augmentation. Batches are planned on the host, by streams
of NumPy's (`datasets.tuples.sampling`).
"""

import zlib
from typing import Literal

import jax
from jaxtyping import Array, Key

Purpose = Literal["init", "augment"]


def stream(seed: int, purpose: Purpose) -> Key[Array, ""]:
    """The key of a purpose; its name is folded in by its CRC-32, which is the same everywhere and for ever."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
