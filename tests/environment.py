"""What every test runs under; to be set before JAX is imported."""

import importlib.metadata
import os


def prepare() -> None:
    """Four imitated CPU devices, a compiler in a hurry, no window for plots; what is set already stays."""
    # The suite means the same on every machine; GPU tests are asked for with JAX_PLATFORMS=cuda.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_force_host_platform_device_count" not in flags:
        flags = f"{flags} --xla_force_host_platform_device_count=4"
    # Tests compile much and compute little: the two halve their time without a compilation cache.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    if importlib.metadata.version("jaxlib").startswith("0.10.") and "use_fusion_emitters" not in flags:
        flags = f"{flags} --xla_cpu_use_fusion_emitters=false"  # newer ones end the program at this flag
    os.environ["XLA_FLAGS"] = flags.strip()
    os.environ.setdefault("MPLBACKEND", "agg")
