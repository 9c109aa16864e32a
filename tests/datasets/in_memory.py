"""A split that was never on disk: every number of it is another, and every picture is noise of its own."""

import dataclasses
from typing import Any

import numpy as np

from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow, encode_jpeg

SIZE, VIEWS = 8, 4
# (subject, group, records) of its sequences.
SEQUENCES = (("S1", 7, 5), ("S1", 3, 6), ("S2", 3, 4), ("S3", 9, 9))


def split_of(name: str = "train", sequences: tuple[tuple[str, int, int], ...] = SEQUENCES) -> pipeline.Split:
    """All views of it can be seen; its source is a list of records, to be changed at will."""
    rng, rows, first = np.random.default_rng(len(name)), [], 0
    for number, (subject, group, length) in enumerate(sequences):
        rows.append(SequenceRow(subject, f"action {number}", "", group, first, length, 0.5))
        first += length
    return pipeline.Split(
        name=f"set/1.0.0:{name}",
        table=tuple(rows),
        views=VIEWS,
        fingerprint="print",
        source=[record(rng, index) for index in range(first)],
        box_source="mask",
        stored_size=SIZE,
        image_size=SIZE,
        sequence_of=np.repeat(np.arange(len(rows)), [row.length for row in rows]),
    )


def record(rng: np.random.Generator, index: int) -> dict[str, Any]:
    """What a record holds, in the types in which it is read."""
    return {
        "images": [encode_jpeg(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)) for _ in range(VIEWS)],
        "view_valid": np.ones(VIEWS, bool),
        "camera": [f"camera{view}".encode() for view in range(VIEWS)],
        "pose": rng.normal(0, 300, (VIEWS, 17, 3)).astype(np.float32),
        "intrinsics": rng.uniform(500, 900, (VIEWS, 3, 3)),
        "box": rng.uniform(0, 500, (VIEWS, 4)).astype(np.float32),
        "box_source": b"mask",
        "time": 20 + 0.25 * index,
    }


def changed(split: pipeline.Split, changes: dict[int, Any]) -> pipeline.Split:
    """The split with some values of some records replaced."""
    source = [record | changes.get(index, {}) for index, record in enumerate(split.source)]
    return dataclasses.replace(split, source=source, cache={}, cached_bytes=0)
