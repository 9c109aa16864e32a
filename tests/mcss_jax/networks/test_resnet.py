"""The encoder has torchvision's shape, its convolutions lax's values, and its embedding length one."""

from functools import partial
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mcss_jax.networks import convolution, pixels
from mcss_jax.networks.resnet import STAGES, ResNet
from tests.refusals import refused


def count(tree: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("depth", "parameters", "features"),
    [(18, 11_176_512, 512), (34, 21_284_672, 512), (50, 23_508_032, 2048)],  # torchvision's, without fc
)
def test_parameters_and_shapes_are_torchvisions(depth: int, parameters: int, features: int) -> None:
    network = ResNet(depth=depth)
    images = jnp.zeros((1, 224, 224, 3))
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    params = dict(variables["params"])
    assert count(params.pop("embedding")) == (features + 1) * 128
    assert count(params) == parameters
    shapes = {"/".join(path): leaf.shape for path, leaf in flax.traverse_util.flatten_dict(params).items()}
    assert shapes["conv1/kernel"] == (7, 7, 3, 64)
    assert shapes["layer4_0/downsample_conv/kernel"] == (1, 1, features // 2, features)
    out_shapes = jax.eval_shape(network.apply, variables, images)
    assert [x.shape for x in out_shapes] == [(1, features), (1, 128)]
    _, maps = jax.eval_shape(partial(network.apply, capture_intermediates=True), variables, images)
    sizes = [maps["intermediates"][f"layer{i}_0"]["__call__"][0].shape[1] for i in (1, 2, 3, 4)]
    assert sizes == [56, 28, 14, 7]
    assert ("layer1_0/downsample_conv/kernel" in shapes) == (depth == 50)
    # The stride of a bottleneck is on its 3x3 convolution (torchvision's v1.5).
    first = maps["intermediates"]["layer2_0"]["conv1"]["__call__"][0].shape[1]
    assert first == (56 if depth == 50 else 28)


def convolve_by_loops(x: np.ndarray, kernel: np.ndarray, stride: int, pad: int) -> np.ndarray:
    size, height, width = kernel.shape[0], x.shape[0], x.shape[1]
    rows, columns = ((n + 2 * pad - size) // stride + 1 for n in (height, width))
    out = np.zeros((rows, columns, kernel.shape[3]))
    for p in range(rows):
        for q in range(columns):
            for u in range(size):
                for v in range(size):
                    i, j = p * stride + u - pad, q * stride + v - pad
                    if 0 <= i < height and 0 <= j < width:
                        out[p, q] += x[i, j].astype(np.float64) @ kernel[u, v]
    return out


def test_the_stem_is_torchvisions() -> None:
    """7x7 stride 2 padding 3, then the maximum over 3x3 stride 2 padding 1: an explicit loop."""
    rng = np.random.default_rng(0)
    x, kernel = (rng.normal(size=s).astype(np.float32) for s in ((11, 13, 3), (7, 7, 3, 4)))
    expected = convolve_by_loops(x, kernel, 2, 3)
    convolved = convolution.convolve(jnp.asarray(x)[None], jnp.asarray(kernel), 2)
    np.testing.assert_allclose(convolved[0], expected, rtol=1e-4, atol=1e-4)
    for shift in (0.0, 100.0):  # below zero everywhere, too: beyond its edge a map is never the largest
        pooled = convolution.max_pool_3x3_stride_2(convolved - shift)[0]
        np.testing.assert_allclose(pooled, pool_by_loops(expected - shift), rtol=1e-4, atol=1e-4)


def test_the_patch_stem_ends_in_a_relu() -> None:
    """By what the first block is given: at the start blocks are the identity, and would hide it."""
    names = (("bn1",), ("layer1_0", "conv1"))
    network = ResNet(width=4, embedding_dim=4, stem="patch8")
    pictures = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32, 32, 3)), jnp.float32)
    variables = network.init(jax.random.key(0), pictures)
    _, kept = network.apply(
        variables,
        pictures,
        False,
        mutable=["intermediates"],
        capture_intermediates=lambda module, _: module.path in names,
    )
    (stem,) = kept["intermediates"]["bn1"]["__call__"]
    (given,) = kept["intermediates"]["layer1_0"]["conv1"]["__call__"]
    kernel = variables["params"]["layer1_0"]["conv1"]["kernel"]
    assert (stem < 0).any()
    np.testing.assert_allclose(given, convolution.convolve(jnp.maximum(stem, 0), kernel), atol=1e-5)


