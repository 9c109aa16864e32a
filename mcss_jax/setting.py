"""Settings as dataclass fields: beside its default, a field states what it means and which values it may have."""

import dataclasses
import enum
import math
import typing
from collections.abc import Collection
from typing import Any, Literal

AUTO: Literal["auto"] = "auto"
CountOrAuto = int | Literal["auto"]
"""A whole number, or `auto`: chosen from the data when a run begins, and kept with its settings from then on."""

NEVER: Any = object()
"""The earlier default of a setting whose default has never changed."""


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The numbers that a setting may be; `reason` is said where one of them is not obvious."""

    at_least: int | float | None = None
    above: int | float | None = None
    at_most: int | float | None = None
    reason: str = ""

    def allow(self, value: int | float) -> bool:
        """Whether a setting may have this value; NaN and infinity never."""
        return (
            math.isfinite(value)
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
        )

    def words(self, integer: bool) -> str:
        """What is allowed, in words: `at least 1`, `a number from 0 to 1`; `integer` for a setting of type int."""
        kind = "a whole number" if integer else "a number"
        if self.at_most is not None and self.at_least is not None:
            text = f"{kind} from {self.at_least:g} to {self.at_most:g}"
        elif self.at_most is not None:
            text = f"{kind} in ({self.above:g}, {self.at_most:g}]"
        else:
            lower = f"at least {self.at_least:g}" if self.above is None else f"above {self.above:g}"
            text = lower if integer else f"a finite number {'of ' if self.above is None else ''}{lower}"
        return f"{text}: {self.reason}" if self.reason else text


class Role(enum.Enum):
    """What a setting decides beside the result: said where it is defined, so that no list elsewhere can forget it."""

    METHOD = "what is done with unlabelled pictures; labels alone do not read it"
    ENCODER = "the shapes of the encoder's weights"
    MEMORY = "how much is held at a time; lower needs less memory"
    OF_HOST = "something of one host: the processes of a run may differ in it"


def setting(
    default: Any,
    meaning: str,
    bounds: Bounds | None = None,
    *,
    roles: Collection[Role] = (),
    earlier: Any = NEVER,
) -> Any:
    """A dataclass field that is a setting: its default, what it means, what it may be, what else it decides.

    `earlier` is the default that it had before, which configurations that do not name it meant.
    """
    metadata = {"meaning": meaning, "bounds": bounds, "roles": roles, "earlier": earlier}
    return dataclasses.field(default=default, metadata=metadata)


def problem(value: Any, hint: Any, bounds: Bounds | None = None) -> str | None:
    """What is expected instead of `value` for a setting of type `hint`, or None where it is fine.

    `true` is no number here, and 1 is a number for a float.
    """
    if hint == CountOrAuto:
        if value == AUTO:
            return None
        expected = problem(value, int, bounds)
        return f"{expected}, or {AUTO}" if expected else None
    if typing.get_origin(hint) is tuple:
        return None if isinstance(value, tuple) and all(isinstance(part, str) for part in value) else "texts"
    if typing.get_origin(hint) is typing.Literal:
        fits = any(type(value) is type(choice) and value == choice for choice in typing.get_args(hint))
        return None if fits else f"one of {', '.join(map(str, typing.get_args(hint)))}"
    if type(value) not in ((int, float) if hint is float else (hint,)):
        return f"a value of type {hint.__name__}"
    if bounds is not None and not bounds.allow(value):
        return bounds.words(integer=hint is int)
    return None
