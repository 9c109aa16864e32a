"""Where a figure comes from: the machine that it was made on, and the revision of this code."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

ROOT = Path(__file__).resolve().parent.parent


def hardware() -> dict[str, Any]:
    """Devices, cores and the versions that decide how fast they are."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": importlib.metadata.version("jax"),
    }


def revision(folder: Path = ROOT) -> str | None:
    """The commit that `folder` is at, with `-dirty` where files differ from it; None where nobody can say."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