def pool_by_loops(x: np.ndarray) -> np.ndarray:
    """Of the stem: window 3, stride 2, padding 1."""
    rows, columns = ((n + 1) // 2 for n in x.shape[:2])
    pooled = np.zeros((rows, columns, x.shape[2]))
    for p in range(rows):
        for q in range(columns):
            window = x[max(0, 2 * p - 1) : 2 * p + 2, max(0, 2 * q - 1) : 2 * q + 2]
            pooled[p, q] = window.max(axis=(0, 1))
    return pooled


def resnet_by_loops(pictures: np.ndarray, variables: Any, depth: int, stem: str, train: bool) -> np.ndarray:
    """Features of the pictures, which are normalised together in training; blocks as in STAGES."""
    params, statistics = (variables[name] for name in ("params", "batch_stats"))

    def convolved(x: list[np.ndarray], of: Any, stride: int) -> list[np.ndarray]:
        kernel = np.asarray(of["kernel"], np.float64)
        return [convolve_by_loops(picture, kernel, stride, len(kernel) // 2) for picture in x]

    def normalised(x: list[np.ndarray], of: Any, kept: Any) -> list[np.ndarray]:
        everything = np.concatenate([picture.reshape(-1, picture.shape[-1]) for picture in x])
        mean = everything.mean(0) if train else np.asarray(kept["bn"]["mean"])
        variance = everything.var(0) if train else np.asarray(kept["bn"]["var"])
        scale, bias = np.asarray(of["bn"]["scale"]), np.asarray(of["bn"]["bias"])
        return [(picture - mean) / np.sqrt(variance + 1e-5) * scale + bias for picture in x]

    def block(x: list[np.ndarray], name: str, stride: int) -> list[np.ndarray]:
        of, kept = params[name], statistics[name]
        strides = (1, stride, 1) if depth == 50 else (stride, 1)
        y = x
        for i, step in enumerate(strides, start=1):
            y = normalised(convolved(y, of[f"conv{i}"], step), of[f"bn{i}"], kept[f"bn{i}"])
            if i < len(strides):
                y = [np.maximum(picture, 0) for picture in y]
        if "downsample_conv" in of:
            past = convolved(x, of["downsample_conv"], stride)
            x = normalised(past, of["downsample_bn"], kept["downsample_bn"])
        return [np.maximum(a + b, 0) for a, b in zip(x, y, strict=True)]

    x = [picture.astype(np.float64) for picture in pictures]
    if stem == "conv":
        x = convolved(x, params["conv1"], 2)
    else:
        side = int(stem[-1])
        cells = range(pictures.shape[1] // side)
        cut = [
            [[p[side * i : side * (i + 1), side * j : side * (j + 1)].ravel() for j in cells] for i in cells]
            for p in x
        ]
        x = convolved([np.asarray(p) for p in cut], params["conv1"], 1)
    x = [np.maximum(picture, 0) for picture in normalised(x, params["bn1"], statistics["bn1"])]
    if stem == "conv":
        x = [pool_by_loops(picture) for picture in x]
    for stage, blocks in enumerate(STAGES[depth]):
        for i in range(blocks):
            x = block(x, f"layer{stage + 1}_{i}", 2 if stage and not i else 1)
    return np.asarray([picture.mean(axis=(0, 1)) for picture in x])


@pytest.mark.parametrize(("depth", "stem", "train"), [(18, "patch4", True), (50, "conv", False)])
def test_against_the_formula(depth: int, stem: str, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, depth, (2, 1))
    network, rng = ResNet(depth=depth, width=2, embedding_dim=3, stem=stem), np.random.default_rng(4)
    pictures = rng.normal(size=(3, 16, 16, 3)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), pictures)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(
            # Variances near zero, so that what is added to them counts; kernels of both signs.
            rng.uniform(1e-4, 1e-3, leaf.shape) if "var" in str(path) else rng.normal(0, 0.3, leaf.shape),
            jnp.float32,
        ),
        shapes,
    )
    apply = jax.jit(partial(network.apply, train=train, mutable=["batch_stats"]))
    (features, embedding), _ = apply(variables, jnp.asarray(pictures))
    wanted = resnet_by_loops(pictures, variables, depth, stem, train)
    np.testing.assert_allclose(features, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    dense = variables["params"]["embedding"]
    direction = wanted @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    np.testing.assert_allclose(embedding, direction, atol=1e-3)


def lax_convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    pad = kernel.shape[0] // 2
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_is_laxs(kernel_size: int, stride: int) -> None:
    """Values and gradients at every size, so through every path."""
    rng = np.random.default_rng(1)
    shapes = [(n, n) for n in range(1, 9)] + [(2, 5), (1, 2), (4, 3)]
    inputs = [jnp.asarray(rng.normal(size=(2, *shape, 2)), jnp.float32) for shape in shapes]
    kernel = jnp.asarray(rng.normal(size=(kernel_size, kernel_size, 2, 3)), jnp.float32)

    def everything(convolve: convolution.convolve, inputs: list, kernel: jax.Array) -> tuple:
        outputs = [convolve(x, kernel, stride) for x in inputs]
        return sum(jnp.sum(jnp.sin(y)) for y in outputs), outputs

    actual, expected = (
        jax.jit(jax.value_and_grad(partial(everything, f), argnums=(0, 1), has_aux=True))(inputs, kernel)
        for f in (convolution.convolve, lax_convolution)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), actual, expected)


def test_max_pooling_is_laxs() -> None:
    rng = np.random.default_rng(2)
    sizes = [(n, n) for n in range(1, 9)] + [(2, 5), (7, 4)]
    # All different, so that no tie leaves the gradient open.
    inputs = [
        jnp.asarray(rng.permutation(np.prod((2, *size, 3))).reshape(2, *size, 3), jnp.float32) - 50
        for size in sizes
    ]

    def reference(x: jax.Array) -> jax.Array:
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )

    def everything(pool: convolution.max_pool_3x3_stride_2, inputs: list) -> tuple:
        outputs = [pool(x) for x in inputs]
        return sum(jnp.sum(jnp.sin(y)) for y in outputs), outputs

    actual, expected = (
        jax.jit(jax.value_and_grad(partial(everything, f), has_aux=True))(inputs)
        for f in (convolution.max_pool_3x3_stride_2, reference)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), actual, expected)


