"""Tensors of timm's vision transformers and where each goes in `mcss_jax.networks.vision_transformer`.

timm's `vit_{tiny,small,base,large}_patch*` (any of their weights: `.augreg_in1k`, `.dino`, ...) use these names:
cls_token, pos_embed, patch_embed.proj, blocks.0.norm1, blocks.0.attn.qkv, blocks.0.mlp.fc1, norm, head. Networks with
registers, distillation tokens, layer scale, rotary positions or gated layers have others and are refused.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from launch.interchange.weights_file import Shape, some
from launch.interchange.weights_names import listing
from mcss_jax.errors import UserError
from mcss_jax.method import Network
from mcss_jax.networks.vision_transformer import MLP_RATIO

PATCHES = "patch_embed.proj.weight"  # whose shape tells the sizes
LEFT_OUT = ("head.weight", "head.bias")
# timm's heads are 64 long in all its plain transformers; a file does not tell.
HEAD = 64


class Place(NamedTuple):
    """Where a tensor goes in the encoder's `params`, and its shape [out, in] (a convolution's with height, width)."""

    path: tuple[str, ...]
    shape: Shape


def is_transformer(names: Iterable[str]) -> bool:
    """Whether a file with such tensors is meant to be a vision transformer's."""
    return any(name == PATCHES or name.startswith("blocks.") for name in names)


def network_of(shapes: Mapping[str, Shape], heads: int, source: str) -> Network:
    """The network whose tensors these are; `heads` 0 for timm's length of a head.

    Raises UserError where the file does not say its sizes, or they are none; `source` is where it was found.
    """
    embed = shapes.get(PATCHES)
    if embed is None or len(embed) != 4 or embed[1] != 3 or embed[2] != embed[3]:
        what = "is missing" if embed is None else f"is {list(embed)}"
        raise UserError(
            f"{source} is not a plain vision transformer: {PATCHES} {what}, expected [size, 3, patch, patch]"
        )
    size, _, _, patch = embed
    layers = 1 + max((int(m[1]) for name in shapes if (m := re.match(r"blocks\.(\d+)\.", name))), default=-1)
    heads = heads or max(1, size // HEAD)
    if size % heads:
        raise UserError(
            f"{source} has tokens of length {size}, which {heads} heads do not share evenly; give --vit_heads"
        )
    return Network(encoder="vit", vit_patch=patch, vit_size=size, vit_layers=layers, vit_heads=heads)


def _dense(name: str, path: tuple[str, ...], out: int, into: int) -> Iterator[tuple[str, Place]]:
    yield f"{name}.weight", Place((*path, "kernel"), (out, into))
    yield f"{name}.bias", Place((*path, "bias"), (out,))


def _norm(name: str, path: tuple[str, ...], size: int) -> Iterator[tuple[str, Place]]:
    yield f"{name}.weight", Place((*path, "scale"), (size,))
    yield f"{name}.bias", Place((*path, "bias"), (size,))


def places(network: Network, tokens: int) -> dict[str, Place]:
    """Every tensor of an encoder for `tokens` tokens, in the network's order."""

    def every() -> Iterator[tuple[str, Place]]:
        size, patch = network.vit_size, network.vit_patch
        yield "cls_token", Place(("cls_token",), (1, 1, size))
        yield "pos_embed", Place(("pos_embed",), (1, tokens, size))
        yield PATCHES, Place(("patch_embed", "kernel"), (size, 3, patch, patch))
        yield "patch_embed.proj.bias", Place(("patch_embed", "bias"), (size,))
        for layer in range(network.vit_layers):
            theirs, ours = f"blocks.{layer}", f"block{layer}"
            yield from _norm(f"{theirs}.norm1", (ours, "norm1"), size)
            yield from _dense(f"{theirs}.attn.qkv", (ours, "attn", "qkv"), 3 * size, size)
            yield from _dense(f"{theirs}.attn.proj", (ours, "attn", "proj"), size, size)
            yield from _norm(f"{theirs}.norm2", (ours, "norm2"), size)
            yield from _dense(f"{theirs}.mlp.fc1", (ours, "fc1"), MLP_RATIO * size, size)
            yield from _dense(f"{theirs}.mlp.fc2", (ours, "fc2"), size, MLP_RATIO * size)
        yield from _norm("norm", ("norm",), size)

    return dict(every())


def check(shapes: Mapping[str, Shape], network: Network, source: str) -> dict[str, Place]:
    """Where each tensor goes. Raises UserError listing what is missing, unexpected, or of another shape."""
    tokens = shapes["pos_embed"][1] if len(shapes.get("pos_embed", ())) == 3 else 1
    expected = places(network, tokens)
    problems = {
        "missing": [name for name in expected if name not in shapes],
        "unexpected": [name for name in shapes if name not in expected and name not in LEFT_OUT],
        "of another shape": [
            f"{name} {list(shapes[name])} instead of {list(place.shape)}"
            for name, place in expected.items()
            if name in shapes and shapes[name] != place.shape
        ],
    }
    told = [f"{len(names)} {what}: {some(names)}" for what, names in problems.items() if names]
    if told:
        raise listing(
            f"{source} is not timm's plain vision transformer of patch {network.vit_patch}, size {network.vit_size} "
            f"and {network.vit_layers} blocks ({'; '.join(told)})",
            [f"{what}: {name}" for what, names in problems.items() for name in names],
        )
    return expected


def to_params(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Place]) -> dict[str, Any]:
    """The encoder's `params` without its embedding; kernels [in, out], patches' pixels row by row, then colour."""

    def ours(value: np.ndarray) -> np.ndarray:
        if value.ndim == 4:
            return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
        return value.T if value.ndim == 2 else value

    flat = {place.path: ours(tensors[name]) for name, place in expected.items()}
    return dict(traverse_util.unflatten_dict(flat))
