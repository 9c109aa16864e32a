"""The colours of reports, each in two shades: figures are drawn in the light one, a dark page shows the other.

What is drawn has a contrast of at least 3 to its page, text one of at least 4.5 (WCAG 2.2); tests measure both.
"""

from typing import NamedTuple


class Shade(NamedTuple):
    """One colour on a light and on a dark page."""

    light: str
    dark: str


PAPER = Shade("#ffffff", "#14181d")
INK = Shade("#000000", "#e4e7eb")  # matplotlib draws axes and text in black unless told otherwise
FAINT = Shade("#5a6775", "#a3afbb")
GRID = Shade("#e5e7ea", "#323f4b")
RIGHT = Shade("#1d7a46", "#5fc28a")
WRONG = Shade("#b3261e", "#ff8a7a")
LEFT_SIDE = Shade("#c0392b", "#ff7b6b")
RIGHT_SIDE = Shade("#2a62a8", "#7fb2f0")

METHODS = {
    "mean pose": Shade("#6f7a86", "#98a3af"),
    "baseline": Shade("#b35f1e", "#eda766"),
    "mcss": Shade("#2f6f9f", "#6cb2eb"),
    "truth": Shade("#2e7d4f", "#63c08d"),
}
OTHERS = (
    Shade("#7b5ea7", "#b79be0"),
    Shade("#1f857a", "#4fc4b5"),
    Shade("#b0466f", "#ea8db4"),
    Shade("#667622", "#b5c95f"),
)

SHADES: dict[str, Shade] = {
    "paper": PAPER,
    "ink": INK,
    "faint": FAINT,
    "grid": GRID,
    "right": RIGHT,
    "wrong": WRONG,
    "left-side": LEFT_SIDE,
    "right-side": RIGHT_SIDE,
    **{name.replace(" ", "-"): shade for name, shade in METHODS.items()},
    **{f"other-{i}": shade for i, shade in enumerate(OTHERS)},
}
"""Every colour by the name that it has in a page's style."""


def of_method(name: str, index: int = 0) -> Shade:
    """The same colour for the same method in every figure; methods of other names take theirs by `index`."""
    return METHODS.get(name, OTHERS[index % len(OTHERS)])
