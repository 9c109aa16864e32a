"""The trained network as an ONNX graph: uint8 crops in, embedding, pose in millimetres and rotation out.

The same operations in the same order as `train_step.embed_step`, in float32, with the running statistics of batch
normalisation folded into the convolutions. Activations lie channels first, ONNX's only layout; the patch stem
is a convolution whose stride is its size. Opset 18: readable by every ONNX Runtime since 1.14 (2023).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from mcss_jax import skeleton
from mcss_jax.errors import UserError
from mcss_jax.method import Network
from mcss_jax.networks import pixels, resnet
from mcss_jax.training.state import TrainState

OPSET, IR_VERSION = 18, 8
EPSILON = 1e-5  # of `resnet._Norm`
Tree = Mapping[str, Any]


class Graph:
    """Nodes and constants in the order in which they are added; names are numbered."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A constant; returns its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        output = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output


def _convolution(graph: Graph, x: str, kernel: Any, norm: Tree, statistics: Tree, stride: int) -> str:
    """Convolution and batch normalisation in one; `kernel` [k, k, in, out], padded by k // 2 as torchvision does."""
    scale = np.asarray(norm["scale"], np.float64) / np.sqrt(
        np.asarray(statistics["var"], np.float64) + EPSILON
    )
    weight = np.asarray(kernel, np.float64) * scale
    bias = np.asarray(norm["bias"], np.float64) - np.asarray(statistics["mean"], np.float64) * scale
    size = weight.shape[0]
    # Patches of a stem do not overlap and are not padded.
    pad = 0 if size == stride else size // 2
    return graph.add(
        "Conv",
        x,
        graph.constant(weight.transpose(3, 2, 0, 1)),
        graph.constant(bias),
        kernel_shape=[size, size],
        strides=[stride, stride],
        pads=[pad] * 4,
    )


def _block(graph: Graph, x: str, params: Tree, statistics: Tree, stride: int) -> str:
    """A residual block; its 3x3 convolution that may have a stride is the first of two, the second of three."""
    count = sum(name.startswith("conv") for name in params)
    y = x
    for i in range(1, count + 1):
        step = stride if i == count - 1 else 1
        y = _convolution(
            graph, y, params[f"conv{i}"]["kernel"], params[f"bn{i}"]["bn"], statistics[f"bn{i}"]["bn"], step
        )
        y = graph.add("Relu", y) if i < count else y
    if "downsample_conv" in params:
        x = _convolution(
            graph,
            x,
            params["downsample_conv"]["kernel"],
            params["downsample_bn"]["bn"],
            statistics["downsample_bn"]["bn"],
            stride,
        )
    return graph.add("Relu", graph.add("Add", x, y))


def _dense(graph: Graph, x: str, params: Tree) -> str:
    return graph.add("Gemm", x, graph.constant(params["kernel"]), graph.constant(params["bias"]))


def _features(graph: Graph, images: str, params: Tree, statistics: Tree, network: Network) -> str:
    """uint8 [b, s, s, 3] to the encoder's features [b, f]."""
    deviation = np.asarray(pixels.IMAGENET_STD, np.float32)
    x = graph.add("Cast", images, to=onnx.TensorProto.FLOAT)
    x = graph.add("Mul", x, graph.constant(1 / (255 * deviation)))
    x = graph.add("Sub", x, graph.constant(np.asarray(pixels.IMAGENET_MEAN, np.float32) / deviation))
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    kernel, stride = np.asarray(params["conv1"]["kernel"]), 2
    if network.stem != "conv":
        stride = int(network.stem.removeprefix("patch"))
        kernel = kernel.reshape(stride, stride, 3, -1)
    x = graph.add(
        "Relu", _convolution(graph, x, kernel, params["bn1"]["bn"], statistics["bn1"]["bn"], stride)
    )
    if network.stem == "conv":
        x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage, blocks in enumerate(resnet.STAGES[network.depth]):
        for block in range(blocks):
            name = f"layer{stage + 1}_{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            x = _block(graph, x, params[name], statistics[name], stride)
    return graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)


def _dot(graph: Graph, a: str, b: str) -> str:
    """Row by row, [b, 1]."""
    return graph.add("ReduceSum", graph.add("Mul", a, b), graph.constant([1], np.int64), keepdims=1)


def _direction(graph: Graph, v: str, fallback: str, least: float) -> str:
    """Rows of length one; `fallback` where the squared length is not above `least`."""
    square = _dot(graph, v, v)
    usable = graph.add("Greater", square, graph.constant(least))
    length = graph.add("Sqrt", graph.add("Where", usable, square, graph.constant(1.0)))
    return graph.add("Where", usable, graph.add("Div", v, length), fallback)


