"""What `check` refuses, and what reaches the library."""

import dataclasses
import typing
from typing import Any

import pytest

from launch.cli import options
from launch.runs import settings
from launch.runs.settings import Train
from mcss_jax.errors import UserError
from mcss_jax.method import Method
from mcss_jax.setting import CountOrAuto

GOOD = options.build(Train, workdir="x")


def test_defaults_are_good() -> None:
    settings.check(GOOD)
    with pytest.raises(UserError, match="--workdir is missing"):
        settings.check(Train())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *((name, 0, "expected at least 1") for name in (
            "steps", "log_every", "save_every", "keep", "validation_stride", "decode_threads", "width",
            "embedding_dim", "hidden", "blocks", "sequences", "instants", "accumulate", "coordinator_timeout",
        )),
        *((name, -1, "expected at least 0") for name in (
            "image_size", "labelled_batch", "warmup_steps", "validate_every", "stop_after", "seed", "devices",
            "num_processes",
        )),
        *((name, value, "expected a finite number of at least 0") for value in (-0.1, float("nan"), float("inf"))
          for name in ("min_negative_gap", "temperature_start", "temperature_end", "metric_weight",
                       "rotation_weight", "weight_decay")),
        *((name, value, "expected a finite number above 0") for value in (0.0, float("nan"), float("inf"))
          for name in ("learning_rate", "clip_norm")),
        *((name, value, "expected a number from 0 to 1") for value in (-0.1, 1.1, float("nan"))
          for name in ("augment_scale", "augment_shift", "augment_colour", "augment_occlusion")),
        *(("margin", value, r"expected a number in \(0, 2\]") for value in (0.0, 2.1, float("nan"))),
    ],
)  # fmt: skip
def test_check_names_the_flag(name: str, value: float, expected: str) -> None:
    with pytest.raises(UserError, match=rf"--{name}={value}; {expected}"):
        settings.check(options.replace(GOOD, **{name: value}))


@pytest.mark.parametrize("method", ["baseline", "batchnorm"])
def test_supervised_methods_need_labels(method: str) -> None:
    with pytest.raises(UserError, match=f"--method={method} learns from labels alone, but --labelled=none"):
        settings.check(options.replace(GOOD, method=method, labelled="none"))
    with pytest.raises(
        UserError, match=f"--method={method} learns .* --labelled_batch=0; expected at least 1"
    ):
        settings.check(options.replace(GOOD, method=method, labelled_batch=0))


def test_a_picture_is_no_positive_of_itself() -> None:
    plain = dict.fromkeys(("augment_scale", "augment_shift", "augment_colour", "augment_occlusion"), 0.0)
    settings.check(options.replace(GOOD, **plain))
    with pytest.raises(UserError, match="--positives=augmented needs augmentation"):
        settings.check(options.replace(GOOD, **plain, positives="augmented"))
    settings.check(options.replace(GOOD, **plain | {"augment_shift": 0.1}, positives="augmented"))


def test_parts_must_divide_the_share_of_a_device() -> None:
    config = options.replace(GOOD, labelled_batch=64, blocks=4, sequences=4, instants=6, accumulate=8)
    settings.check_devices(config, 4)
    message = "--accumulate=8: --labelled_batch on each of 16 devices is 4 and .* divide the batch: 2$"
    with pytest.raises(UserError, match=message):
        settings.check_devices(config, 16)
    settings.check_devices(options.replace(config, labelled="none"), 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"process_id": 1},
            "--process_id=1 is for several processes, but --num_processes=0; give their number too",
        ),
        (
            {"coordinator_address": "h:1", "num_processes": 1},
            "--coordinator_address=h:1 is for several processes, but --num_processes=1",
        ),
        ({"num_processes": 2, "process_id": 0}, "--coordinator_address=''; expected HOST:PORT of process 0"),
        (
            {"num_processes": 2, "process_id": 0, "coordinator_address": "host"},
            "--coordinator_address='host'; expected HOST:PORT of process 0 with --num_processes=2",
        ),
        ({"num_processes": 2, "coordinator_address": "h:1"}, "--process_id=-1; expected 0 to 1 with"),
        (
            {"num_processes": 2, "coordinator_address": "h:1", "process_id": 2},
            "--process_id=2; expected 0 to 1",
        ),
    ],
)
def test_several_processes_are_named_in_full(changes: dict, message: str) -> None:
    settings.check(options.replace(GOOD, num_processes=2, process_id=1, coordinator_address="[::1]:80"))
    with pytest.raises(UserError, match=message):
        settings.check(options.replace(GOOD, **changes))


def test_batches_must_divide() -> None:
    config = options.replace(GOOD, labelled_batch=6, blocks=1, sequences=3, instants=3)
    settings.check_devices(config, 1)
    with pytest.raises(
        UserError, match="is 6; expected a multiple of the 4 devices: the nearest are 4 and 8"
    ):
        settings.check_devices(config, 4)
    with pytest.raises(
        UserError, match="--blocks x --sequences x --instants is 9; expected a multiple of the 2 .* 8 and 10"
    ):
        settings.check_devices(config, 2)
    settings.check_devices(options.replace(config, method="baseline"), 2)
    settings.check_devices(options.replace(config, labelled="none"), 3)


