"""A run's folder, opened again: what is told of folders and files that are something else."""

from pathlib import Path

import pytest

from launch.cli import options
from launch.runs import run_folder, settings
from mcss_jax.errors import UserError
from mcss_jax.storage import loading
from tests.refusals import refused


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Settings and card of a run, which are read before any checkpoint is."""
    (tmp_path / "config.json").write_text(options.to_json(settings.Train()))
    (tmp_path / "card.json").write_text('{"image_size": 64}')
    return tmp_path


def test_opening_what_is_no_run(run: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        run_folder.open_run(run)
    (run / "card.json").unlink()
    with pytest.raises(UserError, match="is not the folder of a run: it has no card.json"):
        run_folder.open_run(run)
    (run / "config.json").unlink()
    with pytest.raises(UserError, match="is not the folder of a run .*--workdir="):
        run_folder.open_run(run)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable as JSON"),
        ("[]", "holds a list; a JSON object was expected"),
        ('{"old": 1}', r"of another version of this program: it has settings \['old'\]"),
        ('{"learning_rate": "fast"}', "config.json has learning_rate 'fast'; expected a value of type float"),
        (
            '{"optimiser": {"learning_rate": "fast"}}',
            "has learning_rate 'fast'; expected a value of type float",
        ),
        ('{"network": {"colour": 1}}', r"it has settings \['network.colour'\]"),
        ('{"steps": true}', "config.json has steps True; expected a value of type int"),
        ('{"cache": "disk"}', "config.json has cache 'disk'; expected one of none, device"),
    ],
)
def test_settings_that_no_run_has(content: str, message: str, run: Path) -> None:
    (run / "config.json").write_text(content)
    with pytest.raises(UserError, match=message):
        run_folder.open_run(run)


@pytest.mark.parametrize("size", ["0", "-64", "true", "100000", '"64"', "null"])
def test_sizes_that_no_picture_has(size: str, run: Path) -> None:
    (run / "card.json").write_text(f'{{"image_size": {size}}}')
    for opened in (run_folder.open_run, loading.load):
        with refused("card.json", "image_size", "1", "4096"):
            opened(run)
