"""How the runs of a study were made and judged: its protocol card, and the commands that make it again."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from launch.cli import options
from launch.pages import page
from launch.pages.page import Section
from launch.runs import settings
from launch.studies import plan
from launch.studies.results import Line, key_of
from launch.studies.study import Study

_BASE = "base.flags"
# What the card says of the lines, and the name that it has there.
_CARD = {
    "split": "split",
    "people": "subjects",
    "views": "views",
    "fingerprint of the data": "fingerprint",
    "hardware": "hardware",
    "revision": "revision",
}


def section(lines: Sequence[Line]) -> Section:
    """The protocol card: how the finished runs were judged and made, and the settings that their methods start from."""
    finished = [line for line in lines if line["status"] == "finished"]
    rows = [[f"--{name}", str(value)] for name, value in finished[0]["judged"].items()]
    rows += [
        [heading, _words(line[name] for line in finished if name in line)] for heading, name in _CARD.items()
    ]
    seconds = [line.get("wall_seconds") for line in finished]
    measured = [value for value in seconds if value is not None]
    rows.append(["training time", f"{sum(measured) / 3600:.2f} h of {len(measured)} runs"])
    base = [text[2:].partition("=") for text in options.arguments(base_of(finished))]
    return Section(
        "Protocol of the study",
        "What a reader must know to compare these figures with others. Settings that are not named have the defaults.",
        page.table("Judging and training", ["", "value"], rows, "words")
        + page.table("Settings", ["", "value"], [[name, value or "yes"] for name, _, value in base], "words"),
    )


def commands(lines: Sequence[Line]) -> list[str]:
    """What makes the study again: the flag file that its methods start from, and a command for each of its grids."""
    finished = [line for line in lines if line["status"] == "finished"]
    # A run's folder is WORKDIR/runs/NAME.
    workdir = str(Path(str(finished[0]["configuration"].get("workdir", ""))).parent.parent)
    judged = finished[0]["judged"]
    shell_commands = [f"cat > {_BASE} <<'END'\n" + "\n".join([*options.arguments(base_of(finished)), "END"])]
    own = _own_files(finished)
    shell_commands += [
        f"cat > {file} <<'END'\n" + "\n".join([*content, "END"]) for file, content in own.values()
    ]
    for grid in plan.grids_of([key_of(line) for line in lines]):
        config = Study(
            base=_BASE,
            workdir=workdir,
            methods=",".join(grid.methods),
            amounts=" ".join(grid.amounts),
            seeds=",".join(map(str, grid.seeds)),
            settings=tuple(f"{name}:{own[name][0]}" for name in grid.methods if name in own),
            **{field.name: judged[field.name] for field in dataclasses.fields(Study) if field.name in judged},
        )
        shell_commands.append(options.command("launch.study", config))
    return shell_commands


def _own_files(finished: Sequence[Line]) -> dict[str, tuple[str, list[str]]]:
    """By method, the flag file of its own settings and the lines of it."""
    files: dict[str, tuple[str, list[str]]] = {}
    for line in finished:
        values = {name: line["configuration"][name] for name in line.get("settings", ())}
        if values:
            content = [options.argument(name, value) for name, value in values.items()]
            files[line["method"]] = (f"{line['method']}.flags", content)
    return files


def base_of(finished: Sequence[Line]) -> settings.Train:
    """The settings that the methods start from: of each, the value in a run whose method does not set it."""
    names = options.options(settings.Train).keys() - {"labelled", "seed", "workdir"}
    base: dict[str, Any] = {}
    for line in finished:
        of_method = {*plan.METHODS.get(line["method"], {}), *line.get("settings", ())}
        for name in (names - of_method) & line["configuration"].keys():
            base.setdefault(name, line["configuration"][name])
    return options.build(settings.Train, **base)


def _words(values: Iterable[Any]) -> str:
    """Different values, each said once."""
    return "; ".join(dict.fromkeys(map(_word, values)))


def _word(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_word(part)}" for name, part in value.items())
    return ", ".join(map(_word, value)) if isinstance(value, list) else str(value)