def test_max_pooling_shares_the_gradient_of_ties_and_loses_none() -> None:
    slope = jax.grad(lambda x: jnp.sum(convolution.max_pool_3x3_stride_2(x)))(jnp.zeros((1, 6, 6, 1)))
    assert float(jnp.sum(slope)) == pytest.approx(9.0)


def test_patches_become_channels() -> None:
    x = np.arange(2 * 4 * 8 * 3, dtype=np.float32).reshape(2, 4, 8, 3)
    patches = convolution.space_to_depth(jnp.asarray(x), 4)
    assert patches.shape == (2, 1, 2, 48)
    np.testing.assert_array_equal(patches[1, 0, 1].reshape(4, 4, 3), x[1, :, 4:])
    with refused("6 x 8", "4 x 4"):
        convolution.space_to_depth(jnp.zeros((1, 6, 8, 3)), 4)


def test_normalise_is_imagenets() -> None:
    images = np.random.default_rng(3).integers(0, 256, (2, 5, 4, 3)).astype(np.uint8)
    expected = (images / 255.0 - pixels.IMAGENET_MEAN) / pixels.IMAGENET_STD
    np.testing.assert_allclose(pixels.standardise(jnp.asarray(images)), expected, atol=1e-5)
    np.testing.assert_allclose(pixels.standardise(jnp.asarray(images, jnp.float32)), expected, atol=1e-5)


def test_unit_rows_and_the_zero_row() -> None:
    x = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]])
    np.testing.assert_allclose(pixels.unit(x), [[0.6, 0.8], [0, 0], [1, 0]], rtol=1e-6)
    slope = jax.grad(lambda x: jnp.sum(pixels.unit(x)))(x)
    np.testing.assert_allclose(slope[1], 0.0)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("stem", ["conv", "patch4", "patch8"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_embeddings_have_length_one_and_parameters_stay_float32(stem: str, dtype: jnp.dtype) -> None:
    network = ResNet(width=16, embedding_dim=16, stem=stem, dtype=dtype)
    images = jnp.asarray(np.random.default_rng(4).normal(size=(2, 32, 32, 3)), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    features, embedding = jax.eval_shape(network.apply, variables, images)
    assert features.dtype == embedding.dtype == jnp.float32
    assert (features.shape, embedding.shape) == ((2, 128), (2, 16))
    if stem == "patch8":
        values = jax.jit(network.init)(jax.random.key(0), images)
        _, embedding = jax.jit(network.apply)(values, images)
        np.testing.assert_allclose(jnp.linalg.norm(embedding, axis=1), 1.0, rtol=1e-5)


def test_unknown_depth_and_stem() -> None:
    images = jnp.zeros((1, 32, 32, 3))
    with refused("depth 19", "[18, 34, 50]", kind=ValueError):
        jax.eval_shape(ResNet(depth=19).init, jax.random.key(0), images)
    with refused("'patch3'", "'patch8'", kind=ValueError):
        jax.eval_shape(ResNet(stem="patch3").init, jax.random.key(0), images)
