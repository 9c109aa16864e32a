"""A run's folder, written by hand, to a model: what is read of it, and what is compared before it is believed."""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from mcss_jax.method import Network
from mcss_jax.storage import checkpoint, loading, model
from mcss_jax.training.state import TrainState
from tests.mcss_jax import steps
from tests.refusals import refused

NETWORK = dataclasses.asdict(steps.TINY.network)


def state_of(step: int) -> TrainState:
    """A state whose statistics say which step it is of."""
    state = steps.make_state()
    scale = np.float32(step)
    return dataclasses.replace(state, statistics=state.statistics._replace(scale=scale))


def write(folder: Path, *states: tuple[int, Any], **card: Any) -> Path:
    """A folder with checkpoints, each of data that is called `print`."""
    folder.mkdir(exist_ok=True)
    (folder / loading.CONFIG).write_text(json.dumps({"network": NETWORK}))
    (folder / loading.CARD).write_text(json.dumps({"image_size": steps.SIZE, "fingerprint": "print"} | card))
    with checkpoint.Checkpoints(folder / loading.CHECKPOINTS, keep=9) as checkpoints:
        for step, state in states:
            checkpoints.save(step, state, {"step": step, "fingerprint": "print"})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with steps.two_blocks():
        return write(tmp_path_factory.mktemp("loaded") / "run", (9, state_of(9)), (10, state_of(10)))


@pytest.fixture(autouse=True)
def small() -> Any:
    with steps.two_blocks():
        yield


def restored(folder: Path, step: int | None = None) -> model.Model:
    """A model by itself: nothing is compiled, and no folder is written to."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return loading.load(folder, step)


def rewritten(folder: Path, tmp_path: Path, file: str, content: dict[str, Any]) -> Path:
    """The same checkpoints beside another file."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in (loading.CONFIG, loading.CARD):
        (copy / name).write_text((folder / name).read_text())
    (copy / loading.CHECKPOINTS).symlink_to(folder / loading.CHECKPOINTS)
    (copy / file).write_text(json.dumps(content))
    return copy


def test_the_newest_checkpoint_by_number_or_that_of_a_step(folder: Path) -> None:
    """As text, 9 comes after 10."""
    for step, expected in ((None, 10), (9, 9), (10, 10)):
        found = restored(folder, step)
        assert float(found.state.statistics.scale) == expected and found.image_size == steps.SIZE
        assert found.state.network == steps.TINY.network
        wanted = state_of(expected)
        assert jax.tree.structure(found.state.variables) == jax.tree.structure(wanted.variables)
        jax.tree.map(np.testing.assert_array_equal, found.state.variables, wanted.variables)
    with refused("step 11", "9", "10"):
        loading.load(folder, 11)


def test_settings_of_older_runs_are_flat(folder: Path, tmp_path: Path) -> None:
    older = rewritten(folder, tmp_path, loading.CONFIG, {"seed": 3} | NETWORK)
    assert restored(older).state.network == steps.TINY.network


def test_older_runs_had_weights_and_statistics_as_fields(folder: Path, tmp_path: Path) -> None:
    """As `.params[...]` and `.batch_stats[...]` in the state, where today it is `.variables['params'][...]`."""
    state = state_of(3)
    today = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    assert any(name.startswith(".variables['batch_stats']") for name in today)

    @jax.tree_util.register_pytree_with_keys_class
    @dataclasses.dataclass
    class Older:
        """A state as it was."""

        fields: dict[str, Any]

        def tree_flatten_with_keys(self) -> Any:
            return [(jax.tree_util.GetAttrKey(name), value) for name, value in self.fields.items()], tuple(
                self.fields
            )

        @classmethod
        def tree_unflatten(cls, names: Any, values: Any) -> "Older":
            return cls(dict(zip(names, values, strict=True)))

    fields = {
        field.name: getattr(state, field.name)
        for field in dataclasses.fields(state)
        if jax.tree.leaves(getattr(state, field.name))
        and field.name not in ("variables", "method", "network")
    }
    older = write(tmp_path / "older", (3, Older(fields | dict(state.variables))))
    found = restored(older)
    jax.tree.map(np.testing.assert_array_equal, found.state.variables, state.variables)
    assert float(found.state.statistics.scale) == 3


def test_data_of_checkpoint_and_card_are_compared(folder: Path, tmp_path: Path) -> None:
    card = {"image_size": steps.SIZE, "fingerprint": "another"}
    with refused("step 10", "print", "another"):
        loading.load(rewritten(folder, tmp_path, loading.CARD, card))


@pytest.mark.parametrize("part", ["statistics", "weights"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_number_that_is_not_finite_is_enough(part: str, value: float, folder: Path) -> None:
    state = state_of(4)
    if part == "statistics":
        mean = np.array(state.statistics.mean)
        mean[3, 1] = value
        state = dataclasses.replace(state, statistics=state.statistics._replace(mean=mean))
    else:
        leaves, structure = jax.tree.flatten(state.variables)
        largest = max(range(len(leaves)), key=lambda i: leaves[i].size)
        leaves[largest] = np.array(leaves[largest])
        leaves[largest].flat[5] = value
        state = dataclasses.replace(state, variables=jax.tree.unflatten(structure, leaves))
    with refused("the folder", "1", "not finite"):
        loading.check_finite(state, "the folder")
    loading.check_finite(state_of(4), "the folder")


def test_a_diverged_run_is_not_loaded(tmp_path: Path) -> None:
    with refused("step 4", "not finite", "--step"):
        loading.load(write(tmp_path / "run", (4, state_of(np.nan))))  # type: ignore[arg-type]


def test_imported_weights_are_no_trained_network(folder: Path, tmp_path: Path) -> None:
    card = {"image_size": steps.SIZE, loading.IMPORTED: "elsewhere"}
    with refused("imported weights", "head"):
        loading.load(rewritten(folder, tmp_path, loading.CARD, card))


@pytest.mark.parametrize("changes", [{"depth": 19}, {"width": 0}, {"width": "8"}, {"encoder": "none"}])
def test_settings_that_no_network_has(changes: dict[str, Any]) -> None:
    ((name, value),) = changes.items()
    with refused("config.json", name, f"{value!r}"):
        loading.network_of({"network": NETWORK | changes}, "config.json")
    assert loading.network_of({}, "config.json") == Network()
