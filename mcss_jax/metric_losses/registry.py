"""A metric loss by its name. Its file here has that name; `method.MetricLoss` lists them."""

import importlib
from collections.abc import Callable

from jaxtyping import Array, Float

from mcss_jax.method import MetricLoss, Objective
from mcss_jax.pairs import Pairs, Term

Loss = Callable[[Pairs, Objective, Float[Array, ""]], Term]
"""`loss(pairs, objective, temperature)`; `temperature` is that of the hardest negative at this step."""


def metric_loss(name: MetricLoss) -> Loss:
    """The function `loss` of `metric_losses/NAME.py`, which is found by its name: to add one, no list but one grows."""
    loss: Loss = importlib.import_module(f"mcss_jax.metric_losses.{name}").loss
    return loss
