"""The paper's metric loss: a hinge on the distance to the other view and to the (soft-)hardest negative."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from mcss_jax import losses
from mcss_jax.method import Objective
from mcss_jax.pairs import Pairs, Term


def loss(pairs: Pairs, objective: Objective, temperature: Float[Array, ""] | float) -> Term:
    """`losses.triplet` of the (soft-)hardest negatives, with the setting `margin`."""
    triplets = losses.mine(pairs, temperature)
    total, count = losses.triplet(triplets, objective.margin)
    counted = triplets.valid.astype(jnp.float32)
    figures = {
        "positive_distance": (jnp.sum(triplets.positive * counted), count),
        "negative_distance": (jnp.sum(triplets.negative * counted), count),
    }
    return Term(total, count, figures, triplets.mined, triplets.valid)
