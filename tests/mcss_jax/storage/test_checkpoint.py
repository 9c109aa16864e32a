import json
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mcss_jax.storage import checkpoint
from mcss_jax.storage.checkpoint import Checkpoints, latest, restore, steps
from tests.refusals import refused

ROOT = Path(__file__).resolve().parents[3]
POSITION = {"step": 7, "fingerprint": "3f9c", "epoch": [1, 2]}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict[str, Any]
    opt_state: Any
    key: jax.Array
    raw_key: jax.Array
    lucky: int
    rate: float
    name: str = flax.struct.field(pytree_node=False)


def make_state(seed: int = 0) -> State:
    params = {
        "conv": {
            "kernel": jnp.full((3, 4), seed + 0.5),
            "a/b.c [0]": jnp.arange(5.0, dtype=jnp.bfloat16) + seed,
        },
        "empty": jnp.zeros((0, 3)),
        "mask": jnp.asarray([True, False]),
        "host": np.arange(3) + seed,
        "none": None,
    }
    floating = {"conv": params["conv"]}
    return State(
        step=jnp.asarray(seed, jnp.int32),
        params=params,
        opt_state=optax.adam(optax.constant_schedule(0.1)).init(floating),
        key=jax.random.split(jax.random.key(seed, impl="rbg"), 2),
        raw_key=jax.random.PRNGKey(seed),
        lucky=seed + 3,
        rate=0.25,
        name="resnet",
    )


def assert_same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        if hasattr(x, "dtype"):
            assert x.dtype == y.dtype
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def small(value: float = 0.0) -> dict[str, jax.Array]:
    return {"w": jnp.full((1000,), float(value)), "b": jnp.full((2, 2), float(value))}


def save_all(folder: Path, wanted: list[int], **options: Any) -> None:
    with Checkpoints(folder, **options) as checkpoints:
        for step in wanted:
            checkpoints.save(step, small(step), {"step": step})


