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
    hint = get_type_hints(Network)[field.name]
    before = Network(width=8)
    value = getattr(before, field.name)
    others = [choice for choice in get_args(hint) if choice != value] or [value + 8]
    for other in others:
        changed = shapes_of_encoder(dataclasses.replace(before, **{field.name: other}))
        assert (changed != shapes_of_encoder(before)) == (Role.ENCODER in field.metadata["roles"]), other
