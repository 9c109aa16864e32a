"""What a source holds of a distribution, printed before anything is made of it."""

import fnmatch
import shutil
from collections.abc import Sequence
from pathlib import Path

from datasets.distributions.takes import Inventory, Missing, by_archive
from datasets.tuples.tuple_builder import view_bytes
from launch.cli import cpu, progress
from mcss_jax.errors import UserError

SHOWN = 12  # lines of one kind, before the rest is only counted
# Source pixels that one core decodes and cuts in a second, in millions; see docs/performance.md.
MEGAPIXELS_PER_SECOND = 250.0
UNPACKED_PER_SECOND = 2e8  # bytes, by one process
WAITING_BYTES_PER_MEGAPIXEL = 300_000  # of a kept picture that waits for its box


def unexcused(missing: Sequence[Missing], allowed: str) -> list[Missing]:
    """What is missing although `allowed` does not name it.

    `allowed` is a list of names separated by commas: a file (`S5/Directions 2.54138969.mp4`), all below a folder
    (`S5`), or a pattern (`S5/*.mp4`, `*`). Raises UserError for one that names nothing that is missing.
    """
    patterns = [pattern.strip() for pattern in allowed.split(",") if pattern.strip()]

    def names(pattern: str, item: Missing) -> bool:
        return item.name.startswith(pattern.rstrip("/") + "/") or fnmatch.fnmatchcase(item.name, pattern)

    for pattern in patterns:
        if not any(names(pattern, item) for item in missing):
            raise UserError(
                f"--allow_missing names {pattern!r}, but nothing of that name is missing"
                + (f"; missing are, for instance, {missing[0].name}" if missing else "")
            )
    return [item for item in missing if not any(names(pattern, item) for pattern in patterns)]


def table(inventory: Inventory) -> str:
    """Files found and expected, by row (subject) and column (camera, kind)."""
    rows = list(dict.fromkeys(row for row, _ in inventory.counts))
    columns = list(dict.fromkeys(column for _, column in inventory.counts))
    wide = max((len(row) for row in rows), default=0)
    lines = [" " * wide + "".join(f"{column:>14}" for column in columns)]
    for row in rows:
        cells = [inventory.counts.get((row, column)) for column in columns]
        lines.append(
            f"{row:<{wide}}" + "".join(f"{f'{cell[0]}/{cell[1]}' if cell else '-':>14}" for cell in cells)
        )
    return "\n".join(lines)


def say(inventory: Inventory, missing: Sequence[Missing]) -> None:
    """Prints the table and lists; `missing` are those that stop a preparation."""
    progress.say(table(inventory))
    excused = len(inventory.missing) - len(missing)
    _list("missing", [item.name for item in missing])
    for hint in list(dict.fromkeys(item.hint for item in missing))[:SHOWN]:
        progress.say(f"    {hint}")
    if excused:
        progress.say(f"  missing, and allowed to be: {excused}")
    _list("known defect", inventory.defects)
    _list("warning", inventory.warnings)
    _list("unexpected, not used", inventory.unexpected)


def _list(head: str, lines: Sequence[str]) -> None:
    for line in lines[:SHOWN]:
        progress.say(f"  {head}: {line}")
    if len(lines) > SHOWN:
        progress.say(f"  {head}: and {len(lines) - SHOWN:,} more")


def disk_needed(
    inventory: Inventory, views: int, size: int, megapixels: float, workers: int, given_boxes: bool
) -> dict[str, int]:
    """Bytes by purpose: the shards, the finished takes they are made of, and what is needed meanwhile.

    What is unpacked of an archive goes with the last take that needs it, while the next one is unpacked.
    """
    kept = [take.kept_frames for take in inventory.takes]
    stored = sum(kept) * views * view_bytes(size)
    archives = _archive_bytes(inventory)
    around = max((len(take.archives) for take in inventory.takes), default=0)
    largest = sorted(archives, reverse=True)[: 2 * around]
    busy = 0 if given_boxes else min(workers, len(kept))
    return {
        "shards": stored,
        "finished sequences, until the shards are written": stored,
        "unpacked from archives meanwhile": sum(largest),
        "pictures waiting for their boxes": int(
            busy * max(kept, default=0) * megapixels * WAITING_BYTES_PER_MEGAPIXEL
        ),
    }


def _archive_bytes(inventory: Inventory) -> list[int]:
    """What will be unpacked of each archive."""
    return [sum(file.size for file in files) for files in by_archive(inventory.takes).values()]


def say_costs(
    inventory: Inventory, needed: dict[str, int], data_dir: Path, megapixels: float, workers: int
) -> None:
    """Prints disk needed and free, and about how long it will take."""
    frames = sum(take.source_frames for take in inventory.takes)
    busy = max(1, min(workers, cpu.cores(), len(inventory.takes)))
    seconds = frames * megapixels / (MEGAPIXELS_PER_SECOND * busy)
    seconds += sum(_archive_bytes(inventory)) / UNPACKED_PER_SECOND
    parts = ", ".join(f"{name} {size_text(count)}" for name, count in needed.items() if count)
    progress.say(
        f"  {len(inventory.takes):,} sequences, {frames:,} source pictures, "
        f"{sum(take.kept_frames for take in inventory.takes):,} instants"
    )
    progress.say(
        f"  disk: about {size_text(sum(needed.values()))} needed ({parts}); {free_text(data_dir)} free"
    )
    progress.say(f"  time: about {_duration(seconds)} on {busy} {'core' if busy == 1 else 'cores'}")


def _existing(folder: Path) -> Path:
    """The folder itself, or the nearest one above it that there is."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def free_text(folder: Path) -> str:
    """What is free where a folder is, or will be."""
    return size_text(shutil.disk_usage(_existing(folder)).free)


def check_space(data_dir: Path, needed: int) -> None:
    """Raises UserError when the disk of `data_dir` has fewer bytes free than are needed."""
    free = shutil.disk_usage(data_dir).free
    if free < needed:
        raise UserError(
            f"--data_dir={data_dir} has {size_text(free)} free, but this set takes about {size_text(needed)}; "
            "make room or choose another folder"
        )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(count: float) -> str:
    """A number of bytes in three digits."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
