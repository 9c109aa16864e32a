"""Every setting of the network: parameters counted layer by layer, and what it begins with."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from mcss_jax.method import Network
from mcss_jax.networks.encoder import ENCODERS
from mcss_jax.networks.pose_network import PoseNetwork
from tests.mcss_jax.steps import leaves

NETWORK = Network(width=8, embedding_dim=10, hidden=12, layers=2)
VIT = Network(encoder="vit", vit_patch=8, vit_size=12, vit_layers=2, vit_heads=3, embedding_dim=10, hidden=12)
CHANGED_NETWORK: dict[str, tuple[Network, Any]] = {
    "encoder": (NETWORK, "vit"),
    "depth": (NETWORK, 50),
    "width": (NETWORK, 16),
    "stem": (NETWORK, "patch8"),
    "embedding_dim": (NETWORK, 7),
    "hidden": (NETWORK, 9),
    "layers": (NETWORK, 3),
    "vit_patch": (VIT, 16),
    "vit_size": (VIT, 24),
    "vit_layers": (VIT, 3),
}
# Tested where they act: activations, statistics, and heads, which change no shape.
ELSEWHERE = {"precision", "batchnorm_group", "vit_heads"}


def parameters_by_hand(of: Network) -> int:
    """Kernels and biases, layer by layer; a normalisation has a scale and a shift."""
    if of.encoder == "vit":
        d, tokens = of.vit_size, 1 + (32 // of.vit_patch) ** 2
        block = 2 * 2 * d + d * 3 * d + 3 * d + d * d + d + d * 4 * d + 4 * d + 4 * d * d + d
        features = d
        encoder = of.vit_patch**2 * 3 * d + d + d + tokens * d + of.vit_layers * block + 2 * d
    else:
        patch = 7 if of.stem == "conv" else int(of.stem[-1])
        w = of.width
        encoder, into = patch**2 * 3 * w + 2 * w, w
        for stage, blocks in enumerate({18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[of.depth]):
            c = w * 2**stage
            out = 4 * c if of.depth == 50 else c
            for block in range(blocks):
                sizes = (
                    ((into, c, 1), (c, c, 9), (c, out, 1)) if of.depth == 50 else ((into, c, 9), (c, c, 9))
                )
                encoder += sum(a * b * k + 2 * b for a, b, k in sizes)
                if into != out or (stage > 0 and block == 0):
                    encoder += into * out + 2 * out
                into = out
        features = into
    d, h = of.embedding_dim, of.hidden
    head = sum(
        start * h + h + (of.layers - 1) * (h * h + h) + h * out + out
        for start, out in ((d, 51), (features, 6))
    )
    return encoder + features * d + d + head


@pytest.mark.parametrize("field", ["none", "vit", *CHANGED_NETWORK])
def test_the_network(field: str) -> None:
    base, value = CHANGED_NETWORK.get(field, (VIT if field == "vit" else NETWORK, None))
    network = base if value is None else dataclasses.replace(base, **{field: value})
    shapes = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"])) == parameters_by_hand(
        network
    )
    if value is not None:
        assert parameters_by_hand(network) != parameters_by_hand(base), "the change shows"


@pytest.mark.parametrize("name", ENCODERS)
def test_settings_reach_the_encoder(name: Any) -> None:
    """Those that change no shape: by the module's own attributes."""
    network = dataclasses.replace(
        VIT, encoder=name, precision="bfloat16", vit_heads=4, batchnorm_group="global"
    )
    encoder: Any = ENCODERS[name](network, "axis")
    assert encoder.dtype == jnp.bfloat16
    if name == "vit":
        assert encoder.heads == 4
    else:
        assert encoder.axis_name == "axis"
        apart = dataclasses.replace(network, batchnorm_group="replica")
        assert ENCODERS[name](apart, "axis").axis_name is None  # type: ignore[attr-defined]


def test_initial_scales() -> None:
    """Convolutions by He's rule over their outputs, answers near the mean pose, residual branches at zero."""
    network = dataclasses.replace(NETWORK, width=32)
    params = leaves(PoseNetwork(network).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"])
    for name, leaf in params.items():
        if "_out" in name and "kernel" in name:
            assert leaf.std() == pytest.approx(0.01, rel=0.2), name
        elif "conv" in name and "kernel" in name:
            assert leaf.std() == pytest.approx(
                math.sqrt(2 / (leaf.shape[0] * leaf.shape[1] * leaf.shape[3])), rel=0.1
            )
        elif "['bn2']" in name and "scale" in name:
            assert not leaf.any(), "a block begins as the identity"
        elif "scale" in name:
            assert (leaf == 1).all(), name
        elif "bias" in name:
            assert not leaf.any(), name


def test_no_setting_is_without_its_formula() -> None:
    assert {field.name for field in dataclasses.fields(Network)} == {*CHANGED_NETWORK, *ELSEWHERE}
