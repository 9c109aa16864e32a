"""Numbers and names in the sentences of `launch.predict`."""

import itertools
from collections.abc import Iterable
from operator import itemgetter

MOST_RUNS = 10  # that a sentence names


def counted(count: int, thing: str) -> str:
    """1 view, 2 views."""
    return f"{count:,} {thing if count == 1 else thing + 's'}"


def spans(row: Iterable[tuple[object, bool]]) -> str:
    """The marked ones of things in a row, neighbours drawn together: 0 to 12, 40 and 7 more.

    `row` has the name of each and whether it is marked.
    """
    runs = [
        [name for name, _ in run] for is_marked, run in itertools.groupby(row, itemgetter(1)) if is_marked
    ]
    words = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:MOST_RUNS]]
    left = sum(map(len, runs[MOST_RUNS:]))
    return ", ".join(words) + (f" and {left:,} more" if left else "")
