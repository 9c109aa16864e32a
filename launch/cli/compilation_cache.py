"""The persistent compilation cache: what one start of a program compiled, the next one reads.

Who can write to the cache can run code here (JAX, `persistent_compilation_cache.md`), so it lies in a folder that
belongs to this user alone, never in a shared one.
"""

import os
import platform
import zlib
from pathlib import Path

import jax

from mcss_jax.errors import UserError

MOST_BYTES = 2 << 30
# Compiling what takes less is about as fast as reading it.
LEAST_SECONDS = 0.3


def cache_home() -> Path:
    """`$XDG_CACHE_HOME` or `~/.cache`. Raises UserError for a user who has no home folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError as error:
        raise UserError("there is no home folder to keep files in; set XDG_CACHE_HOME to a folder") from error


def private_folder(name: str = "xla") -> Path:
    """The cache's folder below `$XDG_CACHE_HOME` or `~/.cache`, made if missing, for this JAX and this processor.

    A home folder may be shared with machines that lack this processor's instructions.

    Raises UserError when it belongs to, or is open to, other users, OSError when it cannot be made.
    """
    home = cache_home()
    cpu = Path("/proc/cpuinfo")
    features = (
        [line for line in cpu.read_text().splitlines() if line.startswith(("flags", "Features"))][:1]
        if cpu.exists()
        else platform.processor()
    )
    folder = home / "mcss_jax" / f"{name}-jax{jax.__version__}-{zlib.crc32(str(features).encode()):08x}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(f"{folder} is open to other users; expected mode 0700: chmod it")
    return folder


def trim(folder: Path, most_bytes: int = MOST_BYTES) -> None:
    """Removes the oldest files until the folder's size is at most `most_bytes`."""
    # Another program may trim at the same time: a file that has gone is no error.
    sizes = []
    for file in folder.iterdir():
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        sizes.append((status.st_mtime, status.st_size, file))
    excess = sum(size for _, size, _ in sizes) - most_bytes
    for _, size, file in sorted(sizes):
        if excess <= 0:
            break
        excess -= size
        file.unlink(missing_ok=True)


def enable() -> Path:
    """Makes JAX use the private folder, unless a cache was chosen already (`JAX_COMPILATION_CACHE_DIR`).

    Returns the folder in use. Raises as `private_folder`.
    """
    if chosen := jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        return Path(chosen)
    folder = private_folder()
    trim(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return folder
