"""One update on a batch whose activations do not fit: cut into parts, mined as a whole.

Triplets reach over the whole batch, so gradients of single parts cannot simply be added up. In two passes, as in
gradient caching (docs/method.md#accumulation): every part is embedded and its activations dropped; the loss of all
outputs together gives a cotangent for each; every part is computed again, and its cotangents pulled back. It costs
one more forward pass.

BatchNorm normalises every part by itself, over all replicas: a part is a normalisation group. The update is that of
the large batch with the same groups; with frozen statistics it is that of the large batch. Running statistics move
once, to the mean of what every part would make of them.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key

from mcss_jax.errors import UserError
from mcss_jax.method import Method
from mcss_jax.training.batch import Batch
from mcss_jax.training.state import TrainState, Variables
from mcss_jax.training.train_step import Report, Sums, forward, objective, train_step, update


def check_parts(sizes: Mapping[str, int], parts: int) -> None:
    """Raises UserError, with the nearest numbers that do, unless `parts` divides every one of the named sizes."""
    wrong = [f"{name} is {size}" for name, size in sizes.items() if size % parts]
    if wrong:
        common = math.gcd(*sizes.values())
        divisors = [n for n in range(1, common + 1) if common % n == 0]
        below, above = ([n for n in divisors if n < parts], [n for n in divisors if n > parts])
        near = [*below[-1:], *above[:1]]
        raise UserError(
            f"{' and '.join(wrong)}, which cannot be accumulated in {parts} equal parts; the nearest numbers that "
            f"divide the batch: {' and '.join(map(str, near))}"
        )


def cut(tree: Any, parts: int) -> Any:
    """Every leaf [n, ...] as [parts, n / parts, ...]; part k holds the rows k, k + parts, k + 2 parts, ...

    Strided, so that a part has pictures of every block, and the same ones however many replicas share the batch.
    """
    return jax.tree.map(lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), tree)


def join(stacked: Any) -> Any:
    """Undoes `cut`."""
    return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), stacked)


def value_and_gradients(
    method: Method,
    state: TrainState,
    batch: Batch,
    rng: Key[Array, ""],
    axis_name: str | None,
    parts: int,
) -> tuple[tuple[Array, tuple[Variables, Sums, Array | None]], Any]:
    """`((loss, (collections, sums, mined columns)), gradients)` of the whole batch."""
    pieces = cut(batch, parts)
    stacked, (collections, crops) = lax.map(
        lambda piece: forward(method, state.params, state, piece, rng, axis_name), pieces
    )
    collections = jax.tree.map(lambda x: jnp.mean(x, axis=0), collections)
    (loss, (sums, mined)), cotangents = jax.value_and_grad(objective, argnums=1, has_aux=True)(
        method, join(stacked), join(crops), state, batch, axis_name
    )

    # Same keys and parameters as in the first pass, so the recomputed outputs are those whose cotangents are known.
    def pull_back(gradients: Any, piece: tuple[Batch, Any]) -> tuple[Any, None]:
        data, cotangent = piece
        _, pull = jax.vjp(
            lambda params: forward(method, params, state, data, rng, axis_name)[0], state.params
        )
        return jax.tree.map(jnp.add, gradients, pull(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, state.params)
    gradients, _ = lax.scan(pull_back, zeros, (pieces, cut(cotangents, parts)))
    return (loss, (collections, sums, mined)), gradients


def accumulated_step(
    method: Method,
    state: TrainState,
    batch: Batch,
    rng: Key[Array, ""],
    *,
    axis_name: str | None = None,
    parts: int,
) -> tuple[TrainState, Report]:
    """`train_step` with the activations of one part of this replica's batch in memory at a time.

    Raises UserError when `parts` does not divide the labelled and the unlabelled part of the batch.
    """
    if parts == 1:
        return train_step(method, state, batch, rng, axis_name=axis_name)
    sizes = {f"the {name} batch of a device": len(part.sample) for name, part in batch.parts.items()}
    check_parts(sizes, parts)
    (loss, (collections, sums, _)), gradients = value_and_gradients(
        method, state, batch, rng, axis_name, parts
    )
    return update(method, state, loss, gradients, collections, sums, axis_name)
