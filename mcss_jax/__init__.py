"""MCSS in JAX: multiview-consistent semi-supervised learning for 3D human pose, as pure functions.

model = mcss_jax.load("runs/demo/mcss")
out = model(images)                        # uint8 [n, h, w, 3], crops of one person each
out.embedding, out.canonical, out.in_camera
"""

import importlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcss_jax.search import retrieval as retrieval
    from mcss_jax.storage.model import Model
    from mcss_jax.training import parallel as parallel
    from mcss_jax.training import train_step as train_step

# Modules that users name without their folder: `from mcss_jax import train_step`.
_SHORT = {
    "parallel": "mcss_jax.training.parallel",
    "retrieval": "mcss_jax.search.retrieval",
    "train_step": "mcss_jax.training.train_step",
}


def load(workdir: str | Path, step: int | None = None) -> "Model":
    """A trained run as a function of pictures: see `storage.loading.load` and `storage.model.Model`."""
    from mcss_jax.storage import loading  # here: importing a module of the package must not load them all

    return loading.load(workdir, step)


def __getattr__(name: str) -> ModuleType:
    if name in _SHORT:
        return importlib.import_module(_SHORT[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
