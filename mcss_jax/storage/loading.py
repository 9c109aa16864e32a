"""The folder of a run, as `launch.train` leaves it, to a `Model`: what the network is, and its newest weights.

Beside `checkpoint.py` the only file here that reads storage: two small JSON files, of which it needs the sizes.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from mcss_jax import skeleton
from mcss_jax.errors import UserError
from mcss_jax.method import Method, Network
from mcss_jax.setting import problem
from mcss_jax.storage import checkpoint, model
from mcss_jax.training.state import PoseStatistics, TrainState, init_state

CONFIG, CARD, CHECKPOINTS = "config.json", "card.json", "checkpoints"
# In the card of weights from elsewhere: where the encoder is from. Nobody has trained the rest of that network.
IMPORTED = "imported"
# Largest side of an input, pixels: far beyond what anybody trains on, and still what a machine can hold.
LARGEST_IMAGE = 4096


def load(workdir: str | Path, step: int | None = None) -> model.Model:
    """The model of a run's newest whole checkpoint, or of that of `step`.

    Raises:
      UserError: the folder is not a run's, or has no (such) checkpoint; a file is damaged, no network has such
        settings, or the checkpoint is of another network than they say or has values that are not finite.
    """
    try:
        folder = Path(workdir).expanduser()
    except RuntimeError as error:
        raise UserError(f"{workdir}: {error}; write the path in full") from error
    config, card = (read_json(folder / name) for name in (CONFIG, CARD))
    if IMPORTED in card:
        raise UserError(f"{folder} holds imported weights: an encoder, and a head that nobody has trained")
    method = Method(network=network_of(config, folder / CONFIG))
    return model.of_state(restore(folder, method, card, step).state, image_size(card, folder / CARD))


def restore(
    folder: Path, method: Method, card: Mapping[str, Any], step: int | None = None
) -> checkpoint.Restored:
    """The newest whole checkpoint of a run's folder, or that of `step`, as a state of `method`.

    Raises UserError as `image_size`, `checkpoint.restore`, `check_fingerprint` and `check_finite` do.
    """
    size = image_size(card, folder / CARD)
    statistics = PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    # Its shapes are enough: no start of a program need compile what is overwritten.
    fresh = jax.eval_shape(lambda: init_state(method, jax.random.key(0), size, statistics))
    restored = checkpoint.restore(folder / CHECKPOINTS, fresh, step)
    check_fingerprint(restored, card, folder)
    check_finite(restored.state, f"{folder}, step {restored.step}")
    return restored


def network_of(config: Mapping[str, Any], source: str | Path) -> Network:
    """The network of a run's stored settings; one that is younger than the run had, in effect, its default.

    Settings are nested, the network's under `network`; those of older runs are flat. Raises UserError for the first
    setting that no network has; `source` is where it was found.
    """
    stored = config.get("network", config)
    if not isinstance(stored, Mapping):
        raise UserError(f"{source} has network {stored!r}; expected an object with its settings")
    hints = get_type_hints(Network)
    settings = {}
    for field in dataclasses.fields(Network):
        if field.name not in stored:
            continue
        value = settings[field.name] = stored[field.name]
        expected = problem(value, hints[field.name], field.metadata["bounds"])
        if expected:
            raise UserError(f"{source} has {field.name} {value!r}; expected {expected}")
    return Network(**settings)


def image_size(card: Mapping[str, Any], source: str | Path) -> int:
    """Side of the network's input, pixels, of a run's card. Raises UserError; `source` is where it was found."""
    size = card.get("image_size")
    if type(size) is not int or not 1 <= size <= LARGEST_IMAGE:
        raise UserError(
            f"{source} has image_size {size!r}; a number of pixels was expected, from 1 to {LARGEST_IMAGE}"
        )
    return size


def check_fingerprint(restored: checkpoint.Restored, card: Mapping[str, Any], folder: str | Path) -> None:
    """Raises UserError when a checkpoint was trained on other data than the run's card says.

    Then checkpoint or card is another run's. Where either does not say, as in older runs, nothing is compared.
    """
    trained_on, recorded = restored.position.get("fingerprint"), card.get("fingerprint")
    if trained_on is not None and recorded is not None and trained_on != recorded:
        raise UserError(
            f"{folder}: the checkpoint of step {restored.step} is of data with fingerprint {trained_on}, card.json is "
            f"of data with {recorded}: they are not of one run; restore the folder from a copy, or train anew"
        )


def check_finite(state: TrainState, source: str) -> None:
    """Raises UserError naming a weight or statistic that is NaN or infinite; `source` is where it was found."""
    used = {**state.variables, "statistics": state.statistics}
    leaves = jax.tree_util.tree_leaves_with_path(used)
    broken = [jax.tree_util.keystr(path) for path, leaf in leaves if not np.isfinite(np.asarray(leaf)).all()]
    if broken:
        raise UserError(
            f"{source}: {len(broken)} of {len(leaves)} arrays have values that are not finite, {broken[0]} the first; "
            "training diverged: take an earlier --step, or train anew with a lower --learning_rate"
        )


class _Stored(dict[str, Any]):
    """A JSON object that says, with its file's name, what it lacks."""

    def __init__(self, content: Mapping[str, Any], file: Path) -> None:
        super().__init__(content)
        self._file = file

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self._file} lacks {name!r}; it is damaged, or of another version of this program")


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object in a run's folder; to ask it for what it lacks raises UserError.

    Raises UserError, naming the file, when it is not there or something else.
    """
    if not file.is_file():
        raise UserError(f"{file.parent} is not the folder of a run: it has no {file.name}")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}; a JSON object was expected")
    return _Stored(content, file)
