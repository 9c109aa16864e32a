"""The suite `loss` of launch.benchmark: mining and the metric loss alone, forward and backward, at many pairs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from launch.benchmarks import roofline
from launch.benchmarks.batch import describe, random_batch, size_of
from launch.benchmarks.settings import Benchmark, numbered
from launch.benchmarks.steps import StepProgram
from launch.benchmarks.timing import Row, in_turn
from launch.runs import settings
from mcss_jax.metric_losses.registry import metric_loss
from mcss_jax.networks import pixels
from mcss_jax.pairs import Instants, Pairs

GROUPS, SEQUENCES = 16, 8


def instants_of(pairs: int) -> Instants:
    """Instants half a second apart, in up to `GROUPS` groups of `SEQUENCES` sequences each."""
    index = np.arange(pairs, dtype=np.int32)
    sequence = index * GROUPS * SEQUENCES // pairs
    return Instants(
        jnp.asarray(sequence // SEQUENCES),
        jnp.asarray(sequence),
        jnp.asarray((index - np.searchsorted(sequence, sequence)) * np.float32(0.5)),
        jnp.ones(pairs, bool),
    )


def loss_program(config: settings.Train, pairs: int) -> tuple[Any, tuple[Any, ...]]:
    """`value_and_grad` of the metric loss, jitted, and its arguments: raw embeddings [pairs, 2, d], instants."""
    objective = settings.method_of(config).objective

    def loss(raw: jax.Array, instants: Instants) -> jax.Array:
        embedding = pixels.unit(raw)
        pairs = Pairs(
            embedding,
            instants,
            embedding,
            instants,
            objective.min_negative_gap,
            objective.across_groups,
        )
        term = metric_loss(objective.metric_loss)(pairs, objective, jnp.asarray(objective.temperature_start))
        return term.total / term.anchors

    raw = jax.random.normal(jax.random.key(0), (pairs, 2, config.network.embedding_dim))
    return jax.jit(jax.value_and_grad(loss)), (raw, instants_of(pairs))


def loss_rows(config: Benchmark) -> list[Row]:
    """The loss on one device, as a share of a step of as many images: of the flags' batch, measured and scaled.

    The share is of device time, so it holds for any number of devices that divide the loss's rows as the step does.
    A pair has two images; the share of a step of one image a pair, the harder measure, stands beside it.
    """
    config = numbered(config)
    pairs, size = config.loss_pairs, size_of(config)
    program, arguments = loss_program(config, pairs)
    cost = roofline.cost(program, *arguments)
    batch = random_batch(config, size)
    step = StepProgram(config, batch)
    timings = in_turn({"loss": lambda: program(*arguments), "step": step}, config.repeats)
    seconds_per_image = timings["step"].median_s * len(step.devices) / batch.pictures
    figures = {
        "share_of_a_step_of_its_images": timings["loss"].median_s / (2 * pairs * seconds_per_image),
        "share_of_a_step_of_one_image_a_pair": timings["loss"].median_s / (pairs * seconds_per_image),
        "compiled_flop": cost.flop,
        "compiled_bytes": cost.bytes,
        "program_memory_MB": cost.memory_bytes / 1e6,
        "compile_s": cost.compile_s,
    }
    beside = f"step {describe(config, size)}, {batch.pictures} images, {config.network.precision}"
    return [
        Row(
            f"loss, {pairs} pairs of {config.network.embedding_dim}", timings["loss"], pairs, "pairs", figures
        ),
        Row(f"{beside} (beside the loss)", timings["step"], batch.pictures, "images"),
    ]
