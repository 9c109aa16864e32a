"""Every setting of the network does what its formula says: shapes and behaviour, before and after a change."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.method import Network
from mcss_jax.networks import resnet
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.networks.vision_transformer import VisionTransformer

Changes = dict[str, tuple[dict[str, Any], Any]]
"""By field: settings before, and its value after."""

VIT = {"encoder": "vit", "vit_patch": 8, "vit_size": 12, "vit_layers": 2, "vit_heads": 3}
SHAPES: Changes = {
    "encoder": ({}, "vit"),
    "depth": ({}, 50),
    "width": ({}, 12),
    "stem": ({}, "patch4"),
    "vit_patch": (VIT, 4),
    "vit_size": (VIT, 18),
    "vit_layers": (VIT, 3),
    "embedding_dim": ({}, 5),
    "hidden": ({}, 9),
    "layers": ({}, 3),
}
# What changes no shape has a test of its own below.
BEHAVIOUR = {"batchnorm_group", "vit_heads", "precision"}
SIDE = 32


def dense(fan_in: int, fan_out: int) -> dict[str, Any]:
    return {"kernel": (fan_in, fan_out), "bias": (fan_out,)}


def resnet_shapes(network: Network) -> tuple[dict[str, Any], int]:
    norm = lambda n: {"bn": {"scale": (n,), "bias": (n,)}}  # noqa: E731
    first = {"conv": (7, 7, 3), "patch4": (1, 1, 48), "patch8": (1, 1, 192)}[network.stem]
    shapes = {"conv1": {"kernel": (*first, network.width)}, "bn1": norm(network.width)}
    inside = network.width
    for stage, blocks in enumerate(resnet.STAGES[network.depth]):
        narrow = network.width * 2**stage
        out = 4 * narrow if network.depth == 50 else narrow
        for block in range(blocks):
            if network.depth == 50:
                kernels = [(1, 1, inside, narrow), (3, 3, narrow, narrow), (1, 1, narrow, out)]
            else:
                kernels = [(3, 3, inside, out), (3, 3, out, out)]
            of: dict[str, Any] = {}
            for i, kernel in enumerate(kernels, start=1):
                of |= {f"conv{i}": {"kernel": kernel}, f"bn{i}": norm(kernel[-1])}
            if inside != out or (stage and not block):
                of |= {"downsample_conv": {"kernel": (1, 1, inside, out)}, "downsample_bn": norm(out)}
            shapes[f"layer{stage + 1}_{block}"] = of
            inside = out
    return shapes, inside


def vit_shapes(network: Network) -> tuple[dict[str, Any], int]:
    size, patches = network.vit_size, (SIDE // network.vit_patch) ** 2
    norm = {"scale": (size,), "bias": (size,)}
    block = {
        "norm1": norm, "attn": {"qkv": dense(size, 3 * size), "proj": dense(size, size)},
        "norm2": norm, "fc1": dense(size, 4 * size), "fc2": dense(4 * size, size),
    }  # fmt: skip
    shapes: dict[str, Any] = {
        "patch_embed": dense(3 * network.vit_patch**2, size), "cls_token": (1, 1, size),
        "pos_embed": (1, 1 + patches, size), "norm": norm,
    }  # fmt: skip
    return shapes | {f"block{i}": block for i in range(network.vit_layers)}, size


def shapes_by_formula(network: Network) -> dict[str, Any]:
    encoder, features = (resnet_shapes if network.encoder == "resnet" else vit_shapes)(network)
    regressor = {}
    for head, fan_in, out in (("pose", network.embedding_dim, 51), ("rotation", features, 6)):
        for layer in range(network.layers):
            regressor[f"{head}_hidden{layer}"] = dense(
                fan_in if layer == 0 else network.hidden, network.hidden
            )
        regressor[f"{head}_out"] = dense(network.hidden, out)
    return {
        "encoder": encoder | {"embedding": dense(features, network.embedding_dim)},
        "regressor": regressor,
    }


@pytest.mark.parametrize("field", SHAPES)
def test_shapes_of_a_network(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resnet, "STAGES", {18: (1, 2, 1), 50: (2, 1, 1)})  # torchvision's are `test_resnet`'s
    overrides, value = SHAPES[field]
    before = dataclasses.replace(Network(width=8, embedding_dim=6, hidden=7), **overrides)
    after = dataclasses.replace(before, **{field: value})
    pictures = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    for network in (before, after):
        variables = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), pictures)
        assert jax.tree.map(lambda x: x.shape, variables["params"]) == shapes_by_formula(network)
        of_one = jax.eval_shape(PoseNetwork(network).apply, variables, pictures)
        assert [x.shape for x in of_one] == [(1, network.embedding_dim), (1, 17, 3), (1, 6)]
    assert shapes_by_formula(before) != shapes_by_formula(after)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("encoder", ["resnet", "vit"])
def test_precision_is_that_of_every_activation(encoder: Any, precision: Any) -> None:
    """And of no weight, feature or answer: those stay float32."""
    network = dataclasses.replace(Network(width=8, precision=precision), **{**VIT, "encoder": encoder})
    pictures = jax.ShapeDtypeStruct((1, SIDE, SIDE, 3), jnp.float32)
    model = PoseNetwork(network)
    variables = jax.eval_shape(model.init, jax.random.key(0), pictures)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    def watched(variables: Any, pictures: jax.Array) -> Any:
        return model.apply(variables, pictures, capture_intermediates=True)

    of_one, kept = jax.eval_shape(watched, variables, pictures)
    assert {x.dtype for x in of_one} == {jnp.dtype(jnp.float32)}
    inside = kept["intermediates"]["encoder"]
    blocks = {
        name: of for name, of in inside.items() if name.startswith(("layer", "block", "patch", "conv", "bn"))
    }
    assert len(blocks) >= 3
    assert {leaf.dtype for leaf in jax.tree.leaves(blocks)} == {jnp.dtype(precision)}


@pytest.mark.parametrize("heads", [1, 3])
def test_the_heads_of_an_attention(heads: int) -> None:
    """Those of the transformer that `test_vision_transformer` holds against tokens one by one."""
    network = Network(encoder="vit", vit_patch=8, vit_size=6, vit_layers=1, vit_heads=heads, embedding_dim=5)
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(2, 16, 16, 3)).astype(np.float32)
    shapes = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), pictures)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    embedding = jax.jit(PoseNetwork(network).apply)(variables, pictures)[0]
    of_encoder = {"params": variables["params"]["encoder"]}
    wanted, other = (
        jax.jit(VisionTransformer(8, 6, 1, count, 5).apply)(of_encoder, pictures)[1]
        for count in (heads, 4 - heads)
    )
    np.testing.assert_allclose(embedding, wanted, atol=1e-6)
    assert np.abs(embedding - other).max() > 1e-3


@pytest.mark.parametrize("group", ["global", "replica"])
def test_batch_normalisation_takes_its_group(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running statistics keep nine tenths and take one of the mean and (biased) variance of the group's pictures."""
    monkeypatch.setitem(resnet.STAGES, 18, (1,))
    network = Network(width=4, embedding_dim=3, hidden=3, layers=1, stem="patch8", batchnorm_group=group)
    rng = np.random.default_rng(5)
    pictures = rng.normal(size=(2, 3, 16, 16, 3)).astype(np.float32) + np.float32([[[[[0.2, 0, 1]]]]])
    model = PoseNetwork(network, "replica")
    shapes = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), pictures[0])
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.2, 1, leaf.shape), jnp.float32), shapes)

    def train(x: jax.Array) -> Any:
        return model.apply(variables, x, True, mutable=["batch_stats"])[1]["batch_stats"]["encoder"]["bn1"][
            "bn"
        ]

    statistics = jax.vmap(train, axis_name="replica")(jnp.asarray(pictures))
    kernel = variables["params"]["encoder"]["conv1"]["kernel"][0, 0]
    patches = pictures.astype(np.float64).reshape(2, 3, 2, 8, 2, 8, 3).transpose(0, 1, 2, 4, 3, 5, 6)
    maps = patches.reshape(2, -1, 192) @ np.asarray(kernel, np.float64)
    groups = [maps.reshape(-1, 4)] * 2 if group == "global" else list(maps)
    old = variables["batch_stats"]["encoder"]["bn1"]["bn"]
    for replica, of in enumerate(groups):
        for name, new in (("mean", of.mean(0)), ("var", of.var(0))):
            wanted = 0.9 * np.asarray(old[name]) + 0.1 * new
            np.testing.assert_allclose(statistics[name][replica], wanted, rtol=1e-3, atol=1e-3)


def test_every_field_has_a_formula() -> None:
    assert {field.name for field in dataclasses.fields(Network)} == {*SHAPES, *BEHAVIOUR}
