"""The one file that says pmap: one replica's functions over all devices.

State is replicated, never stacked (`in_axes=None`), and donated. A batch is split along its leading axis in
order, so the global batch, and with the keys of `train_step` the augmentation, does not depend on the number
of devices.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from mcss_jax.train_step import Batch, Prediction, TrainState, embed_step, train_step

AXIS = "replica"

PmappedStep = Callable[[TrainState, Batch, Key[Array, ""]], tuple[TrainState, dict[str, Array]]]


def replicate(tree: Any) -> Any:
    """Host copies of every leaf: what a donated pmapped call takes on any number of devices and processes.

    A state that lives on a single device fails with several processes ("Array has been deleted").
    """
    return jax.tree.map(
        lambda x: x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x), tree
    )


def split(tree: Any, devices: int | None = None) -> Any:
    """Every leaf [n, ...] as [devices, n / devices, ...].

    Raises ValueError when n is not a multiple of the number of devices.
    """
    devices = jax.local_device_count() if devices is None else devices

    def reshape(x: Any) -> Any:
        if x.shape[0] % devices:
            raise ValueError(
                f"a batch of {x.shape[0]} cannot be split over {devices} devices; choose a multiple of "
                f"{devices}"
            )
        return x.reshape(devices, x.shape[0] // devices, *x.shape[1:])

    return jax.tree.map(reshape, tree)


def pmap_step(devices: list[jax.Device] | None = None) -> PmappedStep:
    """`step(state, batch, rng)` on a global batch, by `jax.pmap` over `devices` (default: all local ones).

    Give the first state through `replicate`; the states it returns are replicated already.
    """
    count = jax.local_device_count() if devices is None else len(devices)
    mapped = jax.pmap(
        lambda state, batch, rng: train_step(state, batch, rng, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
    )
    return lambda state, batch, rng: mapped(state, split(batch, count), rng)


def pmap_embed(devices: list[jax.Device] | None = None) -> Callable[[TrainState, np.ndarray], Prediction]:
    """`embed(state, images)` on any number of pictures (padded to fit the devices); results on the host."""
    count = jax.local_device_count() if devices is None else len(devices)
    mapped = jax.pmap(embed_step, in_axes=(None, 0), devices=devices)

    def embed(state: TrainState, images: np.ndarray) -> Prediction:
        size = images.shape[0]
        padded = np.pad(images, [(0, -size % count)] + [(0, 0)] * (images.ndim - 1))
        out = mapped(state, split(padded, count))
        return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:size], out)

    return embed
