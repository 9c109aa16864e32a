"""Retrieval figures as text."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float


def table(rows: Mapping[str, Mapping[str, float]], title: str = "") -> str:
    """Figures by name, one row each, under `title` and the figures' names."""
    names = list(next(iter(rows.values())))
    width = max(len(title), *(len(name) for name in rows))
    head = f"{title:<{width}}" + "".join(f"{name:>13}" for name in names)
    lines = [f"{name:<{width}}" + "".join(f"{row[n]:13.3f}" for n in names) for name, row in rows.items()]
    return "\n".join([head, *lines])


def pair_table(title: str, cameras: Sequence[str], matrix: Float[np.ndarray, "c c"]) -> str:
    """One figure by query camera (rows) and gallery camera (columns)."""
    width = max(len(title), *(len(name) for name in cameras))
    column = max(9, *(len(name) + 2 for name in cameras))
    head = f"{title:<{width}}" + "".join(f"{name:>{column}}" for name in cameras)
    lines = [
        f"{name:<{width}}" + "".join(f"{'-' if np.isnan(x) else f'{x:.1f}':>{column}}" for x in row)
        for name, row in zip(cameras, matrix, strict=True)
    ]
    return "\n".join([head, *lines])


def group_table(title: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """Figures by group, one row each, with the number of queries."""
    names = [name for name in next(iter(groups.values())) if name != "queries"]
    width = max(len(title), *(len(label) for label in groups))
    head = f"{title:<{width}}{'queries':>10}" + "".join(f"{name:>13}" for name in names)
    lines = [
        f"{label:<{width}}{row['queries']:>10,}" + "".join(f"{row[name]:13.1f}" for name in names)
        for label, row in groups.items()
    ]
    return "\n".join([head, *lines])
