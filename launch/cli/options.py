"""Settings of programs as frozen dataclasses, some of them nested: their names as flags, their values, their JSON.

A setting is defined once, as a field. Its flag, its line in `--help`, its place in `config.json`, what it may be and
whether a run may be resumed under another value are all read from there.
"""

import dataclasses
import functools
import json
import shlex
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from mcss_jax.errors import UserError
from mcss_jax.setting import AUTO, NEVER, Bounds, Role, problem

Config = TypeVar("Config")
Texts = tuple[str, ...]
"""Type of a setting whose flag may be given several times; all of them count."""


@dataclasses.dataclass(frozen=True)
class Option:
    """A setting as its flag knows it.

    Attributes:
      name: of the flag, unique in a configuration.
      path: attributes that lead from the configuration to the value.
      hint: its type.
      default: of the field.
      meaning: a sentence or two for `--help`.
      group: heading in `--help`.
      changeable: it does not decide the result (folders, intervals): a run may be resumed under another value.
      bounds: what numbers it may be.
      roles: what else it decides.
      earlier: the default that it had before, where that was another.
    """

    name: str
    path: tuple[str, ...]
    hint: Any
    default: Any
    meaning: str
    group: str
    changeable: bool
    bounds: Bounds | None
    roles: Collection[Role]
    earlier: Any = NEVER

    @property
    def meant(self) -> Any:
        """The value in configurations that do not name it: they are older, and had the default of then."""
        return self.default if self.earlier is NEVER else self.earlier

    def value(self, config: Any) -> Any:
        """The value in a configuration."""
        return functools.reduce(getattr, self.path, config)


def option(
    default: Any,
    meaning: str,
    group: str = "",
    *,
    changeable: bool = False,
    bounds: Bounds | None = None,
    roles: Collection[Role] = (),
    flag: str = "",
    earlier: Any = NEVER,
) -> Any:
    """A dataclass field that becomes a flag, named as the field where `flag` does not say otherwise; see `Option`."""
    metadata = {
        "meaning": meaning,
        "group": group,
        "changeable": changeable,
        "bounds": bounds,
        "roles": roles,
        "flag": flag,
        "earlier": earlier,
    }
    return dataclasses.field(default=default, metadata=metadata)


def nested(default: Any, group: str, prefix: str = "") -> Any:
    """A field that holds a dataclass of settings: `group` heads them, `prefix` begins their flags."""
    return dataclasses.field(default=default, metadata={"group": group, "prefix": prefix})


def options(config: type) -> dict[str, Option]:
    """Every setting of a configuration by the name of its flag, in order."""
    settings = list(_options(config, (), "", ""))
    assert len({setting.name for setting in settings}) == len(settings), (
        f"two flags of {config.__name__} have one name"
    )
    return {setting.name: setting for setting in settings}


def _options(config: type, path: tuple[str, ...], group: str, prefix: str) -> Iterator[Option]:
    hints = typing.get_type_hints(config)
    for field in dataclasses.fields(config):
        metadata, hint = field.metadata, hints[field.name]
        there = (*path, field.name)
        if dataclasses.is_dataclass(hint):
            yield from _options(typing.cast(type, hint), there, metadata["group"], metadata["prefix"])
        else:
            yield Option(
                name=metadata.get("flag") or prefix + field.name,
                path=there,
                hint=hint,
                default=field.default,
                meaning=metadata["meaning"],
                group=metadata.get("group") or group,
                changeable=metadata.get("changeable", False),
                bounds=metadata.get("bounds"),
                roles=metadata.get("roles", ()),
                earlier=metadata.get("earlier", NEVER),
            )


def with_role(config: type, role: Role) -> list[str]:
    """The names of the settings that have this role, in order."""
    return [name for name, setting in options(config).items() if role in setting.roles]


def values(config: Any) -> dict[str, Any]:
    """Every setting by the name of its flag."""
    return {name: setting.value(config) for name, setting in options(type(config)).items()}


def build(config: type[Config], **settings: Any) -> Config:
    """The configuration with these settings, by the names of their flags, and the defaults of all others."""
    unknown = settings.keys() - options(config).keys()
    if unknown:
        raise TypeError(f"{config.__name__} has no settings {sorted(unknown)}")
    return _built(
        config,
        (),
        {setting.path: settings[name] for name, setting in options(config).items() if name in settings},
    )


