"""What is said when a device, or the machine, has no memory left: a sentence that names what to lower."""

from typing import Any

import jax

from launch.cli import options
from mcss_jax.setting import Role


def exhausted(error: Exception) -> bool:
    """Whether the machine has no memory left, or, as JAX says, a device, while compiling or running."""
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" in str(error)
    return isinstance(error, MemoryError)


def free_bytes(device: jax.Device) -> int | None:
    """Memory that can still be had on a device; None where its platform does not tell."""
    memory = device.memory_stats() or {}
    limit = memory.get("bytes_limit")
    return None if limit is None else limit - memory.get("bytes_in_use", 0)


def sentence(error: Exception, config: Any) -> str:
    """`out of device memory (what JAX said of it, if more); lower --batch, or ...`, for the settings of any program."""
    if isinstance(error, MemoryError):
        detail = f" ({' '.join(str(error).split())})" if str(error) else ""
        return f"out of memory{detail}; {_lower(config)}use a machine with more"
    # The rest of a long report are tables of what was allocated.
    detail = str(error).partition("RESOURCE_EXHAUSTED")[2].lstrip(": ").split("\n")[0].rstrip(". ")
    reason = f" ({detail})" if detail else ""
    processor = "" if jax.default_backend() == "cpu" else ", or the processor: JAX_PLATFORMS=cpu"
    return f"out of device memory{reason}; {_lower(config)}use a device with more{processor}"


def _lower(config: Any) -> str:
    without_effect = _without_effect(config)
    names = [
        f"--{name}" for name in options.with_role(type(config), Role.MEMORY) if name not in without_effect
    ]
    return f"lower {' or '.join(names)}, or " if names else ""


def _without_effect(config: Any) -> set[str]:
    """Settings of training that its other settings leave without effect."""
    settings = options.values(config)
    picture = "image_size" if settings.get("stream") else "stream_size"
    size = "width" if settings.get("encoder") == "vit" else "vit_size"
    unread = options.with_role(type(config), Role.METHOD) if settings.get("method") == "baseline" else []
    return {picture, size, *unread}
