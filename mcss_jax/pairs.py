"""What a metric loss sees of a batch: two views of every instant, and which other instants may be its negatives."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mcss_jax import distances, mining
from mcss_jax.pytree import pytree, static

Scores = TypeVar("Scores")


class Instants(NamedTuple):
    """What the temporal rule knows of n instants: group, sequence, time (s), and whether they are whole."""

    group: Int[Array, " n"]
    sequence: Int[Array, " n"]
    time: Float[Array, " n"]
    valid: Bool[Array, " n"]


@pytree
class Pairs:
    """The embeddings of a batch, of unit length.

    Attributes:
      embedding, instants: this replica's m instants, two views each. Every view is an anchor, the other its positive.
      candidates, candidate_instants: all replicas' n instants, these among them.
      min_gap, across_groups: the rule that says which of them may be negatives (`mining.negative_mask`).
    """

    embedding: Float[Array, "m 2 d"]
    instants: Instants
    candidates: Float[Array, "n 2 d"]
    candidate_instants: Instants
    min_gap: float = static()
    across_groups: bool = static()


class Term(NamedTuple):
    """A loss over this replica's anchors, as (sum, count): a mean would not be a mean over replicas.

    Attributes:
      total, anchors: the loss, summed over the anchors that have a negative; and their number.
      figures: what is logged of it, as (sum, count) too.
      mined: per anchor (instant-major, then view) the column of its hardest negative, 2 * instant + view.
      has_negative: per anchor, whether it has one.
    """

    total: Float[Array, ""]
    anchors: Float[Array, ""]
    figures: dict[str, tuple[Float[Array, ""], Float[Array, ""]]]
    mined: Int[Array, " a"]
    has_negative: Bool[Array, " a"]


def distance_figures(
    positive: Float[Array, " a"], negative: Float[Array, " a"], has_negative: Bool[Array, " a"]
) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
    """What is logged of every metric loss: distances to the positive and to the negative, as (sum, count)."""
    counted = has_negative.astype(jnp.float32)
    count = jnp.sum(counted)
    return {
        "positive_distance": (jnp.sum(positive * counted), count),
        "negative_distance": (jnp.sum(negative * counted), count),
    }


def positive_distances(pairs: Pairs) -> Float[Array, " a"]:
    """Per anchor the distance to the other view."""
    return jnp.repeat(distances.rowwise(pairs.embedding[:, 0], pairs.embedding[:, 1]), 2)


def per_anchor(
    pairs: Pairs, score: Callable[[Float[Array, "r c"], Bool[Array, "r c"]], Scores], block: int = 2048
) -> Scores:
    """`score(distances, allowed)` of r anchors to both views of all candidates, for all anchors.

    `allowed` is the mask of an anchor's negatives. Anchors are scored `block` at a time and rematerialised in the
    backward pass, so memory is linear in the batch. `score` returns arrays [r].
    """
    instants, _, dim = pairs.embedding.shape
    flat = pairs.candidates.reshape(-1, dim)
    columns = jax.tree.map(lambda x: jnp.repeat(x, 2), pairs.candidate_instants)

    def scored(anchor: Float[Array, "r d"], of: Instants) -> Scores:
        return score(distances.pairwise(anchor, flat), _allowed(pairs, of, columns))

    anchors = pairs.embedding.reshape(-1, dim)
    of = jax.tree.map(lambda x: jnp.repeat(x, 2), pairs.instants)
    return _in_blocks(scored, (anchors, of), 2 * instants, block)


def negatives(pairs: Pairs, block: int = 2048) -> Int[Array, " m"]:
    """How many whole instants may be negatives of each of this replica's instants; 0 for one that is not whole."""

    def counted(of: Instants) -> Int[Array, " r"]:
        return jnp.sum(_allowed(pairs, of, pairs.candidate_instants), axis=1, dtype=jnp.int32)

    return _in_blocks(counted, (pairs.instants,), len(pairs.embedding), block)


def _allowed(pairs: Pairs, of: Instants, columns: Instants) -> Bool[Array, "r c"]:
    """The mask of the negatives that r anchors may have among c candidates."""
    mask = mining.negative_mask(
        of.group,
        of.sequence,
        of.time,
        pairs.min_gap,
        pairs.across_groups,
        columns=(columns.group, columns.sequence, columns.time),
    )
    return mask & of.valid[:, None] & columns.valid[None, :]


def _in_blocks(function: Callable[..., Scores], rows: tuple, total: int, block: int) -> Scores:
    """`function(*rows)`, so many rows at a time; what it gives are arrays with an entry for each row."""
    if total <= block:
        return function(*rows)
    pad = -total % block
    filled = jax.tree.map(lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)), rows)
    chunks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), filled)
    return jax.tree.map(
        lambda x: x.reshape(-1)[:total], lax.map(jax.checkpoint(lambda chunk: function(*chunk)), chunks)
    )