def largest_file(folder: Path) -> Path:
    return max((f for f in folder.rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)


def flip_a_byte(folder: Path) -> None:
    """In the middle of every array file: whichever holds the arrays is hit."""
    for file in (folder / "state").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0x10
        file.write_bytes(bytes(content))


def test_every_kind_of_leaf_comes_back(tmp_path):
    state = make_state(7)
    with Checkpoints(tmp_path / "with space") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(7, state, POSITION)
    restored = restore(tmp_path / "with space", make_state(0))
    assert_same(restored.state, state)
    assert restored.state.name == "resnet"
    assert (restored.position, restored.step) == (POSITION, 7)
    # the same from shapes alone, without a state
    shapes = jax.eval_shape(small)
    save_all(tmp_path / "shapes", [1])
    assert_same(restore(tmp_path / "shapes", shapes).state, small(1))
    # the key continues as the saved one would have
    np.testing.assert_array_equal(jax.random.normal(restored.state.key[0]), jax.random.normal(state.key[0]))


def test_numpy_scalars_and_floats_keep_their_type(tmp_path):
    state = {"a": np.float32(0.1), "b": np.float64(0.1), "c": 0.1, "d": True, "e": np.asarray(0.1)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
    assert_same(restore(tmp_path, state).state, state)


def test_donation_and_change_right_after_saving_do_no_harm(tmp_path):
    host = np.zeros(100_000)
    state = {"device": jnp.arange(100_000.0), "host": host}
    increase = jax.jit(lambda x: x + 1, donate_argnums=0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
        host += 1
        for _ in range(5):
            state["device"] = increase(state["device"])
    restored = restore(tmp_path, state).state
    np.testing.assert_array_equal(restored["device"], np.arange(100_000.0))
    np.testing.assert_array_equal(restored["host"], np.zeros(100_000))
    increase(jax.device_put(restored["device"]))  # what was restored may be donated as well


@pytest.mark.parametrize(("written_on", "read_on"), [(1, 4), (4, 1), (4, 2)])
def test_another_number_of_devices(tmp_path, written_on, read_on):
    def replicated(count: int) -> NamedSharding:
        return NamedSharding(Mesh(np.asarray(jax.devices()[:count]), ("data",)), PartitionSpec())

    def on(count: int, value: int) -> dict[str, jax.Array]:
        return jax.device_put({"w": jnp.arange(6.0) + value, "key": jax.random.key(value)}, replicated(count))

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, on(written_on, 5), {})
    restored = restore(tmp_path, on(read_on, 0)).state
    assert restored["w"].sharding == replicated(read_on)
    np.testing.assert_array_equal(restored["w"], np.arange(6.0) + 5)
    np.testing.assert_array_equal(
        jax.random.key_data(restored["key"]), jax.random.key_data(jax.random.key(5))
    )


def test_a_sharded_array_is_stored_whole(tmp_path):
    mesh = Mesh(np.asarray(jax.devices()), ("data",))
    state = {"w": jax.device_put(jnp.arange(8.0), NamedSharding(mesh, PartitionSpec("data")))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
    np.testing.assert_array_equal(restore(tmp_path, state).state["w"], np.arange(8.0))


def test_keeps_the_newest(tmp_path):
    save_all(tmp_path / "newest", [1, 2, 3, 5, 8])
    assert steps(tmp_path / "newest") == [3, 5, 8]
    assert latest(tmp_path / "newest") == 8


def test_options_are_checked(tmp_path):
    with refused("keep is 0", "1", kind=ValueError):
        Checkpoints(tmp_path, keep=0)


def test_no_checkpoint(tmp_path):
    with refused("nowhere", "no checkpoint", "none"):
        restore(tmp_path / "nowhere", small())
    save_all(tmp_path, [1, 2])
    with refused("step 3", "[1, 2]"):
        restore(tmp_path, small(), step=3)
    assert restore(tmp_path, small(), step=1).position == {"step": 1}


def test_leftovers_of_a_killed_save_are_ignored_then_removed(tmp_path):
    save_all(tmp_path, [1])
    leftover = tmp_path / "2.orbax-checkpoint-tmp"
    leftover.mkdir()
    (tmp_path / "3").mkdir()  # a folder by that name, without the mark of a finished checkpoint
    (tmp_path / "notes").mkdir()
    assert steps(tmp_path) == [1]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(small()).step == 1
        checkpoints.save(2, small(2), {})
    assert steps(tmp_path) == [1, 2]
    assert not leftover.exists()


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (
            {"w": jnp.zeros((999,)), "b": jnp.zeros((2, 2))},
            ("['w']", "float32[1000]", "float32[999]"),
        ),
        (
            {"w": jnp.zeros((1000,), jnp.bfloat16), "b": jnp.zeros((2, 2))},
            ("['w']", "float32[1000]", "bfloat16[1000]"),
        ),
        ({"w": 1.0, "b": jnp.zeros((2, 2))}, ("['w']", "float32[1000]", "float[]")),
        ({"w": jnp.zeros((1000,))}, ("lacks nothing", "has [\"['b']\"]")),
        ({**small(), "extra": jnp.zeros(())}, ("lacks [\"['extra']\"]", "has nothing")),
    ],
)
def test_another_model_is_refused_by_name(tmp_path, change, facts):
    """Also where an older checkpoint is there to fall back on: this is no damage."""
    save_all(tmp_path, [1, 2])
    with refused(f"{tmp_path}/2", *facts):
        restore(tmp_path, change)


def test_only_arrays_and_numbers(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with refused("str", "'x'", kind=ValueError):
            checkpoints.save(1, {"a": "x"}, {})


def truncate(folder: Path) -> None:
    file = largest_file(folder / "state")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def remove_the_arrays(folder: Path) -> None:
    for file in (folder / "state").rglob("d/*"):
        file.unlink()


def edit_info(folder: Path) -> None:
    file = folder / "info" / "metadata"
    stored = json.loads(file.read_text())
    # Only the checksum can tell: it says the same.
    stored["text"] = stored["text"].replace("{", "{ ", 1)
    file.write_text(json.dumps(stored))


def break_info(folder: Path) -> None:
    (folder / "info" / "metadata").write_text("[]")


@pytest.mark.parametrize("damage", [flip_a_byte, truncate, remove_the_arrays, edit_info, break_info])
def test_damage_means_the_checkpoint_before_it(tmp_path, damage):
    save_all(tmp_path, [1, 2, 3])
    damage(tmp_path / "3")
    with pytest.warns(UserWarning, match=r"damaged checkpoints; going back to step 2. Damaged: step 3: \w+"):
        restored = restore(tmp_path, small())
    assert_same(restored.state, small(2))
    assert restored.position == {"step": 2}
    with refused("no checkpoint that is whole", "step 3"):
        restore(tmp_path, small(), step=3)


def test_checksums_find_what_decoding_does_not(tmp_path, monkeypatch):
    """One wrong bit in an array that decodes well."""
    save_all(tmp_path, [1])
    read = checkpoint.ocp.Checkpointer.restore

    def read_wrong(*args: Any, **kwargs: Any) -> Any:
        arrays = read(*args, **kwargs)
        wrong = np.array(arrays["['b']"])
        wrong[-1, -1] = np.nextafter(wrong[-1, -1], np.float32(2))  # no other number
        arrays["['b']"] = wrong
        return arrays

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", read_wrong)
    with refused("checksum", "['b']", "1 of 2"):
        restore(tmp_path, small())


def test_all_damaged_names_the_folder(tmp_path):
    save_all(tmp_path, [1, 2])
    for step in (1, 2):
        flip_a_byte(tmp_path / str(step))
    with refused(str(tmp_path), "no checkpoint that is whole", "step 2", "step 1"):
        restore(tmp_path, small())


def test_going_back_replaces_what_came_after(tmp_path):
    """Otherwise the next resume would take the damaged step for the newest, again and again."""
    save_all(tmp_path, [1, 2, 3])
    flip_a_byte(tmp_path / "3")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match="going back to step 2"):
            checkpoints.restore(small())
        with pytest.warns(UserWarning, match=r"the checkpoint of step 3 replaces those of steps \[3\]"):
            checkpoints.save(3, small(30), {})
        checkpoints.save(4, small(40), {})
        assert_same(checkpoints.restore(small(), step=3).state, small(30))
        with pytest.warns(UserWarning, match=r"the checkpoint of step 4 replaces those of steps \[4\]"):
            checkpoints.save(4, small(41), {})
    assert_same(restore(tmp_path, small()).state, small(41))
    assert steps(tmp_path) == [2, 3, 4]


def test_a_step_is_saved_once(tmp_path):
    """The loop saves every N steps and again when it ends: the last step may come twice."""
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, small(5), {})
        checkpoints.save(5, small(6), {})
    with Checkpoints(tmp_path) as checkpoints:
        assert_same(checkpoints.restore(small()).state, small(5))
        checkpoints.save(5, small(6), {})
    assert_same(restore(tmp_path, small()).state, small(5))


