"""Flags from a frozen dataclass and back: one definition of a setting, one value to hand to the library."""

import os
import sys
import textwrap
import traceback
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import jax
from absl import app, flags, logging

from launch.cli import compilation_cache, cpu, options, out_of_memory
from mcss_jax.errors import UserError, is_mendable
from mcss_jax.setting import AUTO, CountOrAuto

Config = TypeVar("Config")
# The exit code of a program that has met a fault of its own.
DEFECT = 2
# What the libraries below can hold of a whole number.
LARGEST = 1 << 63


def define(config: type, parser: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for every setting: bool, int, float, str, Literal (an enum), `X | None`, texts."""
    for name, setting in options.options(config).items():
        hint, default = setting.hint, setting.default
        if hint == CountOrAuto:
            flags.DEFINE(_CountOrAuto(), name, default, setting.meaning, flag_values=parser)
            continue
        if hint == options.Texts:
            flags.DEFINE_multi_string(name, list(default), setting.meaning, flag_values=parser)
            continue
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        if typing.get_origin(hint) is typing.Literal:
            choices = [str(choice) for choice in typing.get_args(hint)]
            flags.DEFINE_enum(name, str(default), choices, setting.meaning, flag_values=parser)
        elif hint is bool:
            flags.DEFINE_boolean(name, default, setting.meaning, flag_values=parser)
        elif hint is int:
            flags.DEFINE_integer(name, default, setting.meaning, flag_values=parser)
        elif hint is float:
            flags.DEFINE_float(name, default, setting.meaning, flag_values=parser)
        else:
            flags.DEFINE_string(name, default, setting.meaning, flag_values=parser)


class _CountOrAuto(flags.ArgumentParser):
    """Reads a whole number, or `auto`."""

    def parse(self, argument: Any) -> int | str:
        """The number, or the word. Raises ValueError for anything else, as absl asks."""
        if argument == AUTO:
            return AUTO
        try:
            return int(argument)
        except ValueError as error:
            raise ValueError(f"expected a whole number, or {AUTO}") from error

    def flag_type(self) -> str:
        """As absl's own `--helpxml` names it."""
        return f"int or {AUTO}"


def parsed(config: type[Config], parser: flags.FlagValues = flags.FLAGS) -> Config:
    """The configuration that the parsed flags describe.

    Raises UserError for text that can name nothing, and for numbers that nothing can hold.
    """
    by_name = {}
    for name, setting in options.options(config).items():
        value: Any = parser[name].value
        if setting.hint == options.Texts:
            value = tuple(value)
        if isinstance(value, str) and setting.hint != CountOrAuto:
            _check_text(name, value)
        elif isinstance(value, int) and abs(value) >= LARGEST:
            raise UserError(f"--{name}={value}; expected a whole number of at most 64 bits")
        if typing.get_origin(setting.hint) is typing.Literal and isinstance(
            typing.get_args(setting.hint)[0], int
        ):
            value = int(value)
        by_name[name] = value
    return options.build(config, **by_name)


def _check_text(name: str, value: str) -> None:
    """No file has such a name, or nobody such a home folder: it is said here once, for all flags."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise UserError(
            f"--{name}={value!r} is not text in UTF-8; rename what it names, or give another name"
        )
    for part in value.split(","):
        try:
            Path(part).expanduser()
        except RuntimeError as error:  # the name after `~` is nobody's, or nobody knows whose process this is
            raise UserError(
                f"--{name}={value}: there is no home folder {Path(part).parts[0]}; write the path in full"
            ) from error


def from_file(config: type[Config], file: Path, **overrides: Any) -> Config:
    """The configuration of a flag file, as `--flagfile` would give it, with some settings replaced.

    Raises UserError when there is no such file, for a flag that does not exist and a bad value.
    """
    return options.replace(parsed(config, _parser_of(config, file)), **overrides)


def named_in(config: type[Config], file: Path) -> dict[str, Any]:
    """The settings that a flag file names, or a flag file in it, with the values that it gives them.

    Raises UserError as `from_file`.
    """
    parser = _parser_of(config, file)
    values = options.values(parsed(config, parser))
    return {name: value for name, value in values.items() if parser[name].present}


def _parser_of(config: type, file: Path) -> flags.FlagValues:
    if not file.is_file():
        raise UserError(f"there is no flag file {file}")
    parser = flags.FlagValues()
    define(config, parser)
    flags.DEFINE_string("flagfile", "", "", flag_values=parser)
    try:
        parser(["", f"--flagfile={file}"])
    except (flags.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {error}") from error
    return parser


def help_text(config: type, program: str, description: str) -> str:
    """What `--help` prints: the description, then every flag under its group, with choices and default."""
    groups: dict[str, list[str]] = {}
    for name, setting in options.options(config).items():
        hint, choices = setting.hint, ""
        if typing.get_origin(hint) is typing.Literal:
            choices = "|".join(str(choice) for choice in typing.get_args(hint))
        elif hint == CountOrAuto:
            choices = f"INTEGER|{AUTO}"
        elif hint == options.Texts:
            choices = "TEXT"
        elif hint is not bool:
            base = (
                hint
                if isinstance(hint, type)
                else next(t for t in typing.get_args(hint) if t is not type(None))
            )
            choices = {int: "INTEGER", float: "NUMBER"}.get(base, "TEXT")
        head = f"  --[no]{name}" if hint is bool else f"  --{name}={choices}"
        default = "" if setting.default in (None, "", ()) else f" (default: {setting.default})"
        body = textwrap.fill(
            setting.meaning + default, 100, initial_indent=" " * 6, subsequent_indent=" " * 6
        )
        groups.setdefault(setting.group, []).append(f"{head}\n{body}")
    sections = [f"{group}:\n" + "\n".join(lines) for group, lines in groups.items()]
    general = "General:\n  --flagfile=FILE\n      Reads flags from a file, one a line; # starts a comment."
    return (
        "\n\n".join([description.strip(), f"usage: python -m {program} [flags]", *sections, general]) + "\n"
    )


def run(config: type[Config], program: str, description: str, main: Callable[[Config], None]) -> None:
    """Runs a program: flags, `main`, and one clear sentence with exit code 1 for what users can put right.

    Anything else is a defect: its traceback, a line that says so, and exit code 2.
    """
    name = program.split(".")[-1]
    if any(argument in ("--help", "-h", "-help", "--h") for argument in sys.argv[1:]):
        print(help_text(config, program, description), end="")
        return
    define(config)

    def start(argv: Sequence[str]) -> None:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # absl's own default shows every library's INFO lines
        try:
            if len(argv) > 1:
                raise UserError(f"unexpected argument {argv[1]!r}; settings are flags: --name=value")
            cpu.prepare()
            _use_cache()
            settings = parsed(config)
            main(settings)
        except Exception as error:
            if is_mendable(error):
                sys.exit(f"{name}: error: {sentence(error)}")
            if out_of_memory.exhausted(error):
                sys.exit(f"{name}: error: {out_of_memory.sentence(error, settings)}")
            if without_devices := _without_devices():
                sys.exit(f"{name}: error: {without_devices}")
            traceback.print_exc()
            print(defect(name, error), file=sys.stderr, flush=True)
            sys.exit(DEFECT)

    app.run(start, flags_parser=lambda argv: _parse(argv, name))


def defect(name: str, error: Exception) -> str:
    """What is said below the traceback of a program's own fault."""
    return (
        f"{name}: defect: this is a fault of the program, not of your input ({type(error).__name__}); please report "
        "it with the lines above"
    )


def _without_devices() -> str:
    """What is wrong with JAX_PLATFORMS where JAX finds no device of that name; empty where it does.

    JAX looks at its first use, wherever that is, and says it by exceptions of several kinds.
    """
    platforms = os.environ.get("JAX_PLATFORMS")
    if not platforms or jax.distributed.is_initialized():
        return ""
    try:
        jax.devices()
    except Exception as error:
        detail = f" ({sentence(error)})" if str(error) else ""
        return (
            f"JAX_PLATFORMS={platforms}: JAX finds no such device here{detail}; name another, or leave it out"
        )
    return ""


def _use_cache() -> None:
    """What an earlier start compiled need not be compiled again; a program runs without that, too, and says so."""
    try:
        compilation_cache.enable()
    except (UserError, OSError) as error:
        print(f"without a compilation cache: {sentence(error)}", file=sys.stderr)


def _parse(argv: Sequence[str], name: str) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except (flags.Error, UnicodeDecodeError) as error:  # the latter of a --flagfile
        sys.exit(f"{name}: error: {sentence(error)}; --help lists the flags")


def sentence(error: Exception) -> str:
    """An error as one line; the operating system's own errors name their file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())
