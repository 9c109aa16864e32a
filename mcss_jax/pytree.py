"""Frozen dataclasses whose fields JAX maps over."""

import typing
from typing import Any, TypeVar

from flax import struct

Class = TypeVar("Class", bound=type)


def static() -> Any:
    """A field that JAX compiles for instead of mapping over: hashable, one program for each of its values."""
    return struct.field(pytree_node=False)


@typing.dataclass_transform(frozen_default=True, field_specifiers=(static,))
def pytree(cls: Class) -> Class:
    """Makes `cls` a frozen dataclass and a pytree.

    Annotations say what fields hold at rest. Tests do not enforce them: while JAX maps over it, a field holds whatever
    the map makes of its array (a shape, a sharding, a stretch of rows for every device).
    """
    return struct.dataclass(typing.no_type_check(cls))
