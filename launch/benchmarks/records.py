"""The figures of launch.benchmark as JSON lines, and their ratios to those of another time or machine."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from launch.benchmarks.timing import Row
from launch.cli import options
from launch.runs import provenance
from mcss_jax.errors import UserError

# Settings that say how figures are kept and shown, not what is measured.
SHOWN = ("output", "compare", "plot", "profile", "workdir", "data_dir", "suite")
CONDITIONS = ("device", "platform", "devices", "cores", "versions", "revision")

Record = dict[str, Any]


def conditions(config: Any) -> Record:
    """What the figures depend on: machine, versions, revision of this code, settings."""
    return {
        **provenance.machine(),
        "versions": provenance.versions(),
        "revision": provenance.revision(),
        "settings": options.values(config),
    }


def records(suite: str, rows: Sequence[Row], config: Any) -> list[Record]:
    """One record a row."""
    context = conditions(config)
    return [{"suite": suite, **row.figures_of(), **context} for row in rows]


def append(path: str, entries: Iterable[Record]) -> None:
    """Appends one JSON line a record. Raises OSError when the file cannot be written."""
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in entries)


def read(path: str) -> list[Record]:
    """Records of a file that `append` wrote.

    Raises UserError when there is none, naming the line that is no record.
    """
    if not Path(path).is_file():
        raise UserError(f"--compare={path}: there is no such file; give the --output of an earlier run")
    parsed = []
    for number, line in enumerate(Path(path).read_bytes().decode(errors="replace").splitlines(), start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or not {"suite", "name", "per_second"} <= set(record):
                raise ValueError("suite, name or per_second is missing")
            if not isinstance(record["per_second"], int | float) or not record["per_second"] > 0:
                raise ValueError("per_second is no number above 0")
            if not isinstance(record.get("settings", {}), dict):
                raise ValueError("settings is no object")
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}, is not a figure of launch.benchmark ({error}); give a file that --output wrote"
            ) from error
        parsed.append(record)
    return parsed


def differences(now: Record, before: Record) -> list[str]:
    """Conditions and settings in which two records differ: `cores: 2 before, 16 now`."""
    pairs = {name: (before.get(name), now.get(name)) for name in CONDITIONS}
    old, new = before.get("settings", {}), now.get("settings", {})
    pairs |= {f"--{name}": (old.get(name), new.get(name)) for name in {*old, *new} - set(SHOWN)}
    return [f"{name}: {b!r} before, {n!r} now" for name, (b, n) in sorted(pairs.items()) if b != n]


def comparison(now: Sequence[Record], before: Sequence[Record]) -> str:
    """Ratios of rates, row by row; the newest earlier figure of the same suite and name counts.

    Rows without a counterpart are named, and so are conditions that differ, once.
    """
    newest = {(record["suite"], record["name"]): record for record in before}
    lines, differing = [f"{'':48}{'before':>12}{'now':>12}{'now/before':>12}"], set()
    for record in now:
        old = newest.get((record["suite"], record["name"]))
        if old is None:
            lines.append(f"{record['name']:48}{'none':>12}{record['per_second']:12.6g}")
            continue
        ratio = record["per_second"] / old["per_second"]
        lines.append(f"{record['name']:48}{old['per_second']:12.6g}{record['per_second']:12.6g}{ratio:12.3f}")
        differing.update(differences(record, old))
    if differing:
        lines.append("warning: conditions differ, so these ratios are not of the code alone:")
        lines += [f"  {text}" for text in sorted(differing)]
    return "\n".join(lines)
