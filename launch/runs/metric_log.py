"""Training figures, one record an interval: a line on stdout, one in metrics.jsonl, TensorBoard events."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tensorboardX import SummaryWriter

from launch.cli import progress
from mcss_jax.errors import UserError

JSONL = "metrics.jsonl"


class MetricLog:
    """Writes scalars by step; a context manager.

        with MetricLog(work_folder, resumed_from=step) as log:
            log.write(step, {"train/loss": loss, "validation/mpjpe_mm": 81.2})

    Args:
      folder: made if missing; `metrics.jsonl` is appended to, events go beside it.
      resumed_from: the step of the restored checkpoint. Records after it, of updates that were lost with the
        interruption, are dropped, so that no step appears twice. None keeps everything.
      stream: where the lines go.

    Raises:
      OSError: `folder` cannot be written.
    """

    def __init__(self, folder: str | Path, resumed_from: int | None = None, stream: IO[str] | None = None):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if resumed_from is not None:
            drop_after(self.folder / JSONL, resumed_from)
        self._stream = stream
        self._jsonl = (self.folder / JSONL).open("a", encoding="utf-8")
        # purge_step hides what an interrupted run wrote to earlier event files.
        purge = None if resumed_from is None else resumed_from + 1
        self._events = SummaryWriter(str(self.folder), purge_step=purge)

    def write(self, step: int, scalars: Mapping[str, Any]) -> None:
        """One record. Each value is a number or an array of one element; the order is kept.

        Raises:
          ValueError: a value is not a scalar.
        """
        values = {name: _scalar(name, value) for name, value in scalars.items()}
        progress.say(format_line(step, values), self._stream)
        # JSON has no NaN or infinity; null is what other readers accept.
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._jsonl.write(json.dumps({"step": step, **finite}) + "\n")
        self._jsonl.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)
        self._events.flush()

    def figure(self, step: int, name: str, figure: Any) -> None:
        """A matplotlib figure, to TensorBoard only."""
        self._events.add_figure(name, figure, step, close=False)
        self._events.flush()

    def close(self) -> None:
        self._jsonl.close()
        self._events.close()

    def __enter__(self) -> "MetricLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def format_line(step: int, values: Mapping[str, float]) -> str:
    """`step 1200  train/loss 0.3124  images/s 412`: four significant digits, whole numbers whole."""
    shown = [
        f"{name} {value:.0f}" if abs(value) >= 1000 else f"{name} {value:.4g}"
        for name, value in values.items()
    ]
    return "  ".join([f"step {step}", *shown])


def read(folder: str | Path) -> list[dict[str, Any]]:
    """The records of `folder`, oldest first; a last line cut short by a crash is left out.

    Raises:
      OSError: there are none.
      UserError: another line is not a record.
    """
    return _read_file(Path(folder) / JSONL)


def drop_after(file: Path, step: int) -> None:
    """Removes the records after `step` from `file`, all or nothing; does nothing where there is no file."""
    if not file.exists():
        return
    kept = [record for record in _read_file(file) if record["step"] <= step]
    new = file.with_name(file.name + ".new")
    new.write_text("".join(json.dumps(record) + "\n" for record in kept), encoding="utf-8")
    os.replace(new, file)


def _read_file(file: Path) -> list[dict[str, Any]]:
    records = []
    lines = file.read_bytes().decode(errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            if not isinstance(record["step"], int) or not _is_of_scalars(record):
                raise TypeError
        except (ValueError, LookupError, TypeError):
            if number == len(lines):  # empty after the last newline, or cut short
                break
            raise UserError(
                f'{file}:{number} is {line!r}; expected a record such as {{"step": 1}}.'
            ) from None
        records.append(record)
    return records


def _is_of_scalars(record: dict[str, Any]) -> bool:
    return all(value is None or isinstance(value, int | float) for value in record.values())


def _scalar(name: str, value: Any) -> float:
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise ValueError(f"The metric {name} is {value!r}; expected a single number.") from None
