"""Flags from a frozen dataclass and back: one definition of a setting, one value to hand to the library."""

import sys
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

from launch.cli import compilation_cache, cpu, options, out_of_memory

Config = TypeVar("Config")


def define(config: type, parser: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for every setting: bool, int, float, str, Literal (an enum) and `X | None`."""
    for name, one in options.options(config).items():
        hint, default = one.hint, one.default
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if typing.get_origin(hint) is typing.Literal:
            choices = [str(choice) for choice in typing.get_args(hint)]
            flags.DEFINE_enum(name, str(default), choices, one.meaning, flag_values=parser)
        elif hint is bool:
            flags.DEFINE_boolean(name, default, one.meaning, flag_values=parser)
        elif hint is int:
            flags.DEFINE_integer(name, default, one.meaning, flag_values=parser)
        elif hint is float:
            flags.DEFINE_float(name, default, one.meaning, flag_values=parser)
        else:
            flags.DEFINE_string(name, default, one.meaning, flag_values=parser)


def parsed(config: type[Config], parser: flags.FlagValues = flags.FLAGS) -> Config:
    """The configuration that the parsed flags describe."""
    given = {}
    for name, one in options.options(config).items():
        value: Any = parser[name].value
        if typing.get_origin(one.hint) is typing.Literal and isinstance(typing.get_args(one.hint)[0], int):
            value = int(value)
        given[name] = value
    return options.build(config, **given)


def from_file(config: type[Config], file: Path, **overrides: Any) -> Config:
    """The configuration of a flag file, as `--flagfile` would give it, with some settings replaced.

    Raises FileNotFoundError when there is no such file, ValueError for a flag that does not exist or a bad value.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no flag file {file}")
    parser = flags.FlagValues()
    define(config, parser)
    flags.DEFINE_string("flagfile", "", "", flag_values=parser)
    try:
        parser(["", f"--flagfile={file}"])
    except flags.Error as error:
        raise ValueError(f"{file}: {error}") from error
    return options.replace(parsed(config, parser), **overrides)


def help_text(config: type, program: str, description: str) -> str:
    """What `--help` prints: the description, then every flag under its group, with choices and default."""
    groups: dict[str, list[str]] = {}
    for name, one in options.options(config).items():
        hint, choices = one.hint, ""
        if typing.get_origin(hint) is typing.Literal:
            choices = "|".join(str(choice) for choice in typing.get_args(hint))
        elif hint is not bool:
            base = (
                hint
                if isinstance(hint, type)
                else next(t for t in typing.get_args(hint) if t is not type(None))
            )
            choices = {int: "INTEGER", float: "NUMBER"}.get(base, "TEXT")
        head = f"  --[no]{name}" if hint is bool else f"  --{name}={choices}"
        default = "" if one.default in (None, "") else f" (default: {one.default})"
        body = textwrap.fill(one.meaning + default, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
        groups.setdefault(one.group, []).append(f"{head}\n{body}")
    sections = [f"{group}:\n" + "\n".join(lines) for group, lines in groups.items()]
    general = "General:\n  --flagfile=FILE\n      Reads flags from a file, one a line; # starts a comment."
    return (
        "\n\n".join([description.strip(), f"usage: python -m {program} [flags]", *sections, general]) + "\n"
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
