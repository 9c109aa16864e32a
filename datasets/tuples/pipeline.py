"""Plan to decoded uint8 batch; counts what it has to skip.

A damaged record keeps its place in the batch, masked: replacing it would make the batch depend on which host
met it. Poses are taken only from records whose labels may be used; those of other subjects never leave the
record.
"""

import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from datasets.tuples import prepared, sampling
from datasets.tuples.read_ahead import Waiting as Waiting
from datasets.tuples.read_ahead import read_ahead as read_ahead
from datasets.tuples.records import SequenceRow, decode_into, decode_jpeg
from mcss_jax.errors import UserError
from mcss_jax.skeleton import NUM_JOINTS
from mcss_jax.training.batch import Batch, Labelled, Unlabelled

# Encoded pictures kept in memory at most, per split.
CACHE_BYTES = 2 << 30
# What the loader reads of a record.
FOR_TRAINING = ("images", "view_valid", "pose", "intrinsics", "box", "time")

# A version's folder, as TFDS names it.
VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){2}")


class NotPrepared(UserError):
    """There is no such data set, for those who go on without it."""


@dataclasses.dataclass
class Split:
    """A prepared split: its sequence table and its records by index, kept in memory while there is room.

    `image_size` is the side of the pictures that are given out, `stored_size` that of those in the records.
    `specification` is what the builder was asked for (boxes, annotation, ...), as the set's metadata keep it.
    """

    name: str
    table: tuple[SequenceRow, ...]
    views: int
    fingerprint: str
    source: Any
    box_source: str
    stored_size: int
    image_size: int
    sequence_of: Int[np.ndarray, " n"]
    specification: dict[str, Any] = dataclasses.field(default_factory=dict)
    cache: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    cached_bytes: int = 0

    @property
    def records(self) -> int:
        return len(self.source)

    def read(self, index: int) -> dict[str, Any]:
        """Record `index`, which is not kept. Raises UserError when it is damaged."""
        with prepared.damage_in_words(f"record {index} of {self.name}"):
            record: dict[str, Any] = self.source[index]
        return record

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Record `index` as NumPy and bytes; JPEG files stay encoded. Raises UserError when it is damaged."""
        record = self.cache.get(index)
        if record is None:
            record = self.read(index)
            # Access is uniform, so which records stay does not matter: the first that fit.
            if self.cached_bytes < CACHE_BYTES:
                self.cached_bytes += sum(len(image) for image in record["images"])
                self.cache[index] = record
        return record

    def blank(self, *shape: int) -> np.ndarray:
        """Room for `shape` pictures, all black."""
        return np.zeros((*shape, self.image_size, self.image_size, 3), np.uint8)

    def draw(self, record: dict[str, Any], view: int, out: np.ndarray) -> None:
        """Decodes one view of a record into `out`, `image_size` pixels wide. Raises UserError when it is damaged."""
        data = record["images"][view]
        if self.image_size != self.stored_size:
            out[...] = decode_jpeg(data, self.image_size)
        else:
            decode_into(data, out)

    def picture(self, record: dict[str, Any], view: int) -> UInt8[np.ndarray, "s s 3"]:
        """`draw` into a new array."""
        out = np.empty((self.image_size, self.image_size, 3), np.uint8)
        self.draw(record, view, out)
        return out


def prepared_path(data_dir: str | Path, dataset: str) -> Path:
    """Folder of the newest prepared version of `name/config`, or of `name` when one configuration is prepared.

    Raises NotPrepared with the command that prepares it.
    """
    folder = Path(data_dir).expanduser() / dataset
    versions = [p.parent for p in folder.glob("*/dataset_info.json") if VERSION.fullmatch(p.parent.name)]
    if not versions:
        configurations = sorted({p.parents[1].name for p in folder.glob("*/*/dataset_info.json")})
        if len(configurations) == 1:
            return prepared_path(data_dir, f"{dataset}/{configurations[0]}")
        there = f"; of it there are {', '.join(configurations)}" if configurations else ""
        raise NotPrepared(
            f"the data set {dataset!r} is not prepared in {Path(data_dir).expanduser()}{there}; prepare it (with "
            f"--source where it is made of files): python -m launch.prepare --dataset={dataset} --data_dir={data_dir}"
        )
    return max(versions, key=lambda p: tuple(int(n) for n in p.name.split(".")))


def open_split(
    data_dir: str | Path, dataset: str, split: str, image_size: int = 0, names: Collection[str] = ()
) -> Split:
    """Opens a prepared split; pictures are given out as stored, or resized to `image_size` pixels.

    With `names`, records hold these features alone and are read in less time.

    Raises UserError when the set is not prepared, has no such split or holds no record, and for an `image_size` beyond
    the stored one.
    """
    # Here, not above: training on a stream goes without TFDS.
    from datasets.tuples import columns, tuple_builder

    path = prepared_path(data_dir, dataset)
    builder = prepared.open_builder(path)
    table = tuple_builder.sequence_table(builder.info, split)
    if not table:
        raise UserError(f"split {split!r} of {builder.info.full_name} holds no record")
    with prepared.damage_in_words(path):
        source = builder.as_data_source(split)
        first = source[0]
    lengths = [row.length for row in table]
    if sum(lengths) != len(source):
        raise UserError(
            f"split {split!r} of {builder.info.full_name} holds {len(source)} records, its sequence table "
            f"{sum(lengths)}; prepare it again"
        )
    with prepared.damage_in_words(path):
        stored = stored_image_size(source, builder.info.full_name)
    if not 0 <= image_size <= stored:
        raise UserError(
            f"--image_size={image_size}; {builder.info.full_name} holds pictures of {stored} px, which can only be "
            "made smaller (0 keeps them)"
        )
    return Split(
        name=f"{builder.info.full_name}:{split}",
        table=table,
        views=len(first["images"]),
        fingerprint=tuple_builder.fingerprint(builder.info),
        source=columns.Columns(source, names) if names else source,
        box_source=first["box_source"].decode(),
        stored_size=stored,
        image_size=image_size or stored,
        sequence_of=np.repeat(np.arange(len(table)), lengths),
        specification=dict(builder.info.metadata["specification"]),
    )


def split_names(data_dir: str | Path, dataset: str) -> tuple[str, ...]:
    """The splits of a prepared set that hold records. Raises UserError when it is not prepared."""
    info = prepared.open_builder(prepared_path(data_dir, dataset)).info
    return tuple(name for name, rows in info.metadata["tables"].items() if rows)


def camera_names(split: Split) -> tuple[str, ...]:
    """Cameras of a split, in order of view; read from the first record of every sequence."""
    names: dict[str, None] = {}
    for row in split.table:
        if row.length:
            # A view that a sequence does not have is stored without a name.
            names |= dict.fromkeys(name.decode() for name in split[row.first]["camera"] if name)
    return tuple(names)


def stored_image_size(source: Any, name: str) -> int:
    """Side of the first picture that can be read. Raises UserError when there is none."""
    for index in range(len(source)):
        record = source[index]
        for image, valid in zip(record["images"], record["view_valid"], strict=True):
            if valid:
                with contextlib.suppress(UserError):
                    return decode_jpeg(image).shape[0]
    raise UserError(f"{name} holds no picture that can be read")


@dataclasses.dataclass
class Skipped:
    """What was masked so far, and the first reason."""

    records: int = 0
    reason: str = ""


class Loader:
    """Turns plans into host batches.

    `labels` says which records' poses may be read. A record that cannot be read or decoded, or that has too
    few valid views, keeps its place with `valid` False and is counted in `skipped`.
    """

    def __init__(self, split: Split, labelled: Int[np.ndarray, " n"], threads: int = 2) -> None:
        self.split = split
        self.skipped = Skipped()
        self._labelled = frozenset(int(i) for i in labelled)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._lock = threading.Lock()

    def _skip(self, record: int, reason: object) -> None:
        with self._lock:
            self.skipped.records += 1
            self.skipped.reason = self.skipped.reason or f"record {record} of {self.split.name}: {reason}"

    def _draw(
        self, index: int, order: np.ndarray, out: np.ndarray, labelled: bool
    ) -> tuple[dict[str, Any], int] | None:
        """Draws the first usable views into `out`; the record and the first of them, or None where it cannot."""
        try:
            record = self.split[index]
            views = sampling.first_valid_views(record["view_valid"], order, len(out))
            if views is None:
                raise UserError(f"fewer than {len(out)} valid views")
            if labelled and not np.isfinite(record["pose"][views[0]]).all():
                raise UserError("no pose in a labelled view")
            for at, view in enumerate(views.tolist()):
                self.split.draw(record, view, out[at, ...])
        except UserError as error:  # the record is damaged: the batch goes on without it
            out[...] = 0
            self._skip(index, error)
            return None
        return record, int(views[0])

    def _each(self, fill: Callable[[int], None], count: int) -> None:
        """Calls `fill` for 0 .. count - 1, a stretch in each thread: handing rows over one by one takes time."""

        def stretch(rows: np.ndarray) -> None:
            for row in rows.tolist():
                fill(row)

        list(self._pool.map(stretch, np.array_split(np.arange(count), self._threads)))

    def _unlabelled_part(self, records: np.ndarray, orders: np.ndarray, first: int) -> Unlabelled:
        count = len(records)
        out = Unlabelled(
            images=self.split.blank(count, 2),
            group=np.zeros(count, np.int32),
            sequence=np.zeros(count, np.int32),
            time=np.zeros(count, np.float32),
            valid=np.zeros(count, bool),
            sample=np.arange(first, first + count, dtype=np.int32),
            pose=np.full((count, NUM_JOINTS, 3), np.nan, np.float32),
        )

        def fill(i: int) -> None:
            index = int(records[i])
            sequence = self.split.sequence_of[index]
            out.group[i] = self.split.table[sequence].group
            out.sequence[i] = sequence
            drawn = self._draw(index, orders[i], out.images[i], labelled=False)
            if drawn is None:
                return
            record, view = drawn
            out.time[i] = record["time"]
            out.valid[i] = True
            if index in self._labelled:
                out.pose[i] = record["pose"][view]

        self._each(fill, count)
        return out

    def _labelled_part(self, records: np.ndarray, orders: np.ndarray, first: int) -> Labelled:
        count = len(records)
        out = Labelled(
            images=self.split.blank(count),
            pose=np.zeros((count, NUM_JOINTS, 3), np.float32),
            intrinsics=np.full((count, 3, 3), np.nan, np.float32),
            box=np.full((count, 4), np.nan, np.float32),
            valid=np.zeros(count, bool),
            sample=np.arange(first, first + count, dtype=np.int32),
        )

        def fill(i: int) -> None:
            drawn = self._draw(int(records[i]), orders[i], out.images[i : i + 1], labelled=True)
            if drawn is None:
                return
            record, view = drawn
            out.pose[i], out.intrinsics[i] = record["pose"][view], record["intrinsics"][view]
            out.box[i] = record["box"][view]
            out.valid[i] = True

        self._each(fill, count)
        return out

    def __call__(self, plan: sampling.Plan) -> Batch:
        """The batch of a plan, as `train_step` takes it."""
        labelled = unlabelled = None
        if len(plan.labelled):
            labelled = self._labelled_part(plan.labelled, plan.labelled_views, plan.first_labelled)
        if len(plan.unlabelled):
            unlabelled = self._unlabelled_part(plan.unlabelled, plan.unlabelled_views, plan.first_unlabelled)
        return Batch(labelled, unlabelled)


@dataclasses.dataclass(frozen=True)
class Views:
    """Single views for evaluation, n pictures in order of record and camera."""

    images: UInt8[np.ndarray, "n s s 3"]
    record: Int[np.ndarray, " n"]
    camera: Int[np.ndarray, " n"]
    sequence: Int[np.ndarray, " n"]
    time: np.ndarray
    pose: np.ndarray
    intrinsics: np.ndarray
    box: np.ndarray


def iterate_views(
    split: Split,
    batch: int,
    records: Int[np.ndarray, " n"] | None = None,
    cameras: Collection[str] = (),
    done: Callable[[int], object] = lambda count: None,
    threads: int = 2,
) -> Iterator[Views]:
    """Valid views in batches of at most `batch` pictures, but of whole records.

    What is left out is not decoded: other cameras than `cameras` (none given: all are wanted), and records
    that the data set itself marks as not valid (`valid_frame`, docs/data_formats.md#mpi-inf-3dhp-test-set).

    Args:
      records: indices of the wanted records, in the order of the views; all by default.
      done: called with the number of records dealt with, left out or not (progress).

    Raises UserError at a damaged record: an evaluation that silently left some out would not be comparable.
    """
    chosen = np.arange(split.records) if records is None else records
    wanted_cameras = frozenset(name.encode() for name in cameras)

    def is_selected(record: dict[str, Any], view: int) -> bool:
        if not record.get("valid_frame", True) or not record["view_valid"][view]:
            return False
        return not wanted_cameras or record["camera"][view] in wanted_cameras

    def read(index: int) -> list[tuple[Any, ...]]:
        try:
            record = split[index]
            return [
                (split.picture(record, v), index, v, split.sequence_of[index], record["time"],
                 record["pose"][v], record["intrinsics"][v], record["box"][v])
                for v in range(split.views)
                if is_selected(record, v)
            ]  # fmt: skip
        except UserError as error:
            raise UserError(f"record {index} of {split.name} cannot be evaluated: {error}") from error

    def stacked(rows: list[tuple[Any, ...]]) -> Views:
        return Views(*(np.stack([np.asarray(x) for x in column]) for column in zip(*rows, strict=True)))

    waiting: list[tuple[Any, ...]] = []
    # As many records as fill a batch are decoded at once; with views left out, a batch takes several such chunks.
    at_once = max(1, batch // split.views)
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(chosen), at_once):
            for rows in pool.map(read, chosen[first : first + at_once].tolist()):
                if waiting and len(waiting) + len(rows) > batch:
                    yield stacked(waiting)
                    waiting = []
                waiting += rows
                done(1)
    if waiting:
        yield stacked(waiting)
