"""Weights as torchvision and timm name them, and their network in PyTorch's layout, for tests of the import."""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from safetensors.numpy import save_file

from launch.interchange import weights_names


def random_weights(depth: int, width: int, seed: int = 0) -> dict[str, np.ndarray]:
    """A whole file's tensors, with the classifier and the counters that torchvision's have too."""
    rng = np.random.default_rng(seed)
    out: dict[str, np.ndarray] = {}
    for name, shape in weights_names.expected(depth, width).items():
        if len(shape) == 4:
            out[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        elif name.endswith("running_var"):
            out[name] = rng.uniform(0.5, 2, shape).astype(np.float32)
            out[name.replace("running_var", "num_batches_tracked")] = np.asarray(7)
        else:
            # The residual branches' scales are smaller, or the features of 16 blocks overflow.
            middle = 0.5 if name.endswith("weight") else 0.0
            out[name] = rng.normal(middle, 0.2, shape).astype(np.float32)
    return {**out, "fc.weight": np.ones((10, 4), np.float32), "fc.bias": np.ones(10, np.float32)}


def save(tensors: Mapping[str, np.ndarray], path: Path) -> Path:
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, path)
    return path


def features(weights: Mapping[str, np.ndarray], depth: int, images: np.ndarray) -> np.ndarray:
    """The ResNet of torchvision's `resnet.py` in its own layout: images [b, 3, h, w] to pooled features."""

    def convolution(x: jax.Array, name: str, stride: int) -> jax.Array:
        w = jnp.asarray(weights[f"{name}.weight"])
        pad = [(w.shape[2] // 2,) * 2] * 2
        return lax.conv_general_dilated(
            x, w, (stride, stride), pad, dimension_numbers=("NCHW", "OIHW", "NCHW"), precision="highest"
        )

    def norm(x: jax.Array, name: str) -> jax.Array:
        mean, var, scale, shift = (
            jnp.asarray(weights[f"{name}.{last}"])[None, :, None, None]
            for last in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / jnp.sqrt(var + 1e-5) * scale + shift

    @jax.jit
    def forward(images: jax.Array) -> jax.Array:
        x = jax.nn.relu(norm(convolution(images, "conv1", 2), "bn1"))
        window = ((0, 0), (0, 0), (1, 1), (1, 1))
        x = lax.reduce_window(x, -np.inf, lax.max, (1, 1, 3, 3), (1, 1, 2, 2), window)
        blocks = dict.fromkeys(name.rsplit(".", 2)[0] for name in weights if name.endswith(".conv1.weight"))
        for block in blocks:
            stride = 2 if block.endswith(".0") and not block.startswith("layer1.") else 1
            if depth == 50:
                y = jax.nn.relu(norm(convolution(x, f"{block}.conv1", 1), f"{block}.bn1"))
                y = jax.nn.relu(norm(convolution(y, f"{block}.conv2", stride), f"{block}.bn2"))
                y = norm(convolution(y, f"{block}.conv3", 1), f"{block}.bn3")
            else:
                y = jax.nn.relu(norm(convolution(x, f"{block}.conv1", stride), f"{block}.bn1"))
                y = norm(convolution(y, f"{block}.conv2", 1), f"{block}.bn2")
            if f"{block}.downsample.0.weight" in weights:
                x = norm(convolution(x, f"{block}.downsample.0", stride), f"{block}.downsample.1")
            x = jax.nn.relu(x + y)
        return x.mean((2, 3))

    return np.asarray(forward(images))
