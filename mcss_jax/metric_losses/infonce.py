"""InfoNCE (van den Oord et al. 2018, in the form of SimCLR): the other view among all negatives, by cross entropy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from mcss_jax import mining
from mcss_jax.method import Objective
from mcss_jax.pairs import Pairs, Term, distance_figures, per_anchor, positive_distances


def loss(pairs: Pairs, objective: Objective, temperature: Float[Array, ""] | float) -> Term:
    """-log(e^(s+ / t) / (e^(s+ / t) + sum of e^(s / t) over the negatives)), summed over anchors that have a negative.

    s is the cosine of two embeddings, s+ that with the other view, and t `infonce_temperature`. Which instants are
    negatives is the temporal rule's; every one counts, so `temperature`, which softens the choice of one, is not read.
    """
    scale = objective.infonce_temperature

    def score(
        distance: Float[Array, "r c"], allowed: Bool[Array, "r c"]
    ) -> tuple[Array, Array, Array, Array]:
        has_negative = jnp.any(allowed, axis=1)
        # Rows without a negative count for nothing; a zero keeps their gradient from being NaN.
        logits = jnp.where(allowed, _cosine(distance) / scale, -jnp.inf)
        logits = jnp.where(has_negative[:, None], logits, 0.0)
        return jax.nn.logsumexp(logits, axis=1), *mining.hardest(distance, allowed, 0.0)

    negatives, negative, mined, has_negative = per_anchor(pairs, score)
    positive = positive_distances(pairs)
    same = _cosine(positive) / scale
    entropy = jnp.logaddexp(same, negatives) - same
    figures = distance_figures(positive, negative, has_negative)
    total, anchors = jnp.sum(jnp.where(has_negative, entropy, 0.0)), jnp.sum(has_negative)
    return Term(total, anchors.astype(jnp.float32), figures, mined, has_negative)


def _cosine(distance: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Of two vectors of length one, from their distance."""
    return 1.0 - 0.5 * distance * distance
