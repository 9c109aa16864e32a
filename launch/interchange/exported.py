"""A trained network as one file that runs without this project, and how each kind of file is run."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jax import export as jax_export

from launch.interchange import onnx_graph
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Prediction, embed_step

Format = Literal["stablehlo", "onnx"]
Runner = Callable[[np.ndarray], Prediction]

PLATFORMS = ("cpu", "cuda", "tpu")


def in_float32(state: TrainState) -> TrainState:
    """The same weights on the host, in a network whose activations are float32: exports hold no bfloat16."""
    network = dataclasses.replace(state.network, precision="float32")
    return dataclasses.replace(jax.device_get(state), network=network)


def jax_runner(state: TrainState) -> Runner:
    """The forward pass as the project runs it, on the CPU."""
    forward = jax.jit(embed_step)
    cpu = jax.devices("cpu")[0]
    placed = jax.device_put(state, cpu)
    return lambda images: jax.device_get(forward(placed, jax.device_put(images, cpu)))


def to_stablehlo(state: TrainState, image_size: int) -> bytes:
    """The serialised `jax.export.Exported`: weights inside, any batch size, for CPU, CUDA and TPU."""
    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, image_size, image_size, 3), jnp.uint8)
    weights = jax.device_put(state, jax.devices("cpu")[0])
    forward = jax.jit(lambda x: tuple(embed_step(weights, x)))
    with _without_folders():
        return bytes(jax_export.export(forward, platforms=PLATFORMS)(images).serialize())


@contextlib.contextmanager
def _without_folders() -> Iterator[None]:
    """Within it JAX notes source files without their folders: a file that is given away names nobody's machine."""
    name = "jax_hlo_source_file_canonicalization_regex"
    before = getattr(jax.config, name)
    jax.config.update(name, ".*/")
    try:
        yield
    finally:
        jax.config.update(name, before)


def to_bytes(state: TrainState, image_size: int, form: Format) -> bytes:
    """The file's content; `state` as `in_float32` gives it, `image_size` in pixels."""
    if form == "stablehlo":
        return to_stablehlo(state, image_size)
    return onnx_graph.build(state, image_size).SerializeToString(deterministic=True)


def load(file: Path, form: Format) -> Runner:
    """Runs an exported file on the CPU."""
    if form == "stablehlo":
        call = jax.jit(jax_export.deserialize(bytearray(file.read_bytes())).call)
        cpu = jax.devices("cpu")[0]
        return lambda images: Prediction(*jax.device_get(call(jax.device_put(images, cpu))))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = list(Prediction._fields)
    return lambda images: Prediction(*session.run(names, {"images": images}))
