"""Checkpoints: the training state, the position in the data, and a checksum for every array.

Orbax writes; this file adds what it leaves open (docs/data_formats.md#checkpoints): checksums over the arrays, a
refusal to cast, the choice of the newest checkpoint that is whole, and errors that say what to do. A folder:

    DIRECTORY/1200/state   the arrays, flat, named by their path in the state
    DIRECTORY/1200/info    JSON: step, position, and each array's shape, dtype and CRC-32

Arrays go through host memory in both directions, so a checkpoint does not know how many devices wrote it. With several
processes each has the whole state: one of them saves, any may restore, and who calls sees to it that they agree.
Orbax's CheckpointManager is left out: its own list of steps may name one whose writing failed, it skips a
save below the newest in silence, and after a failed save it holds the program's end up for minutes.
"""

import json
import re
import shutil
import time
import warnings
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from mcss_jax.errors import UserError
from mcss_jax.storage import checkpoint_reader

State = TypeVar("State")
Position = dict[str, Any]
Leaves = dict[str, Any]


class Restored(NamedTuple):
    state: Any
    position: Position
    step: int


def steps(directory: str | Path) -> list[int]:
    """The finished checkpoints in `directory`, ascending, as they are on disk now."""
    folder = Path(directory)
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(int(path.name) for path in named if (path / "commit_success.txt").exists())


def latest(directory: str | Path) -> int | None:
    """The step of the newest finished checkpoint in `directory`, or None."""
    return max(steps(directory), default=None)


def restore(directory: str | Path, abstract_state: State, step: int | None = None) -> Restored:
    """Reads the newest checkpoint that is whole, or the one of `step`; writes nothing.

    Args:
      directory: where `Checkpoints` wrote.
      abstract_state: a state, or its `jax.eval_shape`: gives structure, shapes, dtypes and, where its leaves
        have a sharding, the devices. Their number may differ from the one that wrote.
      step: the step wanted; by default the newest, and if that is damaged the one before it, with a warning.

    Returns:
      The state, the position in the data, the step.

    Raises:
      UserError: there is no checkpoint, or none of `step`; every candidate is damaged, or it is of another model:
        names, shapes or dtypes differ.
    """
    available = steps(directory)
    if not available or (step is not None and step not in available):
        absent = "no checkpoint" if step is None else f"no checkpoint of step {step}"
        raise UserError(f"{directory} holds {absent}; found steps: {available or 'none'}.")
    damages = []
    for candidate in reversed(available) if step is None else [step]:
        try:
            state, position = _restore_one(_folder(directory, candidate), abstract_state)
        except _Damaged as damage:
            damages.append(f"step {candidate}: {damage}")
            continue
        if damages:
            warnings.warn(
                f"{directory} has damaged checkpoints; going back to step {candidate}. "
                f"Damaged: {'; '.join(damages)}",
                stacklevel=2,
            )
        return Restored(state, position, candidate)
    raise UserError(f"{directory} holds no checkpoint that is whole. Damaged: {'; '.join(damages)}")


