"""What is said of a setting where it is defined, held against what it does."""

import dataclasses
from typing import get_args, get_type_hints

import jax
import jax.numpy as jnp
import pytest

from mcss_jax.method import Network
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.setting import Role


def shapes_of_encoder(network: Network) -> object:
    """Of all its weights and statistics, without those of the embedding, which belong to the head."""
    pictures = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), pictures)
    encoder = {kind: dict(of_kind.get("encoder", of_kind)) for kind, of_kind in variables.items()}
    encoder["params"].pop("embedding")
    return jax.tree.map(lambda x: (x.shape, x.dtype), encoder)


@pytest.mark.parametrize("field", dataclasses.fields(Network), ids=lambda field: field.name)
def test_what_shapes_the_encoder_says_so(field: "dataclasses.Field[object]") -> None:
    """In one of the encoders at least: each has sizes of its own."""
    hint, bases = get_type_hints(Network)[field.name], (Network(width=8), Network(encoder="vit"))
    changes = []
    for before in bases:
        value = getattr(before, field.name)
        choices = [choice for choice in get_args(hint) if choice != value]
        others = choices or [2 * value if isinstance(value, int) else value]
        changes += [
            shapes_of_encoder(dataclasses.replace(before, **{field.name: other})) != shapes_of_encoder(before)
            for other in others
        ]
    assert any(changes) == (Role.ENCODER in field.metadata["roles"])
