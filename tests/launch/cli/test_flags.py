"""One dataclass, its flags, its help and its refusals."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

import pytest
from absl import flags as absl_flags

from launch.cli import flags, options
from launch.cli.options import option
from mcss_jax.errors import UserError
from tests.launch import command_line
from tests.refusals import refused


@dataclasses.dataclass(frozen=True)
class Config:
    name: str = option("a", "A name.", "First")
    size: int = option(3, "A size.", "First")
    rate: float = option(0.5, "A rate.", "Second")
    fast: bool = option(False, "Whether.", "Second")
    depth: Literal[18, 34] = option(18, "Depth.", "Second")
    kind: Literal["x", "y"] = option("x", "Kind.", "Second")
    most: int | None = option(None, "At most.", "Second")
    folder: str = option("here", "A folder.", "Third", changeable=True)


def parse(*arguments: str) -> Config:
    values = absl_flags.FlagValues()
    flags.define(Config, values)
    values(["program", *arguments])
    return flags.parsed(Config, values)


def test_defaults_and_values() -> None:
    assert parse() == Config()
    actual = parse(
        "--name=b",
        "--size=4",
        "--rate=1e-3",
        "--fast",
        "--depth=34",
        "--kind=y",
        "--most=9",
        "--folder=there",
    )
    assert actual == Config("b", 4, 1e-3, True, 34, "y", 9, "there")
    assert type(actual.depth) is int
    assert parse("--nofast") == Config()


def test_help_is_complete_and_grouped() -> None:
    text = flags.help_text(Config, "launch.thing", "Does a thing.")
    assert text.startswith("Does a thing.\n\nusage: python -m launch.thing [flags]")
    places = [text.index(group) for group in ("First:", "Second:", "Third:", "General:")]
    assert places == sorted(places)
    for field in dataclasses.fields(Config):
        assert field.metadata["meaning"] in text and f"{field.name}" in text
    for shown in ("--size=INTEGER", "--rate=NUMBER", "--name=TEXT", "--[no]fast", "--depth=18|34", "--kind=x|y",
                  "--most=INTEGER", "(default: 0.5)", "--flagfile=FILE"):  # fmt: skip
        assert shown in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_other_settings_are_refused_with_the_list(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(options.to_json(Config()))
    options.refuse_differences(Config(folder="elsewhere"), file)
    with pytest.raises(UserError, match="another --workdir") as actual:
        options.refuse_differences(Config(size=4, kind="y"), file)
    assert "Differences: --kind: 'x' before, 'y' now; --size: 3 before, 4 now" in str(actual.value)
    # A setting younger than the file had its default; one that is gone is a difference.
    older = {name: value for name, value in json.loads(file.read_text()).items() if name != "rate"}
    file.write_text(json.dumps(older))
    options.refuse_differences(Config(), file)
    file.write_text(json.dumps({**older, "gone": 1}))
    with refused("--gone", "1", "'unknown'", "--rate", "0.5", "0.6"):
        options.refuse_differences(Config(rate=0.6), file)


@pytest.mark.parametrize("content", ["{", "[1]", ""])
def test_a_damaged_configuration_names_its_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(content)
    with pytest.raises(UserError, match="config.json is not readable as a configuration"):
        options.refuse_differences(Config(), file)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (PermissionError(13, "Permission denied", "/x/y"), "Permission denied: /x/y"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (FileNotFoundError("the data set is not prepared"), "the data set is not prepared"),
    ],
)
def test_an_error_is_one_sentence(error: Exception, expected: str) -> None:
    assert flags.sentence(error) == expected


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, raising: Exception | None = None) -> list[Config]:
    """Runs a program as from the command line, over flags of its own."""
    actual: list[Config] = []

    def main(config: Config) -> None:
        if raising is not None:
            raise raising
        actual.append(config)

    command_line.run(monkeypatch, Config, main, *arguments)
    return actual


def test_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--size=4") == [Config(size=4)]
    assert run(monkeypatch, "--size=x", "--help") == []
    assert capsys.readouterr().out.startswith("Does a thing.")


@pytest.mark.parametrize(
    ("arguments", "raising", "message"),
    [
        (["--sise=4"], None, "thing: error: Unknown command line flag 'sise'"),
        (["--size=four"], None, "thing: error: flag --size=four"),
        (["--depth=19"], None, "thing: error: flag --depth=19: value should be one of <18|34>"),
        (["--flagfile=/nowhere"], None, "thing: error: .*/nowhere"),
        (["stray"], None, "thing: error: unexpected argument 'stray'; settings are flags: --name=value"),
        ([], UserError("a\nb"), "thing: error: a b"),
        ([], PermissionError(13, "Permission denied", "/x"), "thing: error: Permission denied: /x"),
    ],
)
def test_what_users_can_put_right_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], raising: Exception | None, message: str
) -> None:
    with pytest.raises(SystemExit, match=message) as actual:
        run(monkeypatch, *arguments, raising=raising)
    # A string as the exit code: Python prints it to stderr and exits with 1.
    assert isinstance(actual.value.code, str) and "\n" not in actual.value.code