def _without(graph: Graph, v: str, direction: str) -> str:
    """Rows of `v` without their part along the unit rows of `direction`."""
    return graph.add("Sub", v, graph.add("Mul", _dot(graph, v, direction), direction))


def _cross(graph: Graph, a: str, b: str) -> str:
    ahead, behind = graph.constant([1, 2, 0], np.int64), graph.constant([2, 0, 1], np.int64)

    def product(first: str, second: str) -> str:
        return graph.add("Mul", graph.add("Gather", a, first, axis=1), graph.add("Gather", b, second, axis=1))

    return graph.add("Sub", product(ahead, behind), product(behind, ahead))


def _rotation(graph: Graph, columns: str) -> str:
    """`geometry.rotation_from_6d`, its degenerate cases included: [b, 6] to [b, 3, 3]."""
    starts, axes = graph.constant([0], np.int64), graph.constant([1], np.int64)
    middle, end = graph.constant([3], np.int64), graph.constant([6], np.int64)
    first = graph.add("Slice", columns, starts, middle, axes)
    second = graph.add("Slice", columns, middle, end, axes)
    b1 = _direction(graph, first, graph.constant([1.0, 0.0, 0.0]), 1e-12)
    least = graph.add("ArgMin", graph.add("Abs", b1), axis=1, keepdims=0)
    axis = graph.add("OneHot", least, graph.constant(3, np.int64), graph.constant([0.0, 1.0]))
    spare = _without(graph, axis, b1)
    spare = graph.add("Div", spare, graph.add("Sqrt", _dot(graph, spare, spare)))
    b2 = _direction(graph, second, spare, 1e-12)
    for _ in range(2):  # twice: for nearly parallel columns the first difference is mostly rounding
        b2 = _direction(graph, _without(graph, b2, b1), spare, 1e-12)
    as_columns = [
        graph.add("Unsqueeze", v, graph.constant([2], np.int64)) for v in (b1, b2, _cross(graph, b1, b2))
    ]
    return graph.add("Concat", *as_columns, name="rotation", axis=2)


def _head(graph: Graph, x: str, params: Tree, name: str, layers: int) -> str:
    for layer in range(layers):
        x = graph.add("Relu", _dense(graph, x, params[f"{name}_hidden{layer}"]))
    return _dense(graph, x, params[f"{name}_out"])


def build(state: TrainState, image_size: int) -> onnx.ModelProto:
    """The graph of a trained state: `images` uint8 [batch, s, s, 3] to `embedding`, `canonical` (mm), `rotation`.

    The graph has passed onnx's own checker; `state` as `exported.in_float32` gives it.
    Raises UserError for an encoder that is no ResNet.
    """
    if state.network.encoder != "resnet":
        raise UserError(
            f"--format=onnx is for --encoder=resnet; this run has --encoder={state.network.encoder}: use "
            "--format=stablehlo"
        )
    network, graph = state.network, Graph()
    params, statistics = state.params["encoder"], state.variables["batch_stats"]["encoder"]
    features = _features(graph, "images", params, statistics, network)
    raw = _dense(graph, features, params["embedding"])
    # `pixels.unit`: the zero row stays zero.
    embedding = graph.add("Identity", _direction(graph, raw, graph.constant(0.0), 0.0), name="embedding")
    regressor = state.params["regressor"]
    scaled = graph.add("Mul", embedding, graph.constant(np.sqrt(np.float32(network.embedding_dim))))
    pose = _head(graph, scaled, regressor, "pose", network.layers)
    pose = graph.add("Reshape", pose, graph.constant([-1, skeleton.NUM_JOINTS, 3], np.int64))
    pose = graph.add("Mul", pose, graph.constant(state.statistics.scale))
    graph.add("Add", pose, graph.constant(state.statistics.mean), name="canonical")
    _rotation(graph, _head(graph, features, regressor, "rotation", network.layers))
    inputs: dict[str, Sequence[str | int | None]] = {"images": ["batch", image_size, image_size, 3]}
    outputs: dict[str, Sequence[str | int | None]] = {
        "embedding": ["batch", network.embedding_dim],
        "canonical": ["batch", skeleton.NUM_JOINTS, 3],
        "rotation": ["batch", 3, 3],
    }
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mcss",
            [helper.make_tensor_value_info(n, onnx.TensorProto.UINT8, s) for n, s in inputs.items()],
            [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in outputs.items()],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="mcss",
    )
    onnx.checker.check_model(model, full_check=True)
    return model
