"""A checkpoint that was cut short: one error, and no tracebacks of reads that nobody waits for."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mcss_jax.storage.checkpoint import Checkpoints, restore
from tests.refusals import refused


def halve(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [halve, flip, Path.unlink])
def test_damage_is_told_once(
    damage: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Many arrays, so that some are being read when the first one fails."""
    random = np.random.default_rng(0)
    state = {str(i): random.normal(size=(300, 300)) for i in range(12)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, {})
    files = [file for file in tmp_path.rglob("d/*") if file.stat().st_size > 1000]
    assert files
    for file in files:
        damage(file)
    unheard: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unheard.append)
    with refused("no checkpoint that is whole", "step 1"):
        restore(tmp_path, state)
    time.sleep(0.1)  # for what other threads still have to say
    assert not unheard
    assert capfd.readouterr().err == ""
