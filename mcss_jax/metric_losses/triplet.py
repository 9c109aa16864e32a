"""The paper's metric loss: a hinge on the distance to the other view and to the (soft-)hardest negative."""

from jaxtyping import Array, Float

from mcss_jax import losses
from mcss_jax.method import Objective
from mcss_jax.pairs import Pairs, Term, distance_figures


def loss(pairs: Pairs, objective: Objective, temperature: Float[Array, ""] | float) -> Term:
    """`losses.triplet` of the (soft-)hardest negatives, with the setting `margin`."""
    triplets = losses.mine(pairs, temperature)
    total, count = losses.triplet(triplets, objective.margin)
    figures = distance_figures(triplets.positive, triplets.negative, triplets.valid)
    return Term(total, count, figures, triplets.mined, triplets.valid)
