"""Strict settings for every test: several fake CPU devices, no silent broadcasting, no reused random keys."""

import importlib.metadata
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CACHE_BYTES = 1 << 30


def _before_jax_starts() -> None:
    """JAX reads these once, when its first array is made."""
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


_before_jax_starts()

import jax  # noqa: E402  (after the environment is set)
import pytest  # noqa: E402
from absl import flags  # noqa: E402

from launch.cli import compilation_cache  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

# Outside an absl program nobody parses the command line, and libraries that read flags would stop.
flags.FLAGS.mark_as_parsed()


def pytest_configure(config: pytest.Config) -> None:
    folder = compilation_cache.private_folder("xla-tests")
    if not hasattr(config, "workerinput"):  # once, not in every xdist worker
        compilation_cache.trim(folder, CACHE_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", compilation_cache.LEAST_SECONDS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without_gpu = pytest.mark.skip(reason="no GPU in use: run with JAX_PLATFORMS=cuda where there is one")
    for item in items:
        if item.get_closest_marker("gpu") and os.environ["JAX_PLATFORMS"] == "cpu":
            item.add_marker(without_gpu)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings beside the repository; the test skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there: this test needs its real recordings")
    return SHARED


@pytest.fixture(scope="session")
def prepared_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data_dir that holds `synthetic_multiview/tiny`, prepared once for all tests: only read it."""
    from launch.preparation import prepare

    data_dir = tmp_path_factory.mktemp("prepared_tiny")
    prepare.prepare(prepare.Prepare(dataset="synthetic_multiview/tiny", data_dir=str(data_dir)))
    return data_dir
