"""Which records and cameras an evaluation looks at, how its figures are grouped, and what it must say of both.

Facts: docs/data_formats.md (damaged takes, sampling, joints, activities).
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int

from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow, frame_numbers
from launch.runs import run_folder
from mcss_jax.errors import UserError

Damaged = Literal["keep", "drop"]


@dataclasses.dataclass(frozen=True)
class Choice:
    """What of a split is evaluated.

    Attributes:
      records: indices of the records, ascending.
      every: only frames whose number in the original video is a multiple of this; 0 for all that are stored.
      stride: of those, every n-th.
      cameras: names; none for all.
      damaged: sequences with a known defect, each with its defect.
      dropped: whether those are left out.
      excluded: sequences that are left out by name.
    """

    records: Int[np.ndarray, " n"]
    every: int
    stride: int
    cameras: tuple[str, ...]
    damaged: tuple[str, ...]
    dropped: bool
    excluded: tuple[str, ...] = ()


def choose(
    split: pipeline.Split,
    *,
    every: int = 0,
    damaged: Damaged = "keep",
    cameras: str = "",
    stride: int = 1,
    exclude: str = "",
) -> Choice:
    """The records and cameras that the flags of these names ask for.

    `every=0` is the data set's own way: all records, unless they are the union of two samplings, of which the
    denser one is taken. Raises UserError when the split does not hold what is asked for, or nothing is left.
    """
    if every < 0 or stride < 1:
        raise UserError(f"--every={every} and --stride={stride}; expected at least 0 and at least 1")
    excluded = _checked_names("--exclude", exclude, list(map(sequence_name, split.table)), split.name)
    rows = [row for row in split.table if row.length and sequence_name(row) not in excluded]
    every = every or _denser_step(rows)
    flagged = [row for row in rows if row.defect]
    kept = [row for row in rows if damaged == "keep" or not row.defect]
    parts = [_records(row, every, split.name) for row in kept]
    records = np.concatenate(parts)[::stride] if parts else np.zeros(0, np.int64)
    if not len(records):
        raise UserError(
            f"--damaged={damaged} and --exclude={exclude} leave nothing of {split.name} to evaluate"
        )
    return Choice(
        records=records,
        every=every,
        stride=stride,
        cameras=_checked_names("--cameras", cameras, pipeline.camera_names(split), split.name)
        if cameras
        else (),
        damaged=tuple(f"{sequence_name(row)} ({row.defect})" for row in flagged),
        dropped=damaged == "drop",
        excluded=excluded,
    )


def sequence_name(row: SequenceRow) -> str:
    """Subject, action and sub-action, each said once."""
    return " ".join(dict.fromkeys(part for part in (row.subject, row.action, row.subaction) if part))


def _denser_step(rows: Sequence[SequenceRow]) -> int:
    """The step that leaves one sampling of a set that was kept at two (multiples of 5 or of 64, say), or 0."""
    return min((step for row in rows if (step := _smaller_of_two_steps(row))), default=0)


def _smaller_of_two_steps(row: SequenceRow) -> int:
    """The smaller step when frames lie between those of a regular sampling from frame 0 on; otherwise 0."""
    if len(row.runs) < 2:
        return 0
    frames = frame_numbers(row)
    step = int(frames[1] - frames[0])
    regular = np.arange(0, frames[-1] + 1, step)
    return step if np.isin(regular, frames).all() else 0


def _records(row: SequenceRow, every: int, name: str) -> Int[np.ndarray, " n"]:
    if not every:
        return row.first + np.arange(row.length)
    frames = frame_numbers(row)
    missing = np.setdiff1d(np.arange(0, frames[-1] + 1, every), frames)
    if len(missing):
        held = ", ".join(map(str, frames[:4])) + (f", ..., {frames[-1]}" if len(frames) > 4 else "")
        raise UserError(
            f"--every={every} needs frame {missing[0]} of {sequence_name(row)}, which {name} does not hold; "
            f"it holds frames {held}"
        )
    return row.first + np.flatnonzero(frames % every == 0)


def _checked_names(flag: str, text: str, available: Sequence[str], where: str) -> tuple[str, ...]:
    """The names in a list separated by commas. Raises UserError for one that is not known."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in available:
            raise UserError(f"{flag} names {name!r}; {where} has {', '.join(dict.fromkeys(available))}")
    return names


