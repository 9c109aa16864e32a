"""Nested settings: their flags, their JSON, nested as it is written today and flat as it was."""

import dataclasses
import json

import pytest

from launch.cli import options
from launch.cli.options import nested, option
from mcss_jax.setting import Bounds, setting


@dataclasses.dataclass(frozen=True)
class Net:
    width: int = setting(4, "Channels.", Bounds(at_least=1))
    rate: float = setting(0.5, "How fast.")


@dataclasses.dataclass(frozen=True)
class Where:
    folder: str = option("", "The folder.", changeable=True)
    count: int = option(0, "How many.", flag="devices")


@dataclasses.dataclass(frozen=True)
class Config:
    kind: str = option("a", "The kind.", "First")
    net: Net = nested(Net(), "Second", prefix="net_")
    devices: Where = nested(Where(), "Third")


@dataclasses.dataclass(frozen=True)
class More(Config):
    extra: int = option(1, "More.", "Fourth", bounds=Bounds(at_least=1))


@dataclasses.dataclass(frozen=True)
class Twins:
    net: Net = nested(Net(), "Nets")
    other: Net = nested(Net(), "Nets")


FLAT = {"kind": "b", "net_width": 8, "net_rate": 0.25, "folder": "there", "devices": 2}


def test_a_setting_is_read_and_changed_by_the_name_of_its_flag() -> None:
    config = options.build(Config, **FLAT)
    assert config == Config("b", Net(8, 0.25), Where("there", 2))
    assert options.values(config) == FLAT
    assert options.replace(config, net_width=9, devices=0) == Config("b", Net(9, 0.25), Where("there", 0))
    assert options.build(Config) == Config() and list(options.options(Config)) == list(FLAT)
    with pytest.raises(TypeError, match="no settings .'width'"):
        options.build(Config, width=1)


def test_flags_that_share_a_name_are_a_mistake() -> None:
    with pytest.raises(AssertionError, match="one name"):
        options.options(Twins)


def test_json_is_nested_and_flat_json_is_read() -> None:
    config = options.build(Config, **FLAT)
    content = json.loads(options.to_json(config))
    assert content == {
        "kind": "b", "net": {"width": 8, "rate": 0.25}, "devices": {"folder": "there", "count": 2},
    }  # fmt: skip
    assert options.stored(Config, content, "x") == options.stored(Config, FLAT, "x") == config
    # What is younger than the file has its default, at either depth.
    del content["net"]["rate"], content["devices"]
    assert options.stored(Config, content, "x") == Config("b", Net(8, 0.5), Where())


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ({"net": {"width": 0}}, ("x", "net_width", "0", "at least 1")),
        ({"net_width": "8"}, ("x", "net_width", "'8'", "int")),
        ({"net": {"depth": 1}}, ("x", "net.depth")),
        ({"net": 3}, ("x", "net")),
        ({"gone": 1}, ("x", "gone")),
    ],
)
def test_what_no_flag_would_have_given_is_named(content: dict, facts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as raised:
        options.stored(Config, content, "x")
    assert all(fact in str(raised.value) for fact in facts)


def test_differences_compare_what_decides_the_result() -> None:
    config = options.build(Config, **FLAT)
    nested_form = json.loads(options.to_json(options.replace(config, folder="elsewhere", net_rate=0.75)))
    assert options.differences(config, nested_form) == ["--net_rate: 0.75 before, 0.25 now"]
    assert options.differences(config, FLAT | {"net_rate": 0.75}) == ["--net_rate: 0.75 before, 0.25 now"]
    assert options.differences(config, FLAT | {"gone": 1}) == ["--gone: 1 before, 'unknown' now"]


def test_arguments_give_the_configuration_again() -> None:
    assert options.arguments(Config()) == []
    assert options.arguments(options.build(Config, net_width=8, devices=2)) == [
        "--net_width=8",
        "--devices=2",
    ]


def test_a_program_may_add_settings_of_its_own() -> None:
    assert options.values(options.build(More, net_width=2, extra=3))["extra"] == 3
    with pytest.raises(ValueError, match="--extra=0; expected at least 1"):
        options.check_values(options.build(More, extra=0))
    with pytest.raises(ValueError, match="--net_width=0; expected at least 1"):
        options.check_values(options.build(More, net_width=0))
