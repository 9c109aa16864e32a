"""The one file that uses pmap and shard_map: one replica's functions over all devices, on any number of hosts.

State is replicated, never stacked, and donated. A batch is split along its leading axis in order of process and
device, so the global batch, and with the keys of `train_step` the augmentation, does not depend on the number of
devices. With several processes each gives its own rows of the batch, and reads its own copy of what is replicated.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Key

from mcss_jax.errors import UserError
from mcss_jax.method import Method
from mcss_jax.padding import padded
from mcss_jax.training.accumulation import accumulated_step
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Prediction, Report, embed_step

AXIS = "replica"

Kind = Literal["pmap", "shard_map", "jit"]
"""How the body of a step is spread over devices; `jit` is for one."""


@dataclasses.dataclass(frozen=True)
class Step:
    """`step(state, batch, rng)`: a compiled program, and where it wants its state and batch to lie.

    State and batch may be on the host, as NumPy, or on devices. What `place` has placed is not moved again: a
    benchmark calls `mapped` on it, or looks at what it is compiled to.
    """

    mapped: Any
    place: Callable[[Any, Any], tuple[Any, Any]]

    def __call__(self, state: Any, batch: Any, rng: Key[Array, ""]) -> tuple[TrainState, Report]:
        return self.mapped(*self.place(state, batch), rng)


def choose_devices(count: int = 0) -> list[jax.Device]:
    """The first `count` devices of every process (0: all), process after process: the order of the global batch.

    Raises UserError as `devices_each`, on all processes alike.
    """
    by_process: dict[int, list[jax.Device]] = {}
    for device in sorted(jax.devices(), key=lambda d: (d.process_index, d.id)):
        by_process.setdefault(device.process_index, []).append(device)
    each = devices_each({process: len(devices) for process, devices in by_process.items()}, count)
    return [device for devices in by_process.values() for device in devices[:each]]


def devices_each(present: Mapping[int, int], count: int = 0) -> int:
    """How many devices of every process to use, of those `present` by process: `count`, or all for 0.

    A function of what all processes know, so that none stops while others go on.

    Raises UserError when some process has fewer than `count`, or, for 0, when they have different numbers.
    """
    smallest, largest = (choose(present, key=present.__getitem__) for choose in (min, max))
    fewest, most = present[smallest], present[largest]
    if not 0 <= count <= fewest:
        available = f"there are {fewest} here" if len(present) == 1 else f"process {smallest} has {fewest}"
        all_of_them = ", or 0 for all" if fewest == most else ""
        raise UserError(f"{count} devices were asked for, but {available}; choose 1 to {fewest}{all_of_them}")
    if not count and fewest != most:
        raise UserError(
            f"processes have different numbers of devices (process {smallest}: {fewest}, process {largest}: {most}); "
            f"use as many of each, --devices={fewest} at most"
        )
    return count or fewest


def nearest_multiples(size: int, divisor: int) -> str:
    """The sizes next to `size` that `divisor` divides, in words: `4 and 8`."""
    below = size // divisor * divisor
    return f"{below} and {below + divisor}" if below else str(divisor)


def replicate(tree: Any) -> Any:
    """Host copies of every leaf: what a donated step takes on any number of devices and processes.

    A state that lives on a single device fails with several processes ("Array has been deleted").
    """
    return jax.tree.map(
        lambda x: x if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x), tree
    )


def split(tree: Any, devices: int | None = None) -> Any:
    """Every leaf [n, ...] as [devices, n / devices, ...].

    Raises UserError when n is not a multiple of the number of devices.
    """
    parts = jax.local_device_count() if devices is None else devices
    _check_divides(tree, parts)
    return jax.tree.map(lambda x: x.reshape(parts, x.shape[0] // parts, *x.shape[1:]), tree)


def _check_divides(tree: Any, parts: int) -> None:
    for size in {x.shape[0] for x in jax.tree.leaves(tree)}:
        if size % parts:
            raise UserError(
                f"a batch of {size} cannot be split over {parts} devices; the nearest sizes that can are "
                f"{nearest_multiples(size, parts)}"
            )


def mapped_step(
    method: Method,
    kind: Kind = "pmap",
    devices: Sequence[jax.Device] | None = None,
    accumulate: int = 1,
) -> Step:
    """`step(state, batch, rng)`: one update on the global batch, of which each process gives its own rows.

    Give the first state through `replicate`; the states it returns are replicated already. A state is donated.

    Args:
      method: how to train; the network is the state's.
      kind: how the body is spread; the result is the same to float tolerance.
      devices: those of all processes, in the order of the batch; by default all there are (`choose_devices`).
      accumulate: parts in which a device goes through its rows (`accumulation.accumulated_step`).

    Raises UserError for `jit` on several devices; the step does for a batch that the devices cannot share evenly.
    """
    return _mapped(method, kind, tuple(choose_devices() if devices is None else devices), accumulate)


@functools.lru_cache(maxsize=8)  # a second run in one process neither traces nor compiles anew
def _mapped(method: Method, kind: Kind, devices: tuple[jax.Device, ...], accumulate: int) -> Step:
    body = functools.partial(accumulated_step, method, parts=accumulate)
    return {"pmap": _pmapped, "shard_map": _shard_mapped, "jit": _jitted}[kind](body, devices)


def local(devices: Sequence[jax.Device]) -> list[jax.Device]:
    """Those of them that belong to this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def _pmapped(body: Callable, devices: tuple[jax.Device, ...]) -> Step:
    mapped = jax.pmap(
        lambda state, batch, rng: body(state, batch, rng, axis_name=AXIS),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        donate_argnums=0,
        devices=devices,
        axis_size=len(devices),  # without it JAX wants all processes to have as many devices, used or not
    )
    here = local(devices)
    # Where the states that it returns lie: pmap would compile once more for a first state that lies elsewhere.
    replicated, divided = NamedSharding(_mesh(here), P()), NamedSharding(_mesh(here), P(AXIS))
    return Step(
        mapped,
        lambda state, batch: (_placed(state, replicated), _placed(split(batch, len(here)), divided)),
    )


