"""The folder of a run, as `launch.train` leaves it, to a `Model`: what the network is, and its newest weights.

Beside `checkpoint.py` the only file here that reads storage: two small JSON files, of which it needs the sizes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from mcss_jax import checkpoint, model, skeleton
from mcss_jax.method import Method, Network
from mcss_jax.train_step import PoseStatistics, init_state

# Settings of a run that describe its network -> fields of `Network`.
SETTINGS = {
    "depth": "depth",
    "width": "width",
    "stem": "stem",
    "embedding_dim": "embedding_dim",
    "hidden": "hidden",
    "precision": "dtype",
}


def load(workdir: str | Path, step: int | None = None) -> model.Model:
    """The model of a run's newest whole checkpoint, or of that of `step`.

    Raises:
      FileNotFoundError: the folder is not a run's, or has no (such) checkpoint.
      ValueError: a file is damaged, or the checkpoint is of another network than the settings say.
    """
    folder = Path(workdir).expanduser()
    config, card = (_read(folder / name) for name in ("config.json", "card.json"))
    if "imported" in card:
        raise ValueError(f"{folder} holds imported weights: an encoder, and a head that nobody has trained")
    size = card.get("image_size")
    if not isinstance(size, int):
        raise ValueError(f"{folder / 'card.json'} has image_size {size!r}; a number of pixels was expected")
    method = Method(network=network_of(config))
    statistics = PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    fresh = jax.eval_shape(lambda: init_state(method, jax.random.key(0), size, statistics))
    return model.of_state(checkpoint.restore(folder / "checkpoints", fresh, step).state, size)


def network_of(config: Mapping[str, Any]) -> Network:
    """The network of a run's settings; one that is younger than the run had, in effect, its default."""
    return Network(**{field: config[name] for name, field in SETTINGS.items() if name in config})


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} is not the folder of a run: it has no {file.name}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; a JSON object was expected")
    return content