class Checkpoints:
    """Writes checkpoints in the background; a context manager that waits for the last one when it closes.

        with Checkpoints(folder) as checkpoints:
            if checkpoints.latest() is not None:
                state, position, step = checkpoints.restore(state)
            for step in ...:
                checkpoints.save(step, state, {"step": step, "fingerprint": fingerprint})

    Args:
      directory: made when the first checkpoint is saved.
      keep: how many of the newest to keep.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep is {keep}; expected at least 1")
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self._own_steps: set[int] = set()  # steps that this object saved, or resumed from

    def latest(self) -> int | None:
        """The step of the newest finished checkpoint, or None."""
        return latest(self.directory)

    def restore(self, abstract_state: State, step: int | None = None) -> Restored:
        """As the function `restore`. What is saved next continues from here: see `save`."""
        self.wait()
        restored = restore(self.directory, abstract_state, step)
        self._own_steps = {saved for saved in self._own_steps if saved < restored.step} | {restored.step}
        return restored

    def save(self, step: int, state: Any, position: Position) -> None:
        """Starts to save; returns once the arrays are copied, so that `state` may be donated.

        A step that this object has saved already, or resumed from, is left as it is. After resuming from an
        older step, the checkpoints of `step` and later ones are removed with a warning: they are damaged or
        of a run that was given up, and the next resume would take them for the newest.

        Args:
          step: how many updates `state` has had.
          state: any pytree of arrays (typed random keys too) and Python numbers.
          position: JSON: where the data stands, and the fingerprint of what it stands in.

        Raises:
          UserError: `directory` holds such checkpoints and none of them was resumed from; or this checkpoint, or the
            one before it, could not be written: finished ones are untouched.
        """
        self.wait()
        if step in self._own_steps:
            return
        arrays, manifest = _to_host(state)
        info = json.dumps({"step": step, "position": position, "manifest": manifest}, sort_keys=True)
        self._remove_superseded(step)
        self._own_steps.add(step)
        self._saving = self._writer.submit(self._write, step, arrays, info)

    def wait(self) -> None:
        """Waits until the last save has ended.

        Raises:
          UserError: it failed.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """Waits as `wait` does, and ends the writing thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, step: int, arrays: dict[str, np.ndarray], info: str) -> None:
        """In the writing thread: saves, then removes what need not be kept."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(self.directory)
            options = _one_process()
            handler = ocp.CompositeCheckpointHandler(
                composite_options=ocp.CompositeOptions(multiprocessing_options=options)
            )
            with ocp.Checkpointer(handler, multiprocessing_options=options) as writer:
                # Written under another name and renamed when complete.
                writer.save(
                    _folder(self.directory, step),
                    args=ocp.args.Composite(
                        # Orbax refuses empty arrays; the manifest says all there is to know of them.
                        state=ocp.args.StandardSave({name: a for name, a in arrays.items() if a.size}),
                        info=ocp.args.JsonSave({"text": info, "crc32": zlib.crc32(info.encode())}),
                    ),
                )
        except Exception as error:  # OSError, and whatever TensorStore makes of one
            self._own_steps.discard(step)
            _remove_leftovers(self.directory)
            newest = self.latest()
            remaining = (
                "no checkpoint is there" if newest is None else f"the last good checkpoint is step {newest}"
            )
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(
                f"Could not save step {step} to {self.directory} ({reason}); {remaining}."
            ) from error
        for other in steps(self.directory)[: -self._keep]:
            shutil.rmtree(_folder(self.directory, other))

    def _remove_superseded(self, step: int) -> None:
        superseded = [other for other in steps(self.directory) if other >= step]
        if not superseded:
            return
        if not self._own_steps:
            raise UserError(
                f"{self.directory} holds checkpoints of another run (steps {superseded}), in the way of step "
                f"{step}: resume from them, or choose another folder."
            )
        warnings.warn(
            f"{self.directory}: the checkpoint of step {step} replaces those of steps {superseded}.",
            stacklevel=3,
        )
        for other in superseded:
            shutil.rmtree(_folder(self.directory, other))


def _one_process() -> ocp.options.MultiprocessingOptions:
    """Orbax without its barriers: one process writes or reads on its own, whatever the others do."""
    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process_{me}"
    )


class _Damaged(Exception):
    """A checkpoint's files are missing, unreadable or changed."""


def _remove_leftovers(directory: Path) -> None:
    """Removes what a killed process or a failed save left half-written.

    Writes under way when a save failed go on for a moment and make their folder anew: so it looks again.
    """
    for _ in range(20):
        leftovers = list(directory.glob("*.orbax-checkpoint-tmp*"))
        if not leftovers:
            return
        for path in leftovers:
            shutil.rmtree(path, ignore_errors=True)
        time.sleep(0.2)


def _folder(directory: str | Path, step: int) -> Path:
    return Path(directory).absolute() / str(step)


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named_leaves(tree: Any) -> Leaves:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _shape_and_dtype(leaf: Any) -> dict[str, Any]:
    """What must agree between a stored leaf and the wanted one; a Python number's dtype is its type."""
    if isinstance(leaf, bool | int | float):
        return {"shape": [], "dtype": type(leaf).__name__}
    if not hasattr(leaf, "dtype"):
        raise ValueError(f"A state holds arrays and Python numbers; found a {type(leaf).__name__}: {leaf!r}.")
    return {"shape": list(leaf.shape), "dtype": str(leaf.dtype)}


