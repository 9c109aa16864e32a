"""Searching block by block: splitting, merging the best, and the rule of which pairs may be retrieved."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

AnyArray = Array | np.ndarray
Rule = Callable[[Any, Any], Any]
"""`rule(query_keys, gallery_keys) -> bool [q, n]`, which pairs may be retrieved: a hashable callable on pytrees of
arrays whose first axis counts queries or gallery entries, evaluated block by block under `jax.jit`."""


def split_blocks(tree: Any, size: int) -> Any:
    """Leaves [n, ...] -> [ceil(n / size), size, ...], the last block filled up with its last entry."""

    def split(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        missing = -len(leaf) % size
        filled = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])
        return filled.reshape(-1, size, *leaf.shape[1:])

    return jax.tree.map(split, tree)


def check_rule(allowed: Rule | None, query_keys: Any, gallery_keys: Any, queries: int, gallery: int) -> None:
    if allowed is None:
        return
    for name, keys, expected in (
        ("query_keys", query_keys, queries),
        ("gallery_keys", gallery_keys, gallery),
    ):
        lengths = sorted({len(leaf) for leaf in jax.tree.leaves(keys)})
        if lengths != [expected]:
            raise ValueError(
                f"{name} has {lengths or 'no'} entries where `allowed` needs {expected}: one per row."
            )


def check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1.")


def merge(
    best: tuple[Float[Array, "q a"], Int32[Array, "q a"]],
    more: Float[Array, "q c"],
    columns: Int32[Array, "q c"],
    k: int,
) -> tuple[Float[Array, "q k"], Int32[Array, "q k"]]:
    """The k highest of two lists; of equal scores the first list's come first, then the lower position."""
    both, chosen = jax.lax.top_k(jnp.concatenate([best[0], more], axis=1), k)
    return both, jnp.take_along_axis(jnp.concatenate([best[1], columns], axis=1), chosen, axis=1)


def empty(q: int, k: int) -> tuple[Float[Array, "q k"], Int32[Array, "q k"]]:
    return jnp.full((q, k), -jnp.inf), jnp.full((q, k), -1, jnp.int32)


def query_blocks(rows: Any, keys: Any, size: int) -> Iterator[tuple[Any, ...]]:
    """Yields (start, rows, keys) block by block, the last one filled up."""
    blocks = split_blocks((rows, keys), size)
    for b in range(len(jax.tree.leaves(blocks)[0])):
        yield b * size, *jax.tree.map(lambda leaf, b=b: leaf[b], blocks)
