"""The folder of a run, as `launch.train` leaves it, to a `Model`: what the network is, and its newest weights.

Beside `checkpoint.py` the only file here that reads storage: two small JSON files, of which it needs the sizes.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from mcss_jax import skeleton
from mcss_jax.method import Method, Network
from mcss_jax.networks.encoder import Depth, Stem
from mcss_jax.storage import checkpoint, model
from mcss_jax.training.train_step import PoseStatistics, TrainState, init_state

# Settings of a run that describe its network -> fields of `Network`.
SETTINGS = {
    "depth": "depth",
    "width": "width",
    "stem": "stem",
    "embedding_dim": "embedding_dim",
    "hidden": "hidden",
    "precision": "dtype",
}
# What they may be; the others are numbers from 1.
CHOICES: dict[str, tuple[Any, ...]] = {
    "depth": get_args(Depth),
    "stem": get_args(Stem),
    "precision": ("float32", "bfloat16"),
}
# Largest side of an input, pixels: far beyond what anybody trains on, and still what a machine can hold.
LARGEST_IMAGE = 4096


def load(workdir: str | Path, step: int | None = None) -> model.Model:
    """The model of a run's newest whole checkpoint, or of that of `step`.

    Raises:
      FileNotFoundError: the folder is not a run's, or has no (such) checkpoint.
      ValueError: a file is damaged, no network has such settings, or the checkpoint is of another network than they
        say or has values that are not finite.
    """
    folder = Path(workdir).expanduser()
    config, card = (read_json(folder / name) for name in ("config.json", "card.json"))
    if "imported" in card:
        raise ValueError(f"{folder} holds imported weights: an encoder, and a head that nobody has trained")
    size = image_size(card, folder / "card.json")
    check_network(config, folder / "config.json")
    method = Method(network=network_of(config))
    statistics = PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    fresh = jax.eval_shape(lambda: init_state(method, jax.random.key(0), size, statistics))
    restored = checkpoint.restore(folder / "checkpoints", fresh, step)
    check_finite(restored.state, f"{folder}, step {restored.step}")
    return model.of_state(restored.state, size)


def network_of(config: Mapping[str, Any]) -> Network:
    """The network of a run's settings; one that is younger than the run had, in effect, its default."""
    return Network(**{field: config[name] for name, field in SETTINGS.items() if name in config})


def check_network(config: Mapping[str, Any], source: str | Path) -> None:
    """Raises ValueError for the first setting of a network that no network has; `source` is where it was found."""
    for name in SETTINGS:
        if name not in config:
            continue
        value, choices = config[name], CHOICES.get(name)
        if choices is None and (type(value) is not int or value < 1):
            raise ValueError(f"{source} has {name} {value!r}; expected a whole number from 1")
        if choices is not None and value not in choices:
            raise ValueError(
                f"{source} has {name} {value!r}; expected one of {', '.join(map(str, choices))}, or it is of another "
                "version of this program"
            )


def image_size(card: Mapping[str, Any], source: str | Path) -> int:
    """Side of the network's input, pixels, of a run's card. Raises ValueError; `source` is where it was found."""
    size = card.get("image_size")
    if type(size) is not int or not 1 <= size <= LARGEST_IMAGE:
        raise ValueError(
            f"{source} has image_size {size!r}; a number of pixels was expected, from 1 to {LARGEST_IMAGE}"
        )
    return size


def check_finite(state: TrainState, source: str) -> None:
    """Raises ValueError naming a weight or statistic that is NaN or infinite; `source` is where it was found."""
    used = {"params": state.params, "batch_stats": state.batch_stats, "statistics": state.statistics}
    leaves = jax.tree_util.tree_leaves_with_path(used)
    broken = [jax.tree_util.keystr(path) for path, leaf in leaves if not np.isfinite(np.asarray(leaf)).all()]
    if broken:
        raise ValueError(
            f"{source}: {len(broken)} of {len(leaves)} arrays have values that are not finite, {broken[0]} the first; "
            "training diverged: take an earlier --step, or train anew with a lower --learning_rate"
        )


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object in a run's folder.

    Raises FileNotFoundError when it is not there, ValueError naming the file when it is something else.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} is not the folder of a run: it has no {file.name}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; a JSON object was expected")
    return content
