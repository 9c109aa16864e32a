"""Flags from a frozen dataclass and back: one definition of a setting, one value to hand to the library."""

import dataclasses
import json
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

from launch.cli import compilation_cache, cpu, out_of_memory

Config = TypeVar("Config")


def option(default: Any, help_text: str, group: str, *, changeable: bool = False) -> Any:
    """A dataclass field that becomes a flag.

    `group` is its heading in `--help`. `changeable` settings do not decide the result (folders, intervals): a
    run may be resumed under another value.
    """
    return dataclasses.field(
        default=default, metadata={"help": help_text, "group": group, "changeable": changeable}
    )


def _fields(config: type) -> list[tuple[dataclasses.Field, Any]]:
    hints = typing.get_type_hints(config)
    return [(field, hints[field.name]) for field in dataclasses.fields(config)]


def define(config: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for every field: bool, int, float, str, Literal (an enum) and `X | None`."""
    for field, hint in _fields(config):
        name, text = field.name, field.metadata["help"]
        default: Any = field.default
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if typing.get_origin(hint) is typing.Literal:
            choices = [str(choice) for choice in typing.get_args(hint)]
            flags.DEFINE_enum(name, str(default), choices, text, flag_values=values)
        elif hint is bool:
            flags.DEFINE_boolean(name, default, text, flag_values=values)
        elif hint is int:
            flags.DEFINE_integer(name, default, text, flag_values=values)
        elif hint is float:
            flags.DEFINE_float(name, default, text, flag_values=values)
        else:
            flags.DEFINE_string(name, default, text, flag_values=values)


def parsed(config: type[Config], values: flags.FlagValues = flags.FLAGS) -> Config:
    """The dataclass that the parsed flags describe."""
    found = {}
    for field, hint in _fields(config):
        value: Any = values[field.name].value
        if typing.get_origin(hint) is typing.Literal and isinstance(typing.get_args(hint)[0], int):
            value = int(value)
        found[field.name] = value
    return config(**found)


def from_file(config: type[Config], file: Path, **overrides: Any) -> Config:
    """The configuration of a flag file, as `--flagfile` would give it, with some settings replaced.

    Raises FileNotFoundError when there is no such file, ValueError for a flag that does not exist or a bad value.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no flag file {file}")
    values = flags.FlagValues()
    define(config, values)
    flags.DEFINE_string("flagfile", "", "", flag_values=values)
    try:
        values(["", f"--flagfile={file}"])
    except flags.Error as error:
        raise ValueError(f"{file}: {error}") from error
    return dataclasses.replace(parsed(config, values), **overrides)  # type: ignore[type-var]


def help_text(config: type, program: str, description: str) -> str:
    """What `--help` prints: the description, then every flag under its group, with choices and default."""
    groups: dict[str, list[str]] = {}
    for field, hint in _fields(config):
        choices = ""
        if typing.get_origin(hint) is typing.Literal:
            choices = "|".join(str(choice) for choice in typing.get_args(hint))
        elif hint is not bool:
            base = (
                hint
                if isinstance(hint, type)
                else next(t for t in typing.get_args(hint) if t is not type(None))
            )
            choices = {int: "INTEGER", float: "NUMBER"}.get(base, "TEXT")
        head = f"  --[no]{field.name}" if hint is bool else f"  --{field.name}={choices}"
        default = "" if field.default in (None, "") else f" (default: {field.default})"
        body = textwrap.fill(
            field.metadata["help"] + default, 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        groups.setdefault(field.metadata["group"], []).append(f"{head}\n{body}")
    sections = [f"{group}:\n" + "\n".join(lines) for group, lines in groups.items()]
    general = "General:\n  --flagfile=FILE\n      Reads flags from a file, one a line; # starts a comment."
    return (
        "\n\n".join([description.strip(), f"usage: python -m {program} [flags]", *sections, general]) + "\n"
    )


def to_json(config: Any) -> str:
    """A configuration as JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def differences(config: Any, stored: Mapping[str, Any]) -> list[str]:
    """Settings in which a stored configuration differs, `changeable` ones aside: `--seed: 0 before, 1 now`."""
    fields = dataclasses.fields(config)
    changeable = {field.name for field in fields if field.metadata.get("changeable")}
    # A setting that is younger than what is stored had, in effect, its default.
    before = {field.name: field.default for field in fields} | dict(stored)
    now = dataclasses.asdict(config)
    return [
        f"--{name}: {before[name]!r} before, {now.get(name, 'unknown')!r} now"
        for name in sorted(set(before) - changeable)
        if name not in now or before[name] != now[name]
    ]


def refuse_differences(config: Any, file: Path) -> None:
    """Compares with the configuration in `file`.

    Raises ValueError with the list of differences, `changeable` settings aside.
    """
    try:
        stored = dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is not readable as a configuration: {error}") from error
    found = differences(config, stored)
    if found:
        raise ValueError(
            f"{file.parent} holds a run with other settings; use the same flags or another --workdir. "
            f"Differences: {'; '.join(found)}"
        )


def run(config: type[Config], program: str, description: str, main: Callable[[Config], None]) -> None:
    """Runs a program: flags, `main`, and one clear sentence with exit code 1 for what users can put right."""
    if any(argument in ("--help", "-h", "-help", "--h") for argument in sys.argv[1:]):
        print(help_text(config, program, description), end="")
        return
    define(config)

    def start(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # absl's own default shows every library's INFO lines
        try:
            if len(argv) > 1:
                raise ValueError(f"unexpected argument {argv[1]!r}; settings are flags: --name=value")
            cpu.prepare()
            _use_cache()
            settings = parsed(config)
            main(settings)
        except (ValueError, OSError) as error:
            sys.exit(f"{program.split('.')[-1]}: error: {sentence(error)}")
        except jax.errors.JaxRuntimeError as error:
            if not out_of_memory.exhausted(error):
                raise
            sys.exit(f"{program.split('.')[-1]}: error: {out_of_memory.sentence(error, settings)}")

    app.run(start, flags_parser=lambda argv: _parse(argv, program))


def _use_cache() -> None:
    """What an earlier start compiled need not be compiled again; a program runs without that, too, and says so."""
    try:
        compilation_cache.enable()
    except OSError as error:
        print(f"without a compilation cache: {sentence(error)}", file=sys.stderr)


def _parse(argv: Sequence[str], program: str) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        sys.exit(f"{program.split('.')[-1]}: error: {sentence(error)}; --help lists the flags")


def sentence(error: Exception) -> str:
    """An error as one line; the operating system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