def _crc32(array: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _to_host(state: Any) -> tuple[dict[str, np.ndarray], dict[str, dict[str, Any]]]:
    """The state's arrays in host memory, by name, and their manifest."""
    leaves = _named_leaves(state)
    manifest = {name: _shape_and_dtype(leaf) for name, leaf in leaves.items()}
    for name, leaf in leaves.items():
        if _is_key(leaf):
            manifest[name]["key"] = str(jax.random.key_impl(leaf))
            leaves[name] = jax.random.key_data(leaf)
        elif isinstance(leaf, jax.Array) and leaf.is_fully_replicated:
            leaves[name] = leaf.addressable_data(0)
    # Host arrays are copied, since they may change while they are being written; device arrays cannot.
    arrays = {
        name: np.array(a) if isinstance(leaves[name], np.ndarray) else np.asarray(a)
        for name, a in jax.device_get(leaves).items()
    }
    for name, array in arrays.items():
        manifest[name]["stored"] = [list(array.shape), str(array.dtype)]
        manifest[name]["crc32"] = _crc32(array)
    return arrays, manifest


def _read_info(folder: Path) -> dict[str, Any]:
    try:
        stored = json.loads((folder / "info" / "metadata").read_text())
        if zlib.crc32(stored["text"].encode()) != stored["crc32"]:
            raise _Damaged("info/metadata was changed")
        info = dict(json.loads(stored["text"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _Damaged(f"info/metadata cannot be read ({error})") from error
    # A copied or renamed folder is not a later state of the run. Older checkpoints do not say their step.
    if "step" in info and (type(info["step"]) is not int or info["step"] != int(folder.name)):
        raise _Damaged(f"the folder is called {folder.name}, but holds step {info['step']!r}")
    return info


def _restore_one(folder: Path, abstract_state: State) -> tuple[State, Position]:
    info = _read_info(folder)
    stored = info["manifest"]
    abstract_leaves = _named_leaves(abstract_state)
    names = {name if name in abstract_leaves else _name_today(name): name for name in stored}
    manifest = {name: stored[before] for name, before in names.items()}
    _check_same_model(folder, manifest, abstract_leaves)
    arrays = _read_arrays(folder, stored)
    placed = [_place(arrays[names[name]], manifest[name], like) for name, like in abstract_leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(abstract_state), placed), info["position"]


def _name_today(name: str) -> str:
    """An array's path in the state, of which variables were fields of their own until 2026-12-01."""
    return re.sub(r"^\.(params|batch_stats)\b", r".variables['\1']", name)


def _check_same_model(folder: Path, manifest: dict[str, dict[str, Any]], abstract_leaves: Leaves) -> None:
    """Orbax would cast to the wanted dtype in silence."""
    missing, unknown = sorted(abstract_leaves.keys() - manifest), sorted(manifest.keys() - abstract_leaves)
    if missing or unknown:
        raise UserError(
            f"The checkpoint {folder} is of another model: it lacks {missing[:5] or 'nothing'} "
            f"and has {unknown[:5] or 'nothing'} beside what is wanted."
        )
    for name, leaf in abstract_leaves.items():
        stored, expected = {key: manifest[name][key] for key in ("shape", "dtype")}, _shape_and_dtype(leaf)
        if stored != expected:
            raise UserError(
                f"The checkpoint {folder} has {name} as {stored['dtype']}{stored['shape']}; "
                f"expected {expected['dtype']}{expected['shape']}."
            )


def _read_arrays(folder: Path, manifest: dict[str, dict[str, Any]]) -> dict[str, np.ndarray]:
    """Reads the arrays into host memory and compares their checksums."""
    target = {name: np.zeros(entry["stored"][0], entry["stored"][1]) for name, entry in manifest.items()}
    empty = {name: array for name, array in target.items() if not array.size}
    target = {name: array for name, array in target.items() if array.size}
    try:
        options = _one_process()
        handler = checkpoint_reader.handler(options)
        with ocp.Checkpointer(handler, multiprocessing_options=options) as reader:
            arrays = reader.restore(folder / "state", args=ocp.args.PyTreeRestore(target))
    except Exception as error:  # whatever Orbax and TensorStore make of a broken file
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise _Damaged(f"state cannot be read ({reason})") from error
    arrays |= empty
    changed = [name for name, array in arrays.items() if _crc32(array) != manifest[name]["crc32"]]
    if changed:
        raise _Damaged(f"the checksum of {changed[0]} differs ({len(changed)} of {len(manifest)} do)")
    return arrays


def _place(array: np.ndarray, entry: dict[str, Any], like: Any) -> Any:
    """Gives a stored array the type and the devices of `like`."""
    if isinstance(like, bool | int | float):
        return type(like)(array.item())
    if isinstance(like, np.ndarray | np.generic):
        return array[()] if isinstance(like, np.generic) else array
    value = jax.random.wrap_key_data(jnp.asarray(array), impl=entry["key"]) if "key" in entry else array
    # With several processes this is where host arrays become global ones.
    return jax.device_put(value, like.sharding)