def test_jit_is_for_one_device() -> None:
    config = settings.with_numbers(options.replace(GOOD, parallel="jit"), None)
    settings.check_devices(config, 1)
    with pytest.raises(UserError, match="--parallel=jit is for one device, and there are 2; set --devices=1"):
        settings.check_devices(config, 2)


OF_THE_METHOD = {
    name: option
    for name, option in options.options(Train).items()
    if option.path[0] in {field.name for field in dataclasses.fields(Method)}
}


def another(value: Any, hint: Any) -> Any:
    """A value that is not this one, of the same kind."""
    if hint == CountOrAuto:
        return 3
    if typing.get_origin(hint) is typing.Literal:
        return next(other for other in typing.get_args(hint) if other != value)
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value / 2 + 0.1


@pytest.mark.parametrize("name", OF_THE_METHOD)
def test_a_setting_of_the_method_reaches_it_and_changes_nothing_else(name: str) -> None:
    option, base = OF_THE_METHOD[name], settings.method_of(GOOD)
    value = another(option.value(GOOD), option.hint)
    part, field = option.path
    expected = {part: dataclasses.replace(getattr(base, part), **{field: value})}
    changed = settings.method_of(options.replace(GOOD, **{name: value}))
    assert changed == dataclasses.replace(base, **expected) != base


@pytest.mark.parametrize("name", sorted(options.options(Train).keys() - OF_THE_METHOD.keys() - {"method"}))
def test_other_settings_leave_the_method_as_it_is(name: str) -> None:
    option = options.options(Train)[name]
    value = "else" if option.hint is str else another(option.value(GOOD), option.hint)
    assert settings.method_of(options.replace(GOOD, **{name: value})) == settings.method_of(GOOD)


def test_methods_without_the_metric_loss_are_the_same_but_for_its_weight() -> None:
    base = settings.method_of(GOOD)
    assert base.objective.metric_weight > 0 and base == settings.method_of(
        options.replace(GOOD, method="mcss")
    )
    without = dataclasses.replace(base, objective=dataclasses.replace(base.objective, metric_weight=0.0))
    for name in ("baseline", "batchnorm"):
        assert settings.method_of(options.replace(GOOD, method=name)) == without
    assert base.temperature_steps == GOOD.optimiser.steps
    assert settings.method_of(options.replace(GOOD, temperature_steps=7)).temperature_steps == 7


def test_numbers_are_chosen_where_they_are_auto_and_a_method_has_any() -> None:
    chosen = settings.with_numbers(options.replace(GOOD, blocks=2), None)
    assert (chosen.batch.blocks, chosen.batch.sequences, chosen.batch.instants) == (2, 4, 12)
    assert settings.with_numbers(chosen, None) is chosen
    several = settings.with_numbers(options.replace(GOOD, accumulate=5), None, devices=2)
    settings.check_devices(options.replace(several, labelled_batch=60, accumulate=5), 2)
    baseline = options.replace(GOOD, method="baseline")
    assert settings.with_numbers(baseline, None) is baseline and not settings.has_auto(baseline)
    with pytest.raises(AssertionError, match="with_numbers"):
        settings.blocks_of(GOOD)


def test_what_does_not_name_a_setting_had_the_default_of_then() -> None:
    """A resume under another is refused with the flag that brings it back; `auto` differs from no number."""
    before = options.stored(Train, {"seed": 1}, "config.json")
    assert before.objective.across_groups
    assert (before.batch.blocks, before.batch.sequences, before.batch.instants) == (4, 4, 6)
    now = options.replace(before, across_groups=False, blocks="auto", sequences="auto", instants="auto")
    told = "--across_groups: True before, False now "
    told += "(the default has changed; --across_groups brings the earlier one back)"
    assert options.differences(now, {"seed": 1, "labelled": "S1"}) == [told]
    assert options.differences(now, {"seed": 1, "across_groups": True}) == [told]
    assert options.differences(now, {"seed": 1, "across_groups": False}) == []
    assert options.differences(options.replace(now, across_groups=True), {"seed": 1}) == []
    other = options.differences(options.replace(now, across_groups=True), {"seed": 1, "across_groups": False})
    assert other == ["--across_groups: False before, True now"], "that default is today's"
    named = options.differences(options.replace(now, across_groups=True, blocks=2), {"seed": 1})
    assert named == ["--blocks: 4 before, 2 now"]


def test_blocks_of() -> None:
    config = options.replace(
        GOOD, blocks=3, sequences=2, instants=5, min_negative_gap=0.7, mix_groups=True, positives="augmented"
    )
    blocks = settings.blocks_of(config)
    assert blocks is not None and blocks.size == 30
    assert (blocks.min_gap, blocks.mix_groups, blocks.positives) == (0.7, True, "augmented")
    assert settings.blocks_of(options.replace(config, method="batchnorm")) == blocks
    assert settings.blocks_of(options.replace(config, method="baseline")) is None
