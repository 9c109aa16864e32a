"""Frozen dataclasses whose fields JAX maps over."""

import dataclasses
import typing
from typing import Any, TypeVar

import jax

Class = TypeVar("Class", bound=type)


def static() -> Any:
    """A field that JAX compiles for instead of mapping over: hashable, one program for each of its values."""
    return dataclasses.field(metadata={"static": True})


@typing.dataclass_transform(frozen_default=True, field_specifiers=(static,))
def pytree(cls: Class) -> Class:
    """Makes `cls` a frozen dataclass and a pytree.

    Annotations say what fields hold at rest. Tests do not enforce them: while JAX maps over it, a field holds whatever
    the map makes of its array (a shape, a sharding, a stretch of rows for every device).
    """
    frozen: Any = dataclasses.dataclass(frozen=True)(typing.no_type_check(cls))
    made: Class = jax.tree_util.register_dataclass(frozen)
    return made