def _shard_mapped(body: Callable, devices: tuple[jax.Device, ...]) -> Step:
    mesh = _mesh(devices)
    replicated, divided = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))
    here = len(local(devices))
    mapped = jax.jit(
        jax.shard_map(
            lambda state, batch, rng: body(state, batch, rng, axis_name=AXIS),
            mesh=mesh,
            in_specs=(P(), P(AXIS), P()),
            out_specs=(P(), P()),
            # The check adds up gradients leaf by leaf: 90 all-reduces a step of the demo, where pmap has 39.
            check_vma=False,
        ),
        donate_argnums=0,
    )

    def place(state: Any, batch: Any) -> tuple[Any, Any]:
        _check_divides(batch, here)
        return _placed(state, replicated), _placed(batch, divided)

    return Step(mapped, place)


def _jitted(body: Callable, devices: tuple[jax.Device, ...]) -> Step:
    if len(devices) != 1:
        raise UserError(f"jit runs on one device, not on {len(devices)}; choose one, or pmap or shard_map")
    there = SingleDeviceSharding(devices[0])
    jitted = jax.jit(functools.partial(body, axis_name=None), donate_argnums=0)
    return Step(jitted, lambda state, batch: (_placed(state, there), _placed(batch, there)))


def _placed(tree: Any, sharding: Sharding) -> Any:
    """Every leaf, of which this process has its own rows or a whole copy, as an array on all devices."""

    def place(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and x.sharding == sharding:
            return x
        if isinstance(sharding, NamedSharding) and not sharding.is_fully_addressable:
            return global_array(x, sharding)
        return jax.device_put(x, sharding)

    return jax.tree.map(place, tree)


def global_array(x: Any, sharding: NamedSharding) -> jax.Array:
    """What this process has, first on its own devices, then named as its part of an array on all.

    What lies on one of its devices (`--cache=device`) goes straight to the others;
    `jax.make_array_from_process_local_data` takes it through the host.
    """
    devices = list(sharding.mesh.devices.flat)
    here = local(devices)
    mine = jax.device_put(x, NamedSharding(_mesh(here), sharding.spec))
    rows = () if sharding.is_fully_replicated else (mine.shape[0] * len(devices) // len(here),)
    return jax.make_array_from_single_device_arrays(
        (*rows, *mine.shape[len(rows) :]), sharding, [shard.data for shard in mine.addressable_shards]
    )


def gather(values: np.ndarray) -> np.ndarray:
    """Every process's array, stacked in order of process. All processes must call it, with equal shapes.

    Over one device of each: `multihost_utils.process_allgather` asks for as many of every process.
    """
    mesh = _mesh(choose_devices(1))
    rows = global_array(values[None], NamedSharding(mesh, P(AXIS)))
    return np.asarray(jax.jit(_identity, out_shardings=NamedSharding(mesh, P()))(rows).addressable_data(0))


def _identity(x: jax.Array) -> jax.Array:
    return x


def pmap_step(method: Method, devices: list[jax.Device] | None = None) -> Step:
    """`mapped_step(method, "pmap", devices)`."""
    return mapped_step(method, "pmap", devices)


def pmap_embed(devices: list[jax.Device] | None = None) -> Callable[[TrainState, np.ndarray], Prediction]:
    """`embed(state, images)` on any number of pictures (padded to fit the devices); results on the host.

    By default on all devices of this process; no other process takes part, so none has to wait.
    """
    chosen = jax.local_devices() if devices is None else devices
    mapped = jax.pmap(embed_step, in_axes=(None, 0), devices=chosen, axis_size=len(chosen))

    def own(x: Any) -> Any:
        return x.addressable_data(0) if isinstance(x, jax.Array) and not x.is_fully_addressable else x

    def embed(state: TrainState, images: np.ndarray) -> Prediction:
        size = images.shape[0]
        filled = padded(images, size + -size % len(chosen))
        out = mapped(jax.tree.map(own, state), split(filled, len(chosen)))
        return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:size], out)

    return embed
