"""Multiplications of the network, counted from the shapes that go through its layers.

The compiler's own count is no substitute: it leaves out what a library call does, and multiplications with padding.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from mcss_jax.method import EncoderName, Network
from mcss_jax.networks.convolution import Conv
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.networks.vision_transformer import Attention

# The first layer of each encoder: nobody asks for the gradient of what it is given.
STEMS: dict[EncoderName, str] = {"resnet": "conv1", "vit": "patch_embed"}


class Multiplications(NamedTuple):
    """Multiply-accumulates of one picture's forward pass: in all, and of the first layer alone."""

    forward: int
    stem: int

    @property
    def training_flop(self) -> int:
        """FLOP of forward and backward pass: three products a layer, but no gradient of the picture itself.

        Source: docs/method.md#cost-of-one-step (`2 (3 MAC - stem)`). Normalisation, augmentation, losses and the
        optimiser are not model FLOP.
        """
        return 2 * (3 * self.forward - self.stem)


def multiplications(network: Network, size: int) -> Multiplications:
    """Of a picture of size x size pixels. Raises UserError for a size that the network does not take."""
    products: dict[tuple[str, ...], int] = {}

    def count(call: Callable[..., Any], arguments: Any, keywords: Any, context: Any) -> Any:
        out = call(*arguments, **keywords)
        if context.method_name == "__call__":
            inputs, layer = arguments[0].shape[-1], context.module
            if isinstance(layer, Conv):
                products[layer.path] = math.prod(out.shape[1:]) * inputs * layer.size**2
            elif isinstance(layer, nn.Dense):
                products[layer.path] = math.prod(out.shape[1:]) * inputs
            elif isinstance(layer, Attention):  # queries by keys, weights by values
                products[layer.path] = 2 * out.shape[1] ** 2 * inputs
        return out

    with nn.intercept_methods(count):
        jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return Multiplications(sum(products.values()), products["encoder", STEMS[network.encoder]])
