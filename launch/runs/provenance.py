"""Where a figure comes from: the machine that it was made on, and the revision of this code."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from launch.cli import cpu

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy")
ROOT = Path(__file__).resolve().parents[2]
# What the programs are made of.
PACKAGES = ("mcss_jax", "datasets", "launch")
CODE = (".py", ".js")


def machine() -> dict[str, Any]:
    """Devices, cores that may be used, and what XLA was told."""
    device = jax.devices()[0]
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": cpu.cores(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def versions() -> dict[str, str]:
    """Of Python and of the libraries that decide how fast a program is."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in LIBRARIES
    }


def hardware() -> dict[str, Any]:
    """The machine, and the versions of Python and JAX."""
    library_versions = versions()
    return machine() | {name: library_versions[name] for name in ("python", "jax")}


def revision(folder: Path = ROOT) -> str | None:
    """The commit that `folder` is at, with `-dirty` where files differ from it; None where nobody can say."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def code(root: Path = ROOT) -> str:
    """A digest of the programs' own files, their names and all that is in them; known without git, too.

    Raises OSError for a file that cannot be read.
    """
    digest = hashlib.sha256()
    files = (file for package in PACKAGES for file in (root / package).rglob("*") if file.suffix in CODE)
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files):
        # Editors leave hidden files, some of them links to nowhere (`.#train.py`).
        if "/." in name or not file.is_file():
            continue
        for part in (name.encode(), file.read_bytes()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]
