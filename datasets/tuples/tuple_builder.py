"""The multi-view tuple that every builder yields, and the sequence table beside it.

One TFDS record is one synchronised instant seen by V cameras. Everything is stored so that TensorFlow is
needed neither to write nor to read: JPEG bytes as objects (only the views a plan uses are decoded), float64
as raw bytes (TFDS would silently round it to float32 otherwise). Source:
docs/data_formats.md#storage-without-tensorflow.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Bool, Float
from tensorflow_datasets.proto import tf_example_pb2

from datasets.tuples.records import SequenceRow, decode_jpeg, encode_jpeg, runs_of
from mcss_jax.errors import UserError
from mcss_jax.skeleton import NUM_JOINTS

# A shard's records are in memory while it is written; readers open every shard.
SHARD_BYTES = 256 << 20

__all__ = [
    "Instant", "Recording", "SequenceRow", "TupleBuilder", "decode_jpeg", "encode_jpeg", "features",
    "fingerprint", "sequence_table", "unknown_camera", "unknown_pose", "view_bytes",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Instant:
    """One synchronised instant, before encoding. V views; absent numbers are NaN, absent pictures `b""`.

    Attributes:
      images: V JPEG files, square crops of the person.
      view_valid: whether view v shows the person at this instant.
      camera: V camera names.
      pose: joints in each camera's frame, millimetres.
      intrinsics: of the original frame, pixels.
      extrinsics: world to camera, [R | t], millimetres.
      distortion: k1, k2, k3, p1, p2 of Human3.6M's model.
      box: the crop in the original frame: x0, y0, x1, y1, pixels.
      box_source: where the box came from (`mask`, `csv`, `static`, `joints`, `frame`).
      frame: index in the original video.
      time: seconds since the start of the sequence.
      extra: values of the builder's own features (`TupleBuilder.extra_features`).
    """

    images: list[bytes]
    view_valid: Bool[np.ndarray, " v"]
    camera: list[str]
    pose: Float[np.ndarray, "v 17 3"]
    intrinsics: Float[np.ndarray, "v 3 3"]
    extrinsics: Float[np.ndarray, "v 3 4"]
    distortion: Float[np.ndarray, "v 5"]
    box: Float[np.ndarray, "v 4"]
    box_source: str
    frame: int
    time: float
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Recording:
    """One sequence as a builder hands it over: what it is, its instants in order of time, what is wrong with it."""

    subject: str
    action: str
    subaction: str
    group: int
    seconds_per_record: float
    instants: Iterable[Instant]
    defect: str = ""


def view_bytes(size: int) -> int:
    """About what a stored picture of `size` x `size` pixels takes.

    Measured on synthetic people, 2.9 kB at 64 px and 13.4 kB at 224 px; photographs take more.
    """
    return round(2000 + 0.23 * size**2)


def unknown_camera(views: int) -> dict[str, Any]:
    """Calibration fields of `Instant` for cameras that nobody calibrated: all NaN."""
    return {
        "intrinsics": np.full((views, 3, 3), np.nan),
        "extrinsics": np.full((views, 3, 4), np.nan),
        "distortion": np.full((views, 5), np.nan),
    }


def unknown_pose(views: int) -> Float[np.ndarray, "v 17 3"]:
    """The pose field of an unlabelled `Instant`: all NaN."""
    return np.full((views, NUM_JOINTS, 3), np.nan, np.float32)


def features(views: int) -> tfds.features.FeaturesDict:
    """The feature specification of a tuple of `views` cameras."""
    exact = {"dtype": np.float64, "encoding": tfds.features.Encoding.BYTES}
    return tfds.features.FeaturesDict(
        {
            "images": tfds.features.Sequence(tfds.features.Tensor(shape=(), dtype=np.object_), length=views),
            "view_valid": tfds.features.Tensor(shape=(views,), dtype=np.bool_),
            "camera": tfds.features.Sequence(tfds.features.Text(), length=views),
            "pose": tfds.features.Tensor(
                shape=(views, NUM_JOINTS, 3), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
            ),
            "has_pose": tfds.features.Scalar(np.bool_),
            "intrinsics": tfds.features.Tensor(shape=(views, 3, 3), **exact),
            "extrinsics": tfds.features.Tensor(shape=(views, 3, 4), **exact),
            "distortion": tfds.features.Tensor(shape=(views, 5), **exact),
            "box": tfds.features.Tensor(
                shape=(views, 4), dtype=np.float32, encoding=tfds.features.Encoding.BYTES
            ),
            "box_source": tfds.features.Text(),
            "subject": tfds.features.Text(),
            "action": tfds.features.Text(),
            "subaction": tfds.features.Text(),
            "group": tfds.features.Scalar(np.int64),
            "sequence": tfds.features.Scalar(np.int64),
            "frame": tfds.features.Scalar(np.int64),
            "time": tfds.features.Tensor(shape=(), **exact),
        }
    )


def _example(recording: Recording, instant: Instant, sequence: int) -> dict[str, Any]:
    has_pose = bool(np.all(np.isfinite(instant.pose[instant.view_valid])) and instant.view_valid.any())
    return {
        "images": list(instant.images),
        "view_valid": np.asarray(instant.view_valid, np.bool_),
        "camera": list(instant.camera),
        "pose": np.asarray(instant.pose, np.float32),
        "has_pose": has_pose,
        "intrinsics": np.asarray(instant.intrinsics, np.float64),
        "extrinsics": np.asarray(instant.extrinsics, np.float64),
        "distortion": np.asarray(instant.distortion, np.float64),
        "box": np.asarray(instant.box, np.float32),
        "box_source": instant.box_source,
        "subject": recording.subject,
        "action": recording.action,
        "subaction": recording.subaction,
        "group": recording.group,
        "sequence": sequence,
        "frame": instant.frame,
        "time": np.float64(instant.time),
        **instant.extra,
    }


class _SameBytes(tfds.core.ExampleWriter):
    """Writes records whose bytes depend on their content alone.

    As TFDS serialises them, their features lie in an order that differs from process to process.
    """

    def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> Any:
        ordered = (
            (key, tf_example_pb2.Example.FromString(data).SerializeToString(deterministic=True))
            for key, data in examples
        )
        return super().write(path, ordered)


class TupleBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders here: a subclass says which recordings each split holds, this class stores them.

    A subclass defines `VERSION`, `RELEASE_NOTES`, `views`, `split_names`, `sequences(split)` and
    `recordings(split)`; description, citation and tags are files beside it. Records lie in order, sequence
    after sequence, as ArrayRecord; the sequence table goes into the builder's metadata, so that a batch can be
    planned without reading a record. `on_record`, when set, is called after every record with its number of
    valid views (progress).

    Shards are filled one after another, whole sequences each: the shuffling writer of TFDS's usual base class
    needs TensorFlow beyond 1 GB, and holds an unshuffled split in memory whole.
    """

    on_record: Callable[[int], object] | None = None

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("file_format", "array_record")
        super().__init__(**kwargs)

    @property
    def views(self) -> int:
        """Number of views V of every tuple."""
        raise NotImplementedError

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits, each given to `recordings`."""
        raise NotImplementedError

    @property
    def extra_features(self) -> dict[str, tfds.features.FeatureConnector]:
        """Features beside the shared ones, for what only this data set has; every instant's `extra` fills them."""
        return {}

    @property
    def specification(self) -> dict[str, Any]:
        """What, beside the version, decides the records: JSON values that enter the fingerprint."""
        return {}

    def sequences(self, split: str) -> int:
        """How many recordings `recordings` will give."""
        raise NotImplementedError

    def expected_bytes(self, split: str) -> int:
        """About how large a split will be; decides into how many shards it is written."""
        del split
        return 0

    def expected_records(self) -> int | None:
        """How many records there will be over all splits, when that is known beforehand."""
        return None

    def recordings(self, split: str) -> Iterator[Recording]:
        """The recordings of a split, in a fixed order."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({**features(self.views), **self.extra_features}),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(tables={}, specification=self.specification),
        )

    def _example_writer(self) -> tfds.core.ExampleWriter:
        return _SameBytes(file_format=self.info.file_format)

    def _shard_iterators_per_split(
        self, dl_manager: Any
    ) -> dict[str, list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        del dl_manager
        return {split: self._shards(split) for split in self.split_names}

    def _shards(self, split: str) -> list[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]:
        sequences = self.sequences(split)
        count = max(1, min(sequences, round(self.expected_bytes(split) / SHARD_BYTES)))
        ends = [sequences * (shard + 1) // count for shard in range(count)]
        # TFDS asks for one shard after another, so they can share one walk through the recordings.
        walk = enumerate(self.recordings(split))
        table: list[dict[str, Any]] = []
        self.info.metadata["tables"][split] = table
        return [partial(self._shard, walk, table, end) for end in ends]

    def _shard(
        self, walk: Iterator[tuple[int, Recording]], table: list[dict[str, Any]], end: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Records of the recordings up to number `end`; their rows go into the table."""
        record = sum(row["length"] for row in table)
        # The end is looked at first: the recording after it is the next shard's.
        while len(table) < end and (numbered := next(walk, None)) is not None:
            sequence, recording = numbered
            first, labelled, frames = record, True, []
            for instant in recording.instants:
                example = _example(recording, instant, sequence)
                labelled &= example["has_pose"] or not example["view_valid"].any()
                yield record, example
                record += 1
                frames.append(instant.frame)
                if self.on_record is not None:
                    self.on_record(int(example["view_valid"].sum()))
            row = SequenceRow(
                subject=recording.subject,
                action=recording.action,
                subaction=recording.subaction,
                group=recording.group,
                first=first,
                length=record - first,
                seconds_per_record=recording.seconds_per_record,
                has_pose=labelled and bool(frames),
                defect=recording.defect,
                runs=runs_of(frames),
            )
            table.append(dataclasses.asdict(row))


