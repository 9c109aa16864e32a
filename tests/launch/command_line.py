"""A program as from the command line, in this process."""

from collections.abc import Callable
from typing import Any

import pytest
from absl import flags as absl_flags

from launch.cli import flags


def run(monkeypatch: pytest.MonkeyPatch, config: type, main: Callable[[Any], None], *arguments: str) -> None:
    """`flags.run` over flags of its own."""
    values: Any = absl_flags.FlagValues()
    absl_flags.DEFINE_integer("verbosity", -1, "absl's own.", flag_values=values)
    monkeypatch.setattr(flags.cpu, "prepare", lambda: None)  # it is for the whole process
    monkeypatch.setattr("sys.argv", ["thing", *arguments])
    monkeypatch.setattr(flags.flags, "FLAGS", values)
    monkeypatch.setattr(flags.define, "__defaults__", (values,))
    monkeypatch.setattr(flags.parsed, "__defaults__", (values,))
    # absl's own part ends the process, so it is left out: parse, then start.
    monkeypatch.setattr(
        flags.app, "run", lambda start, flags_parser: start(flags_parser(["thing", *arguments]))
    )
    flags.run(config, "launch.thing", "Does a thing.", main)
