"""What is in a prepared set: counts by split, subject, action and camera, known defects, and a sheet of pictures."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datasets.footage import contact_sheet
from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow
from launch.cli import progress
from launch.evaluation import protocols
from mcss_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Counted:
    """One sequence of a split: instants that the data set does not call invalid, valid views by camera."""

    split: str
    row: SequenceRow
    valid_instants: int
    views: Counter[str]


def inspect(data_dir: str | Path, dataset: str, output: str | Path) -> None:
    """Prints the counts of a prepared set and writes its contact sheet, a picture, to `output`.

    Raises UserError when the set is not prepared, `output` is not a PNG or JPEG file or a
    stored picture is damaged, OSError when it cannot be written.
    """
    names = pipeline.split_names(data_dir, dataset)
    splits = [pipeline.open_split(data_dir, dataset, name) for name in names]
    progress.say(counts(splits))
    contact_sheet.save(contact_sheet.records_sheet(splits), output)


def counts(splits: Sequence[pipeline.Split]) -> str:
    """Tables of instants and valid views by split, subject, action and camera, and the known defects.

    Every record is read, with a progress bar; pictures are not decoded.
    """
    with progress.bar(sum(split.records for split in splits), "count", "instant") as bar:
        sequences = [count(split, row, bar.update) for split in splits for row in split.table]
    parts = [
        _table("split", sequences, lambda counted: counted.split),
        _table("subject", sequences, lambda counted: f"{counted.split}, {counted.row.subject}"),
        _table("action", sequences, lambda counted: f"{counted.split}, {counted.row.action}"),
        _camera_table(sequences),
        _defects(sequences),
    ]
    return "\n\n".join(parts)


def count(split: pipeline.Split, row: SequenceRow, done: Callable[[int], object]) -> Counted:
    """Reads the records of one sequence and counts; `done` is called for every record."""
    views: Counter[str] = Counter()
    valid_instants = 0
    for index in range(row.first, row.first + row.length):
        # Past the split's memory: each record is looked at once.
        try:
            record = split.source[index]
        except RuntimeError as error:  # ArrayRecord's, of a damaged file
            raise UserError(
                f"record {index} of {split.name} cannot be read ({error}); prepare the set again with --overwrite"
            ) from error
        valid_instants += bool(record.get("valid_frame", True))
        cameras = zip(record["camera"], record["view_valid"], strict=True)
        views.update(name.decode() for name, valid in cameras if valid)
        done(1)
    return Counted(split.name.rpartition(":")[2], row, valid_instants, views)


def _table(title: str, sequences: Sequence[Counted], label: Callable[[Counted], str]) -> str:
    groups: dict[str, list[Counted]] = {}
    for counted in sequences:
        groups.setdefault(label(counted), []).append(counted)
    rows = {
        name: (
            len(group),
            sum(counted.row.length for counted in group),
            sum(counted.valid_instants for counted in group),
            sum(counted.views.total() for counted in group),
        )
        for name, group in groups.items()
    }
    return _aligned(title, ("sequences", "instants", "valid", "valid views"), rows)


def _camera_table(sequences: Sequence[Counted]) -> str:
    rows: Counter[str] = Counter()
    for counted in sequences:
        rows.update({f"{counted.split}, {name}": number for name, number in counted.views.items()})
    return _aligned("camera", ("valid views",), {name: (number,) for name, number in rows.items()})


def _aligned(title: str, heads: Sequence[str], rows: Mapping[str, tuple[int, ...]]) -> str:
    width = max(map(len, (title, *rows)))
    lines = [f"{title:<{width}}" + "".join(f"{head:>14}" for head in heads)]
    lines += [f"{name:<{width}}" + "".join(f"{n:>14,}" for n in numbers) for name, numbers in rows.items()]
    return "\n".join(lines)


def _defects(sequences: Sequence[Counted]) -> str:
    lines = [
        f"  {counted.split}, {protocols.sequence_name(counted.row)}: {counted.row.defect}"
        for counted in sequences
        if counted.row.defect
    ]
    return "\n".join(["known defects", *(lines or ["  none"])])
