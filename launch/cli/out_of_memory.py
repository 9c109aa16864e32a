"""What JAX says when a device has no memory left, in a sentence that names what to lower."""

from typing import Any

import jax

from launch.cli import options

# Settings that decide how much is held at a time; a program names those that it has.
LOWER = ("batch", "labelled_batch", "blocks", "image_size", "stream_size", "width")


def exhausted(error: Exception) -> bool:
    """Whether an error of JAX says that the device has no memory left, while compiling or running."""
    return "RESOURCE_EXHAUSTED" in str(error)


def free_bytes(device: jax.Device) -> int | None:
    """Memory that can still be had on a device; None where its platform does not tell."""
    found = device.memory_stats() or {}
    limit = found.get("bytes_limit")
    return None if limit is None else limit - found.get("bytes_in_use", 0)


def sentence(error: Exception, config: Any) -> str:
    """`out of device memory (what JAX said of it, if more); lower --batch, or ...`, for the settings of any program."""
    # The rest of a long report are tables of what was allocated.
    said = str(error).partition("RESOURCE_EXHAUSTED")[2].lstrip(": ").split("\n")[0].rstrip(". ")
    reason = f" ({said})" if said else ""
    given = options.values(config)
    names = [f"--{name}" for name in LOWER if name in given and name not in _without_effect(given)]
    lower = f"lower {' or '.join(names)}, or " if names else ""
    processor = "" if jax.default_backend() == "cpu" else ", or the processor: JAX_PLATFORMS=cpu"
    return f"out of device memory{reason}; {lower}use a device with more{processor}"


def _without_effect(given: dict[str, Any]) -> set[str]:
    """Settings of training that its other settings leave without effect."""
    picture = "image_size" if given.get("stream") else "stream_size"
    return {picture, "blocks"} if given.get("method") == "baseline" else {picture}
