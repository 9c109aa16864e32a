"""A checkpoint is what its checked description says, not what its folder is called or lies in."""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from mcss_jax.storage import checkpoint, loading
from tests.refusals import refused

STATE = {"w": jnp.arange(3.0)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder of checkpoints of the steps 4 and 8."""
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        for step in (4, 8):
            checkpoints.save(step, {"w": STATE["w"] + step}, {"fingerprint": "of the data"})
    return tmp_path


def test_a_copied_folder_is_no_later_state(saved: Path) -> None:
    """`cp -r 8 12`: what is in it is of step 8, and the run goes on from there."""
    shutil.copytree(saved / "8", saved / "12")
    with pytest.warns(UserWarning, match="step 12: the folder is called 12, but holds step 8"):
        restored = checkpoint.restore(saved, STATE)
    assert restored.step == 8 and float(restored.state["w"][0]) == 8
    with refused("12", "step 8"):
        checkpoint.restore(saved, STATE, 12)


def test_a_run_goes_on_past_a_copied_folder(saved: Path) -> None:
    shutil.copytree(saved / "8", saved / "12")
    with checkpoint.Checkpoints(saved) as checkpoints:
        with pytest.warns(UserWarning, match="called 12"):
            assert checkpoints.restore(STATE).step == 8
        with pytest.warns(UserWarning, match="replaces those of steps .12."):
            checkpoints.save(12, {"w": STATE["w"] + 12}, {})
    assert float(checkpoint.restore(saved, STATE).state["w"][0]) == 12


@pytest.mark.parametrize("step", [None, "8", True, 8.5])
def test_a_step_that_is_none_is_damage(step: Any, saved: Path) -> None:
    rewrite(saved / "8", step=step)
    with pytest.warns(UserWarning, match="step 8: the folder is called 8"):
        assert checkpoint.restore(saved, STATE).step == 4


def rewrite(folder: Path, **changes: Any) -> None:
    """Changes a checkpoint's description and its checksum with it; `...` takes an entry out."""
    file = folder / "info" / "metadata"
    info = json.loads(json.loads(file.read_text())["text"]) | changes
    text = json.dumps({name: value for name, value in info.items() if value is not ...})
    file.write_text(json.dumps({"text": text, "crc32": zlib.crc32(text.encode())}))


def test_checkpoints_that_do_not_say_their_step_are_read(saved: Path) -> None:
    """Those of older versions."""
    rewrite(saved / "8", step=...)
    assert checkpoint.restore(saved, STATE).step == 8


def test_data_of_checkpoint_and_run_must_be_the_same(saved: Path) -> None:
    restored = checkpoint.restore(saved, STATE)
    loading.check_fingerprint(restored, {"fingerprint": "of the data"}, "run")
    loading.check_fingerprint(restored, {}, "run")
    loading.check_fingerprint(restored._replace(position={}), {"fingerprint": "another"}, "run")
    with pytest.raises(ValueError) as raised:
        loading.check_fingerprint(restored, {"fingerprint": "another"}, "run")
    assert all(fact in str(raised.value) for fact in ("run", "step 8", "of the data", "another"))
