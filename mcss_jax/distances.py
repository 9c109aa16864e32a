"""Euclidean distances between embeddings with exact, finite gradients, in float32 on every platform."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_sqrt(square: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """Square root whose gradient at zero is zero instead of infinite."""
    # The inner `where` matters: the gradient of a branch not taken is computed too, and inf * 0 is NaN.
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def pairwise(a: Float[Array, "m d"], b: Float[Array, "n d"]) -> Float[Array, "m n"]:
    """All distances |a_i - b_j|, from the Gram matrix in full float32.

    Rounding leaves an error of about 3e-4 near zero for unit vectors (neighbouring frames); where a near-zero
    distance matters, as for positives, use `rowwise`.
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    gram = jnp.matmul(a, b.T, precision="highest")
    # Rounding can make the difference of nearly equal vectors negative.
    square = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :] - 2.0 * gram
    return safe_sqrt(jnp.maximum(square, 0.0))


def rowwise(a: Float[Array, "*b d"], b: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """Distances |a_i - b_i| of matching rows, from the difference itself: exact near zero."""
    difference = a.astype(jnp.float32) - b.astype(jnp.float32)
    return safe_sqrt(jnp.sum(difference * difference, axis=-1))