def sequence_table(info: tfds.core.DatasetInfo, split: str) -> tuple[SequenceRow, ...]:
    """The sequence table of a prepared split. Raises UserError when the split does not exist."""
    tables = info.metadata["tables"]
    if split not in tables:
        raise UserError(f"the data set {info.full_name} has no split {split!r}; it has {sorted(tables)}")
    try:
        return tuple(
            SequenceRow(**{**row, "runs": tuple(map(tuple, row.get("runs", ())))}) for row in tables[split]
        )
    except (TypeError, AttributeError) as error:  # a row with other columns
        raise UserError(
            f"the sequence tables of {info.full_name} are damaged, or of another version of this program ({error}); "
            "prepare it again with --overwrite"
        ) from error


def fingerprint(info: tfds.core.DatasetInfo) -> str:
    """Identifies a prepared set: builder, version, specification, sequence tables; not the pixels' bits."""

    def identity(row: dict[str, Any]) -> dict[str, Any]:
        # As it was before rows had these, so that a set prepared again is still the one that runs were trained on.
        return {key: value for key, value in row.items() if key != "runs" and (key != "defect" or value)}

    tables = {split: [identity(row) for row in rows] for split, rows in info.metadata["tables"].items()}
    content = json.dumps(
        {"name": info.full_name, "specification": info.metadata["specification"], "tables": tables},
        sort_keys=True,
    )
    return hashlib.sha256(content.encode()).hexdigest()[:16]
