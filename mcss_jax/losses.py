"""Triplet loss on mined pairs and pose losses. Each returns (sum, count), so that replicas add up exactly."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mcss_jax import mining
from mcss_jax.pairs import Instants as Instants
from mcss_jax.pairs import Pairs as Pairs
from mcss_jax.pairs import per_anchor, positive_distances


class Triplets(NamedTuple):
    """Per anchor (instant-major, then view): distances, the hardest negative's column, and whether there is one.

    Columns count both views of every candidate, instant-major too: 2 * instant + view.
    """

    positive: Float[Array, " a"]
    negative: Float[Array, " a"]
    mined: Int[Array, " a"]
    valid: Bool[Array, " a"]


def mine(pairs: Pairs, temperature: Float[Array, ""] | float, *, block: int = 2048) -> Triplets:
    """For every view of every instant: the distance to the other view, and to its (soft-)hardest negative."""
    negative, mined, has_negative = per_anchor(
        pairs, lambda distance, allowed: mining.hardest(distance, allowed, temperature), block
    )
    return Triplets(positive_distances(pairs), negative, mined, has_negative)


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
    # Targets of unusable rows may be NaN: they go before the difference, or NaN would enter the gradient.
    error = jnp.mean(jnp.abs(predicted - jnp.where(valid[:, None, None], target, 0.0)), axis=(1, 2))
    return jnp.sum(jnp.where(valid, error, 0.0)), jnp.sum(valid).astype(jnp.float32)


def rotation(
    predicted: Float[Array, "b 3 3"], target: Float[Array, "b 3 3"], valid: Bool[Array, " b"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Squared chordal distance |R - R*|^2 / 8 (1 at half a turn), summed over valid rows; their number."""
    difference = predicted - jnp.where(valid[:, None, None], target, 0.0)
    error = jnp.sum(difference * difference, axis=(1, 2)) / 8.0
    return jnp.sum(jnp.where(valid, error, 0.0)), jnp.sum(valid).astype(jnp.float32)
