"""Strict settings for every test: several fake CPU devices, no silent broadcasting, no reused random keys."""

import os
from pathlib import Path

from tests import environment

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
CACHE_BYTES = 1 << 30

environment.prepare()

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
