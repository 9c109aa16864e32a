"""MCSS in JAX: multiview-consistent semi-supervised learning for 3D human pose, as pure functions.

model = mcss_jax.load("runs/demo/mcss")
out = model(images)                        # uint8 [n, h, w, 3], crops of one person each
out.embedding, out.canonical, out.in_camera
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcss_jax.model import Model


def load(workdir: str | Path, step: int | None = None) -> "Model":
    """A trained run as a function of pictures: see `mcss_jax.loading.load` and `mcss_jax.model.Model`."""
    from mcss_jax import loading  # here: importing a module of the package must not load them all

    return loading.load(workdir, step)
