"""Progress bars with rate and remaining time: tqdm on a terminal, a plain line now and then in a log file."""

import sys
from collections.abc import Iterable
from typing import IO, Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0


class _Lines:
    """A stream for tqdm that turns each redrawn bar into a line of its own."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            self._stream.write(line + "\n")

    def flush(self) -> None:
        self._stream.flush()


def bar(
    work: Iterable[Any] | int,
    desc: str,
    unit: str = "it",
    *,
    initial: int = 0,
    total: int | None = None,
    stream: IO[str] | None = None,
    interval: float = SECONDS_BETWEEN_LINES,
    scaled: bool = False,
    shown: bool = True,
) -> Any:
    """A tqdm bar over `work`: loop over it, or give a number and call `.update()`; close it, or use `with`.

    Args:
      work: what to loop over, or how many units there are.
      desc: what is being done; unit: what is counted ("image", "step").
      initial: units that an earlier run did already; they count as done, not in the rate.
      total: how many, where `work` does not know its length.
      stream: stderr by default, so that stdout can be piped.
      interval: seconds between lines where `stream` is no terminal.
      scaled: write large counts with k, M, G.
      shown: False counts in silence.
    """
    stream = stream or sys.stderr
    iterable = None if isinstance(work, int) else work
    options: dict[str, Any] = {"desc": desc, "unit": " " + unit, "initial": initial, "unit_scale": scaled}
    options["disable"] = not shown
    options["total"] = work if isinstance(work, int) else total
    if stream.isatty():
        return tqdm(iterable, file=stream, dynamic_ncols=True, **options)
    return tqdm(
        iterable,
        file=_Lines(stream),
        ascii=True,
        ncols=100,
        mininterval=interval,
        maxinterval=interval,
        **options,
    )


def say(text: str, stream: IO[str] | None = None) -> None:
    """Prints a line to stdout, above the bars that are shown, at once even into a pipe."""
    stream = stream or sys.stdout
    tqdm.write(text, file=stream)
    stream.flush()
