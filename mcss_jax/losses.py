"""Triplet loss on mined pairs and pose losses. Each returns (sum, count), so that replicas add up exactly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from mcss_jax import distances, mining


class Instants(NamedTuple):
    """What the temporal rule knows of n instants: group, sequence, time (s), and whether they are whole."""

    group: Int[Array, " n"]
    sequence: Int[Array, " n"]
    time: Float[Array, " n"]
    valid: Bool[Array, " n"]


class Triplets(NamedTuple):
    """Per anchor (instant-major, then view): distances, hardest negative's column, and whether it counts."""

    positive: Float[Array, " a"]
    negative: Float[Array, " a"]
    mined: Int[Array, " a"]
    valid: Bool[Array, " a"]


def mine(
    embedding: Float[Array, "m 2 d"],
    instants: Instants,
    candidates: Float[Array, "n 2 d"],
    candidate_instants: Instants,
    *,
    min_gap: float,
    across_groups: bool,
    temperature: Float[Array, ""] | float,
    block: int = 2048,
) -> Triplets:
    """For every view of every instant: the distance to the other view, and to its (soft-)hardest negative.

    Candidates are both views of every instant that `mining.negative_mask` allows; `mined` counts them
    instant-major (2 * instant + view). Rows are scored `block` at a time and rematerialised in the backward
    pass, so memory is linear in the batch.
    """
    rows, _, dim = embedding.shape
    flat = candidates.reshape(-1, dim)
    columns = jax.tree.map(lambda x: jnp.repeat(x, 2), candidate_instants)

    def score(anchor: Float[Array, "r d"], of: Instants) -> tuple[Array, Array, Array]:
        mask = mining.negative_mask(
            of.group,
            of.sequence,
            of.time,
            min_gap,
            across_groups,
            columns=(columns.group, columns.sequence, columns.time),
        )
        mask = mask & of.valid[:, None] & columns.valid[None, :]
        return mining.hardest(distances.pairwise(anchor, flat), mask, temperature)

    anchors = embedding.reshape(-1, dim)
    of = jax.tree.map(lambda x: jnp.repeat(x, 2), instants)
    total = 2 * rows
    if total <= block:
        negative, index, found = score(anchors, of)
    else:
        pad = -total % block
        padded = jax.tree.map(lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)), (anchors, of))
        chunks = jax.tree.map(lambda x: x.reshape(-1, block, *x.shape[1:]), padded)
        scored = lax.map(jax.checkpoint(lambda chunk: score(*chunk)), chunks)
        negative, index, found = jax.tree.map(lambda x: x.reshape(-1)[:total], scored)
    positive = jnp.repeat(distances.rowwise(embedding[:, 0], embedding[:, 1]), 2)
    return Triplets(positive, negative, index, found)


def triplet(triplets: Triplets, margin: float) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Hinge max(0, margin + positive - negative), summed over anchors that have a negative; and their number.

    The mean runs over all of them, not over the violating ones: a mean over violators is not a mean of
    replicas.
    Source: the triplet loss of the paper's section 3; margin and mining are settings
    (docs/method.md#what-the-paper-leaves-open).
    """
    hinge = jnp.maximum(margin + triplets.positive - triplets.negative, 0.0)
    return jnp.sum(jnp.where(triplets.valid, hinge, 0.0)), jnp.sum(triplets.valid).astype(jnp.float32)


def pose(
    predicted: Float[Array, "b 17 3"], target: Float[Array, "b 17 3"], valid: Bool[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean absolute error of standardised coordinates, summed over valid poses; and their number.

    Absolute rather than squared, as the metrics are means of distances and few labels hold outliers.
    """
    error = jnp.mean(jnp.abs(predicted - jnp.where(valid[:, None, None], target, 0.0)), axis=(1, 2))
    return jnp.sum(jnp.where(valid, error, 0.0)), jnp.sum(valid).astype(jnp.float32)


def rotation(
    predicted: Float[Array, "b 3 3"], target: Float[Array, "b 3 3"], valid: Bool[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Squared chordal distance |R - R*|^2 / 8 (1 at half a turn), summed over valid rows; their number."""
    difference = predicted - jnp.where(valid[:, None, None], target, 0.0)
    error = jnp.sum(difference * difference, axis=(1, 2)) / 8.0
    return jnp.sum(jnp.where(valid, error, 0.0)), jnp.sum(valid).astype(jnp.float32)
