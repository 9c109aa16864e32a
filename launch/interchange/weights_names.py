"""Tensors of a torchvision ResNet-18/34/50 and where each goes in `mcss_jax.networks.resnet.ResNet`.

timm's `resnet18`, `resnet34` and `resnet50` (any of their weights: `.tv_in1k`, `.a1_in1k`, ...) use the same names and
shapes: conv1, bn1, layer1.0.conv1, layer2.0.downsample.0, fc. Its variants with another stem, wider or grouped
convolutions, attention or another normalisation (resnet50d, wide_resnet50_2, resnext50, seresnet50, resnet50_gn) have
others and are refused. Some compute something else with the same tensors (`UNTOLD`), which no file tells: of the 81
ResNets of timm 1.0.31 those are three.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args

import numpy as np
from flax import traverse_util

from launch.interchange.weights_file import MOST_IN_A_SENTENCE, Shape, some
from mcss_jax.errors import UserError
from mcss_jax.method import Depth
from mcss_jax.networks.resnet import STAGES

# The classifier is left behind, and so is what PyTorch counts for a momentum that nobody uses.
LEFT_OUT = ("fc.weight", "fc.bias")
COUNTER = ".num_batches_tracked"
# What networks with the tensors of a plain ResNet may have and compute something else.
UNTOLD = (
    "anti-aliased strides (timm's resnetaa50, resnetblur18, resnetblur50) or a bottleneck's stride in its first "
    "convolution (Caffe's)"
)


class Place(NamedTuple):
    """Where a tensor goes: `params` or `batch_stats`, and the path in the encoder's tree."""

    collection: str
    path: tuple[str, ...]


def _norm(source: str, path: tuple[str, ...], channels: int) -> Iterator[tuple[str, Place, Shape]]:
    for last, collection, ours in (
        ("weight", "params", "scale"),
        ("bias", "params", "bias"),
        ("running_mean", "batch_stats", "mean"),
        ("running_var", "batch_stats", "var"),
    ):
        yield f"{source}.{last}", Place(collection, (*path, "bn", ours)), (channels,)


def _convolution(
    source: str, path: tuple[str, ...], out: int, into: int, size: int
) -> Iterator[tuple[str, Place, Shape]]:
    yield f"{source}.weight", Place("params", (*path, "kernel")), (out, into, size, size)


def _every(depth: int, width: int) -> Iterator[tuple[str, Place, Shape]]:
    """(name, place, shape [out, in, height, width]) of every tensor, in the network's order."""
    yield from _convolution("conv1", ("conv1",), width, 3, 7)
    yield from _norm("bn1", ("bn1",), width)
    before = width
    for stage, blocks in enumerate(STAGES[depth]):
        channels = width * 2**stage
        out = channels * (4 if depth == 50 else 1)
        sizes = (1, 3, 1) if depth == 50 else (3, 3)
        for block in range(blocks):
            source, ours = f"layer{stage + 1}.{block}", f"layer{stage + 1}_{block}"
            into = before
            for i, size in enumerate(sizes, start=1):
                wide = out if i == len(sizes) else channels
                yield from _convolution(f"{source}.conv{i}", (ours, f"conv{i}"), wide, into, size)
                yield from _norm(f"{source}.bn{i}", (ours, f"bn{i}"), wide)
                into = wide
            if before != out or (stage > 0 and block == 0):
                yield from _convolution(f"{source}.downsample.0", (ours, "downsample_conv"), out, before, 1)
                yield from _norm(f"{source}.downsample.1", (ours, "downsample_bn"), out)
            before = out


def expected(depth: int, width: int = 64) -> dict[str, Shape]:
    """Names and shapes (PyTorch's order: out, in, height, width) of the tensors that an encoder needs."""
    return {name: shape for name, _, shape in _every(depth, width)}


def _differences(names: Iterable[str], depth: int, width: int) -> tuple[list[str], list[str]]:
    """Names that are missing, and names that nothing is known of."""
    wanted, present = expected(depth, width), list(names)
    known = {*wanted, *LEFT_OUT}
    unexpected = [name for name in present if name not in known and not name.endswith(COUNTER)]
    return sorted(wanted.keys() - set(present), key=list(wanted).index), unexpected


def depth_of(names: Iterable[str]) -> Depth:
    """The depth whose names differ least from these; the smallest of several."""
    names = list(names)
    depths: tuple[Depth, ...] = get_args(Depth)
    return min(depths, key=lambda depth: sum(map(len, _differences(names, depth, 1))))


def check(shapes: Mapping[str, Shape], depth: int, width: int, source: str) -> None:
    """Compares a file's tensors, one by one, with those of a ResNet.

    Raises UserError listing what is missing and unexpected, or the tensors of another shape: a few in its sentence,
    all of them, one a line, in its note (PEP 678) where they are more.
    """
    wanted = expected(depth, width)
    missing, unexpected = _differences(shapes, depth, width)
    if missing or unexpected:
        parts = [
            f"{len(names)} {what}: {some(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected))
            if names
        ]
        raise listing(
            f"{source} is not a torchvision or timm ResNet-{depth} ({'; '.join(parts)}); expected the {len(wanted)} "
            "tensors conv1, bn1, layer1 to layer4 of resnet18, resnet34 or resnet50",
            [f"missing: {name} {list(wanted[name])}" for name in missing]
            + [f"unexpected: {name} {list(shapes[name])}" for name in unexpected],
        )
    wrong = [
        f"{name} is {list(shapes[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if shapes[name] != shape
    ]
    if wrong:
        raise listing(
            f"{source} has the names of a ResNet-{depth} but not its shapes: {some(wrong)}; expected torchvision's "
            f"or timm's resnet{depth}, whose first stage has {width} channels",
            wrong,
        )


def listing(sentence: str, lines: list[str]) -> UserError:
    """The refusal; its note (PEP 678) holds all lines, where they are more than a sentence takes."""
    error = UserError(sentence)
    if len(lines) > MOST_IN_A_SENTENCE:
        error.add_note("\n".join(lines))
    return error


def to_variables(
    tensors: Mapping[str, np.ndarray], depth: int, width: int, source: str
) -> dict[str, dict[str, Any]]:
    """The encoder's `params` and `batch_stats` without its embedding; kernels [h, w, in, out].

    Raises UserError for a running variance below zero; `source` is where the tensors were found.
    """
    negative = [n for n, t in tensors.items() if n.endswith("running_var") and (t < 0).any()]
    if negative:
        raise UserError(
            f"{source}: the running variance is negative in {some(negative)}; such weights are damaged, get them anew"
        )
    flat: dict[str, dict[tuple[str, ...], np.ndarray]] = {"params": {}, "batch_stats": {}}
    for name, place, _ in _every(depth, width):
        value = tensors[name]
        flat[place.collection][place.path] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return {collection: traverse_util.unflatten_dict(leaves) for collection, leaves in flat.items()}
