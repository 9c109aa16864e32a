"""The encoder that a network's settings name.

An encoder is a flax module: `(features, embedding) = encoder(images, train)`, float32 [b, f] and unit-norm [b, d], of
pictures as `pixels.standardise` gives them. It may keep whatever collections of variables it wants; what it changes in
training is put back into the state under their names, averaged over replicas.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from mcss_jax.method import EncoderName, Network
from mcss_jax.networks.resnet import ResNet
from mcss_jax.networks.vision_transformer import VisionTransformer


def _resnet(network: Network, axis_name: str | None) -> nn.Module:
    return ResNet(
        depth=network.depth,
        width=network.width,
        embedding_dim=network.embedding_dim,
        stem=network.stem,
        dtype=jnp.dtype(network.precision),
        axis_name=axis_name if network.batchnorm_group == "global" else None,
        name="encoder",
    )


def _vision_transformer(network: Network, axis_name: str | None) -> nn.Module:
    return VisionTransformer(
        patch=network.vit_patch,
        size=network.vit_size,
        layers=network.vit_layers,
        heads=network.vit_heads,
        embedding_dim=network.embedding_dim,
        dtype=jnp.dtype(network.precision),
        name="encoder",
    )


# `axis_name`: the mapped axis of replicas, or None.
ENCODERS: dict[EncoderName, Callable[[Network, str | None], nn.Module]] = {
    "resnet": _resnet,
    "vit": _vision_transformer,
}
