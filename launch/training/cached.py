"""A training split decoded once and kept on the device: the host plans batches, the device gathers them.

The pictures lie on one device. On several, the batch gathered there is split like any other: of 152 kB a picture
(224 px) the other devices' share crosses between them once a step.
"""

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, UInt8

from datasets.tuples import pipeline, sampling
from launch.cli import out_of_memory
from launch.runs import hosts
from mcss_jax.errors import UserError
from mcss_jax.training.batch import Batch

# The network needs room beside the pictures.
SHARE = 0.8
# Records that are decoded at a time.
AT_ONCE = 64


def free_bytes(device: jax.Device) -> int:
    """Memory that can still be had on a device; the machine's where the device does not tell, as a CPU does not."""
    free = out_of_memory.free_bytes(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free


@dataclasses.dataclass
class _Kept(pipeline.Split):
    """A split whose pictures are numbers: their places on the device, 0 being the black one of damaged records.

    `source` holds records without pictures, or why a record cannot be read.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.source[index]
        if isinstance(record, str):
            raise UserError(record)
        return record

    def blank(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, np.int32)

    def draw(self, record: dict[str, Any], view: int, out: np.ndarray) -> None:
        if view in record["damaged"]:
            raise UserError(record["damaged"][view])
        out[...] = record["place"] + view


def _read(split: pipeline.Split, index: int, out: UInt8[np.ndarray, "v s s 3"]) -> dict[str, Any] | str:
    """Decodes the views of a record into `out`; what else it holds, or why it cannot be read."""
    try:
        record = dict(split.read(index))
    except UserError as error:  # damage is said when a batch meets it
        return str(error)
    images, damaged = record.pop("images"), {}
    for view in np.flatnonzero(record["view_valid"]).tolist():
        try:
            split.draw({"images": images}, view, out[view])
        except UserError as error:
            damaged[view] = str(error)
            out[view] = 0
    return record | {"damaged": damaged, "place": 1 + index * split.views}


def _decoded(
    split: pipeline.Split, threads: int
) -> Iterator[tuple[UInt8[np.ndarray, "n s s 3"], list[dict[str, Any] | str]]]:
    """Pictures of all views, record after record, and the records, a piece at a time."""
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for first in range(0, split.records, AT_ONCE):
            indices = range(first, min(first + AT_ONCE, split.records))
            pictures = split.blank(len(indices), split.views)
            records = list(pool.map(lambda i, at=first, to=pictures: _read(split, i, to[i - at]), indices))
            yield pictures.reshape(-1, *pictures.shape[2:]), records


def keep(
    split: pipeline.Split, threads: int, device: jax.Device
) -> tuple[UInt8[Array, "n s s 3"], pipeline.Split]:
    """All pictures of a split on a device, and the split whose pictures are their places there.

    Raises UserError when they do not fit.
    """
    shape = (1 + split.records * split.views, split.image_size, split.image_size, 3)
    needed, free = int(np.prod(shape, dtype=np.int64)), free_bytes(device)
    if needed > SHARE * free:
        raise UserError(
            f"--cache=device wants {needed / 1e9:.3g} GB for {split.name}, more than {SHARE:.0%} of the "
            f"{free / 1e9:.3g} GB that are free on {device}; use --cache=none or a smaller --image_size"
        )
    hosts.say(f"keeping {split.name} on {device}: {shape[0] - 1} pictures, {needed / 1e9:.3g} GB")
    write = jax.jit(
        lambda whole, part, at: lax.dynamic_update_slice_in_dim(whole, part, at, 0), donate_argnums=0
    )
    pictures = jnp.zeros(shape, jnp.uint8, device=device)
    rows: list[dict[str, Any] | str] = []
    with hosts.bar(split.records, "decode", "record") as bar:
        for part, records in _decoded(split, threads):
            pictures = write(pictures, jax.device_put(part, device), 1 + len(rows) * split.views)
            rows += records
            bar.update(len(records))
    fields = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
    return pictures, _Kept(**fields | {"source": rows})


class Loader:
    """`pipeline.Loader` with the pictures on the first local device: the same batches, bit for bit.

    Raises UserError when the pictures do not fit.
    """

    def __init__(self, split: pipeline.Split, labelled: Int[np.ndarray, " n"], threads: int = 2) -> None:
        self._pictures, kept = keep(split, threads, jax.local_devices()[0])
        self._places = pipeline.Loader(kept, labelled, threads)
        self._gather = jax.jit(lambda pictures, places: pictures[places])

    @property
    def skipped(self) -> pipeline.Skipped:
        return self._places.skipped

    def __call__(self, plan: sampling.Plan) -> Batch:
        """The batch of a plan; its pictures are on the device."""
        batch = self._places(plan)
        parts: dict[str, Any] = {
            name: dataclasses.replace(part, images=self._gather(self._pictures, part.images))
            for name, part in batch.parts.items()
        }
        return Batch(**parts)