def labels_of(
    split: pipeline.Split, record: Int[np.ndarray, " n"], sequence: Int[np.ndarray, " n"]
) -> dict[str, np.ndarray]:
    """What views can be grouped by: their `action`, or `sequence` and `activity` where frames have activities.

    Activities are those of the MPI-INF-3DHP test set, whose official evaluation groups by these two. Its training
    sequences are of no action.
    """
    if "activity" in split[int(record[0])]:
        unique, place = np.unique(record, return_inverse=True)
        activities = np.asarray([split[int(index)]["activity"].decode() for index in unique])
        names = {"sequence": np.asarray([sequence_name(row) for row in split.table])[sequence]}
        return names | ({"activity": activities[place]} if all(activities) else {})
    return {"action": np.asarray([row.action for row in split.table])[sequence]}


def card(
    choice: Choice, split: pipeline.Split, sequence: Int[np.ndarray, " n"], view: Int[np.ndarray, " n"]
) -> dict[str, Any]:
    """What of a split was evaluated and where its boxes and poses come from; n views, by sequence and view."""
    first = {int(s): split[split.table[s].first] for s in np.unique(sequence)}
    pairs = dict.fromkeys(zip(view.tolist(), sequence.tolist(), strict=True))
    frames = f"every frame whose number is a multiple of {choice.every}" if choice.every else "all stored"
    verb = "left out" if choice.dropped else "kept"
    out: dict[str, Any] = {
        "frames": frames + (f", one in {choice.stride} of these" if choice.stride > 1 else ""),
        "damaged takes": f"{len(choice.damaged)} {verb}: {'; '.join(choice.damaged)}"
        if choice.damaged
        else "none known",
        **({"excluded": list(choice.excluded)} if choice.excluded else {}),
        "cameras": list(dict.fromkeys(first[s]["camera"][v].decode() for v, s in sorted(pairs))),
        "absent views": _absent(choice, split, first, sequence, view),
        "boxes": ", ".join(sorted({record["box_source"].decode() for record in first.values()})),
    }
    if any("valid_frame" in record for record in first.values()):
        out["frames"] += ", frames that the data set marks as valid"
    if "annotation" in split.specification:
        out["annotation"] = split.specification["annotation"]
    if split.specification:
        out["prepared with"] = [f"{name}={value}" for name, value in sorted(split.specification.items())]
    return out


def _absent(
    choice: Choice,
    split: pipeline.Split,
    first: dict[int, dict[str, Any]],
    sequence: Int[np.ndarray, " n"],
    view: Int[np.ndarray, " n"],
) -> str:
    """Sequences and cameras that have fewer views than the camera that has most; n views, by sequence and view."""
    parts, total = [], 0
    for s, record in first.items():
        names = [name.decode() for name in record["camera"]]
        expected = [
            v for v, name in enumerate(names) if name and (not choice.cameras or name in choice.cameras)
        ]
        counts = {v: int(((sequence == s) & (view == v)).sum()) for v in expected}
        for v, count in counts.items():
            lacking = max(counts.values()) - count
            if lacking:
                total += lacking
                parts.append(f"{sequence_name(split.table[s])} camera {names[v]} ({lacking})")
    more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
    return f"{total}: {'; '.join(parts[:5])}{more}" if parts else "none"


def boxes_from_labels(trained: str, evaluated: str) -> str:
    """What boxes owe to the people who count as unlabelled; sources as in the cards."""
    parts = []
    for kind, words in (("joints", "yes: their joints"), ("mask", "the owners' ground-truth masks of them")):
        uses = (("training", trained), ("evaluation", evaluated))
        where = [name for name, source in uses if kind in source]
        if where:
            parts.append(f"{words}, in {' and '.join(where)}")
    return "; ".join(parts) or "no"


def joint_mapping(trained_on: str, evaluated_on: str) -> str:
    """What to say of the joints when a run is judged on another data set than its own; empty when it is not."""
    before, now = (re.split("[/ ]", name)[0] for name in (trained_on, evaluated_on))
    if before == now:
        return ""
    return (
        f"nominal: trained on {before}, evaluated on {now}; joints of the same name are not the same points "
        "(hip width, neck against thorax, spine height and head differ), and bone lengths do not match"
    )


def another_set(dataset: str, run: run_folder.Run, split: pipeline.Split) -> str:
    """What names a set that is not the run's own, be it one of the same name; empty for its own."""
    if split.fingerprint != run.card["fingerprint"]:
        return f"{dataset or run.config.data.dataset} {split.fingerprint[:6]}"
    return dataset if dataset != run.config.data.dataset else ""


def file_name(split: str, parts: Iterable[str], kind: str = "evaluation") -> str:
    """Name of a result file that tells results of one kind and run apart."""
    words = [split, *(part for part in parts if part)]
    return f"{kind}_" + "_".join(re.sub(r"[^\w-]+", "-", word) for word in words) + ".json"