def _built(config: type, path: tuple[str, ...], by_path: Mapping[tuple[str, ...], Any]) -> Any:
    hints, fields = typing.get_type_hints(config), {}
    for field in dataclasses.fields(config):
        there = (*path, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            fields[field.name] = _built(hints[field.name], there, by_path)
        elif there in by_path:
            fields[field.name] = by_path[there]
    return config(**fields)


def replace(config: Config, **changed: Any) -> Config:
    """The same configuration with some settings changed, by the names of their flags."""
    return build(type(config), **(values(config) | changed))


def check_values(config: Any) -> None:
    """Raises UserError naming the first setting that has a value which it may not have."""
    for name, setting in options(type(config)).items():
        expected = problem(setting.value(config), setting.hint, setting.bounds)
        if expected:
            raise UserError(f"--{name}={setting.value(config)}; expected {expected}")


def arguments(config: Any) -> list[str]:
    """The flags of a configuration: every setting that is not the default, as the line of a flag file."""
    settings = options(type(config)).items()
    different = {
        name: value for name, setting in settings if (value := setting.value(config)) != setting.default
    }
    return [
        argument(name, part)
        for name, value in different.items()
        for part in (value if isinstance(value, tuple) else (value,))
    ]


def argument(name: str, value: Any) -> str:
    """The flag that gives a setting a value."""
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no{name}"
    return f"--{name}={value}"


def command(program: str, config: Any) -> str:
    """The command of `python -m PROGRAM` for a configuration: every setting that is not the default, a line each."""
    return " \\\n    ".join([f"python -m {program}", *map(shlex.quote, arguments(config))])


def to_json(config: Any) -> str:
    """A configuration as JSON text, nested as its dataclasses are."""
    return json.dumps(dataclasses.asdict(config), indent=2, sort_keys=True) + "\n"


def flattened(config: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """A stored configuration by the names of flags; what is none of them keeps its place as its name (`a.b`).

    Older configurations were stored flat, by the names of flags: they are taken as they are.
    """
    names = {setting.path: name for name, setting in options(config).items()}
    by_name: dict[str, Any] = {}

    def walk(part: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key, value in part.items():
            there = (*path, key)
            if isinstance(value, dict):
                walk(value, there)
            else:
                by_name[names.get(there, ".".join(there))] = value

    walk(content, ())
    return by_name


def stored(config: type[Config], content: Mapping[str, Any], source: str | Path) -> Config:
    """A configuration as it was stored, nested or flat; settings that it does not name have the default of then.

    Raises UserError naming the setting and `source`, where it was found, for one that is unknown or that no flag
    would have given.
    """
    flat, settings = flattened(config, content), options(config)
    if not flat.keys() <= settings.keys():
        raise UserError(
            f"{source} is of another version of this program: it has settings {sorted(flat.keys() - settings.keys())}, "
            "which are unknown here"
        )
    for name, value in flat.items():
        expected = problem(value, settings[name].hint, settings[name].bounds)
        if expected:
            raise UserError(f"{source} has {name} {value!r}; expected {expected}")
    return build(config, **({name: setting.meant for name, setting in settings.items()} | flat))


def differences(config: Any, content: Mapping[str, Any]) -> list[str]:
    """Settings in which a stored configuration differs, `changeable` ones aside: `--seed: 0 before, 1 now`.

    `auto` differs from nothing: what it came to is what is stored. A default that has changed is named, with the flag
    that brings it back.
    """
    settings = options(type(config))
    before = {name: setting.meant for name, setting in settings.items()} | flattened(type(config), content)
    now = values(config)
    changeable = {name for name, setting in settings.items() if setting.changeable}

    def sentence(name: str) -> str:
        text = f"--{name}: {before[name]!r} before, {now.get(name, 'unknown')!r} now"
        setting = settings.get(name)
        if setting is None or before[name] != setting.earlier or now[name] != setting.default:
            return text
        return f"{text} (the default has changed; {argument(name, before[name])} brings the earlier one back)"

    return [
        sentence(name)
        for name in sorted(before.keys() - changeable)
        if name not in now or (before[name] != now[name] and now[name] != AUTO)
    ]


def refuse_differences(config: Any, file: Path) -> None:
    """Compares with the configuration in `file`.

    Raises UserError with the list of differences, `changeable` settings aside.
    """
    try:
        content = dict(json.loads(file.read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is not readable as a configuration: {error}") from error
    changes = differences(config, content)
    if changes:
        raise UserError(
            f"{file.parent} holds a run with other settings; use the same flags or another --workdir. "
            f"Differences: {'; '.join(changes)}"
        )
