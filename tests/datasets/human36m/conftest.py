"""A miniature Human3.6M, written once: only read it."""

from pathlib import Path

import pytest

from tests.distributions import human36m


@pytest.fixture(scope="session")
def human36m_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """S1, S5 and S9, Sitting 1 and SittingDown, with everything that may be there."""
    folder = tmp_path_factory.mktemp("human36m")
    human36m.write(folder, human36m.Distribution(mono=True, flat=True, masks=True))
    return folder
