"""All faults, of the modules in `faults/`, one for each part of the project."""

import importlib
import pkgutil

from tests.mutations import faults
from tests.mutations.fault import Fault


def every_fault() -> tuple[Fault, ...]:
    """In order of module and place."""
    modules = sorted(module.name for module in pkgutil.iter_modules(faults.__path__))
    return tuple(
        fault
        for name in modules
        for fault in importlib.import_module(f"tests.mutations.faults.{name}").FAULTS
    )
