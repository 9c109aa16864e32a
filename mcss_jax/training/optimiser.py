"""The optimiser as optax transformations: clipping, AdamW, and the schedule of its learning rate."""

import jax
import optax

from mcss_jax.method import Optimiser


def schedule(optimiser: Optimiser) -> optax.Schedule:
    """Learning rate by step."""
    # A run shorter than its warm-up would never reach the peak, let alone come down from it.
    warmup = min(optimiser.warmup_steps, optimiser.steps // 2)
    return optax.warmup_cosine_decay_schedule(
        0.0, optimiser.learning_rate, warmup, max(optimiser.steps, warmup + 1)
    )


def transformation(optimiser: Optimiser) -> optax.GradientTransformation:
    """The optax chain; weight decay touches kernels only."""

    def kernels(params: optax.Params) -> optax.Params:
        # By name, not by their axes: a transformer's learned positions have as many, and are no weights.
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)

    return optax.chain(
        optax.clip_by_global_norm(optimiser.clip_norm),
        optax.adamw(schedule(optimiser), weight_decay=optimiser.weight_decay, mask=kernels),
    )