def test_another_runs_checkpoints_are_not_removed(tmp_path):
    save_all(tmp_path, [4, 8])
    with Checkpoints(tmp_path) as checkpoints:
        with refused("another run", "[4, 8]", "step 2", "resume"):
            checkpoints.save(2, small(), {})
    assert steps(tmp_path) == [4, 8]


def test_restoring_writes_nothing(tmp_path):
    save_all(tmp_path, [1])
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(small())
    assert sorted(tmp_path.rglob("*")) == before
    with Checkpoints(tmp_path / "new"):
        pass
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    checkpoints = Checkpoints(tmp_path / "file" / "run")
    with refused("step 1", "file/run", "no checkpoint"):
        checkpoints.save(1, small(), {})
        checkpoints.wait()
    checkpoints.close()


def test_a_failed_save_says_so_and_the_next_one_works(tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    save_all(tmp_path, [1])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(small())
        monkeypatch.setattr(checkpoint.ocp.JsonCheckpointHandler, "_save_fn", fail)
        checkpoints.save(2, small(2), {})
        with refused("step 2", "No space", "step 1"):
            checkpoints.save(3, small(3), {})  # said at the next call at the latest
        assert steps(tmp_path) == [1]
        monkeypatch.undo()
        checkpoints.save(2, small(2), {})
    assert_same(restore(tmp_path, small()).state, small(2))


DISK_FULL = """
    import resource, sys, warnings
    import numpy as np
    from mcss_jax.errors import UserError
    from mcss_jax.storage.checkpoint import Checkpoints, restore
    folder = sys.argv[1]
    random = np.random.default_rng(0)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, {"w": random.normal(size=50)}, {})
        checkpoints.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        big = {"w": random.normal(size=1_000_000)}
        try:
            checkpoints.save(2, big, {})
            checkpoints.wait()
        except UserError as error:
            print(error)
    print("left:", restore(folder, {"w": np.zeros(50)}).step)
"""


def test_no_room_for_the_arrays(tmp_path):
    """A real limit on file sizes, in a process of its own: TensorStore meets it in its own threads."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISK_FULL), str(tmp_path / "run")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"Could not save step 2 to {tmp_path}/run (" in done.stdout
    assert "the last good checkpoint is step 1" in done.stdout
    assert done.stdout.endswith("left: 1\n")
    assert steps(tmp_path / "run") == [1]


def test_nothing_warns(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_all(tmp_path, [1, 2])
        restore(tmp_path, small())
