"""Every setting of the method does what its formula says: loss, update, pictures or shapes, before and after a change.

A new field fails `test_every_field_has_a_formula` until it has one here.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.augment import Augmentation, augment
from mcss_jax.method import Method, Network, Objective, Optimiser
from mcss_jax.training import train_step
from mcss_jax.training.batch import Batch
from mcss_jax.training.optimiser import schedule, transformation
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.mcss_jax import formulas
from tests.mcss_jax.steps import make_batch, poses

Changes = dict[str, tuple[dict[str, Any], Any]]
"""By field: settings before, and its value after."""

# -------- objective

OBJECTIVE: Changes = {
    "metric_loss": ({}, "infonce"),
    "margin": ({}, 0.9),
    "metric_weight": ({}, 0.3),
    "rotation_weight": ({}, 0.2),
    "min_negative_gap": ({}, 0.3),
    "across_groups": ({}, True),
    "infonce_temperature": ({"metric_loss": "infonce"}, 0.4),
    "temperature_start": ({}, 0.6),
    "temperature_end": ({}, 0.02),
    "temperature_steps": ({}, 20),
}
RUN, STEP = 100, 10
BEFORE = Objective(
    margin=0.45,
    metric_weight=0.8,
    rotation_weight=0.6,
    min_negative_gap=0.9,
    infonce_temperature=0.25,
    temperature_start=0.4,
    temperature_end=0.1,
)
STATISTICS = PoseStatistics(
    np.random.default_rng(7).normal(0, 100, (17, 3)).astype(np.float32), np.float32(150.0)
)


# What augmentation did to the labelled pictures: boxes, and who is mirrored.
MOVED = np.float32([[40, -30, 60, 10]])
FLIPPED = np.arange(8) % 3 == 0


@functools.cache
def batch() -> Batch:
    made = make_batch()
    assert made.unlabelled is not None
    time = (0.4 * (np.arange(8) % 4)).astype(
        np.float32
    )  # in one recording per person, closer than the gap and not
    pose = poses(np.random.default_rng(6), 8)
    pose[[1, 6]] = np.nan
    pose[4:6] = pose[2:4] + np.random.default_rng(9).normal(
        0, 10, (2, 17, 3)
    )  # of other people, and yet the same
    seen = dataclasses.replace(made.unlabelled, time=time, sequence=made.unlabelled.group, pose=pose)
    return jax.tree.map(jnp.asarray, dataclasses.replace(made, unlabelled=seen))


@functools.cache
def answers() -> formulas.Answers:
    rng = np.random.default_rng(8)
    embedding, views = rng.normal(size=(8, 6)), rng.normal(size=(8, 2, 6)) + 0.5
    return formulas.Answers(
        pose=rng.normal(size=(8, 17, 3)),
        rotation=rng.normal(size=(8, 6)),
        embedding=embedding / np.linalg.norm(embedding, axis=-1, keepdims=True),
        views=views / np.linalg.norm(views, axis=-1, keepdims=True),
    )


def outputs() -> Any:
    """The answers as a network gives them; what is not read (poses of unlabelled pictures) is something else."""
    of, jax_array = answers(), functools.partial(jnp.asarray, dtype=jnp.float32)
    labelled = of.embedding[:, None], of.pose[:, None], of.rotation[:, None]
    unlabelled = of.views, np.full((8, 2, 17, 3), 9.0), np.ones((8, 2, 6))
    return {
        "labelled": train_step.Outputs(*map(jax_array, labelled)),
        "unlabelled": train_step.Outputs(*map(jax_array, unlabelled)),
    }


def state_at(step: int) -> TrainState:
    statistics = jax.tree.map(jnp.asarray, STATISTICS)
    return TrainState(jnp.asarray(step, jnp.int32), {"params": {}}, None, statistics, Network())


def loss_of(objective: Objective, step: int = STEP, part: Batch | None = None) -> Any:
    seen = batch()
    assert seen.labelled is not None
    method = Method(objective=objective, optimiser=Optimiser(steps=RUN))
    crops = {
        "labelled": train_step.Crop(seen.labelled.box + MOVED, jnp.asarray(FLIPPED)),
        "unlabelled": train_step.Crop(jnp.zeros((8, 4)), jnp.asarray(FLIPPED)),
    }
    return lambda of: train_step.objective(method, of, crops, state_at(step), part or seen, None)


@functools.cache
def reported(objective: Objective, step: int = STEP) -> dict[str, float]:
    return means(loss_of(objective, step)(outputs()))


def means(result: Any) -> dict[str, float]:
    loss, (sums, _) = result
    return {"loss": float(loss)} | {name: float(total / count) for name, (total, count) in sums.items()}


def by_formula(
    objective: Objective, step: int = STEP, of: formulas.Answers | None = None
) -> dict[str, float]:
    seen = jax.tree.map(np.asarray, batch())
    heat = formulas.temperature_at(objective, step, RUN)
    return formulas.figures(
        of or answers(), seen, seen.labelled.box + MOVED, FLIPPED, STATISTICS, objective, heat
    )


@pytest.mark.parametrize("field", OBJECTIVE)
def test_loss_and_figures(field: str) -> None:
    overrides, value = OBJECTIVE[field]
    before = dataclasses.replace(BEFORE, **overrides)
    losses = []
    for objective in (before, dataclasses.replace(before, **{field: value})):
        wanted = by_formula(objective)
        assert reported(objective) == pytest.approx(wanted, rel=1e-4)
        losses.append(wanted["loss"])
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize(
    ("start", "end", "steps", "step"),
    [(0.4, 0.1, 0, 0), (0.4, 0.1, 0, 50), (0.4, 0.1, 0, 100), (0.4, 0.1, 0, 170), (0.4, 0.0, 20, 10),
     (0.4, 0.0, 20, 20), (0.0, 0.3, 0, 50), (0.05, 0.5, 30, 15)],
)  # fmt: skip
def test_softness_over_the_run(
    start: float, end: float, steps: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a metric loss is given as its temperature."""
    objective = dataclasses.replace(
        BEFORE, temperature_start=start, temperature_end=end, temperature_steps=steps
    )

    def given(pairs: Any, of: Objective, temperature: jax.Array) -> None:
        raise TemperatureError(float(temperature))

    monkeypatch.setattr(train_step, "metric_loss", lambda name: given)
    with pytest.raises(TemperatureError) as raised:
        loss_of(objective, step, Batch(unlabelled=batch().unlabelled))(outputs())
    assert raised.value.args[0] == pytest.approx(formulas.temperature_at(objective, step, RUN), rel=1e-5)


class TemperatureError(Exception):
    """Ends a step once its temperature is known."""


@pytest.mark.parametrize(("metric_loss", "across_groups"), [("triplet", True), ("infonce", False)])
def test_loss_figures_and_gradient(metric_loss: Any, across_groups: bool) -> None:
    """The gradient along a random direction is the formula's difference: no term is held constant or counts twice."""
    objective = dataclasses.replace(BEFORE, metric_loss=metric_loss, across_groups=across_groups)
    result, slope = jax.jit(jax.value_and_grad(loss_of(objective), has_aux=True))(outputs())
    assert means(result) == pytest.approx(by_formula(objective), rel=1e-4)
    parts = {
        "pose": slope["labelled"].pose[:, 0],
        "rotation": slope["labelled"].rotation[:, 0],
        "views": slope["unlabelled"].embedding,
    }
    rng = np.random.default_rng(11)
    for name, part in parts.items():
        value = getattr(answers(), name)
        direction = rng.normal(size=value.shape)
        above, below = (
            by_formula(objective, of=dataclasses.replace(answers(), **{name: value + moved * direction}))[
                "loss"
            ]
            for moved in (1e-5, -1e-5)
        )
        assert float((part * direction).sum()) == pytest.approx((above - below) / 2e-5, rel=2e-3, abs=1e-5)
    unread = slope["labelled"].embedding, slope["unlabelled"].pose, slope["unlabelled"].rotation
    assert not any(np.asarray(x).any() for x in unread)


# -------- optimiser

OPTIMISER: Changes = {
    "steps": ({}, 20),
    "learning_rate": ({}, 0.05),
    "warmup_steps": ({}, 0),
    "weight_decay": ({}, 0.5),
    "clip_norm": ({}, 0.3),
}
TRAINED = Optimiser(steps=9, learning_rate=0.1, warmup_steps=2, weight_decay=0.1, clip_norm=1.5)


def draws(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (3, 2), "pos_embed": (1, 3, 2), "bias": (4,), "scale": (2,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


SIZES = (1.0, 0.1, 3.0, 0.5)  # clipped or not
GRADIENTS = [{name: size * g for name, g in draws(2 + i).items()} for i, size in enumerate(SIZES)]


def trained(optimiser: Optimiser) -> tuple[Any, list[dict[str, float]]]:
    """Parameters after an update with each gradient, through the step's `update`; and its reports."""
    method = Method(optimiser=optimiser)
    params: Any = jax.tree.map(jnp.asarray, draws(1))
    state = dataclasses.replace(
        state_at(0), variables={"params": params}, opt_state=transformation(optimiser).init(params)
    )
    update = jax.jit(lambda s, g: train_step.update(method, s, jnp.zeros(()), g, {}, {}, None))
    reports = []
    for gradient in GRADIENTS:
        state, report = update(state, gradient)
        reports.append({name: float(value) for name, value in report.items()})
    assert int(state.step) == len(GRADIENTS)
    return state.params, reports


@pytest.mark.parametrize("field", OPTIMISER)
def test_updates(field: str) -> None:
    overrides, value = OPTIMISER[field]
    before = dataclasses.replace(TRAINED, **overrides)
    moved = []
    for optimiser in (before, dataclasses.replace(before, **{field: value})):
        wanted = formulas.adamw(optimiser, draws(1), GRADIENTS)
        params, reports = trained(optimiser)
        for name, leaf in wanted.items():
            np.testing.assert_allclose(params[name], leaf, rtol=1e-4, atol=1e-5, err_msg=name)
        for step, report in enumerate(reports):
            assert report["learning_rate"] == pytest.approx(formulas.learning_rate(optimiser, step), abs=1e-6)
            norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in GRADIENTS[step].values()))
            assert report["gradient_norm"] == pytest.approx(norm, rel=1e-5), "before it is clipped"
        moved.append(wanted)
    assert any(np.abs(moved[0][name] - moved[1][name]).max() > 1e-4 for name in moved[0])


@pytest.mark.parametrize(("steps", "warmup"), [(20, 5), (20, 0), (6, 100), (1, 3)])
def test_learning_rates_of_a_run(steps: int, warmup: int) -> None:
    optimiser = dataclasses.replace(TRAINED, steps=steps, warmup_steps=warmup)
    rates = [float(schedule(optimiser)(step)) for step in range(steps + 3)]
    wanted = [formulas.learning_rate(optimiser, step) for step in range(steps + 3)]
    np.testing.assert_allclose(rates, wanted, atol=1e-7)
    assert rates[-1] == pytest.approx(0, abs=1e-8) and max(rates) == pytest.approx(TRAINED.learning_rate)


# -------- augmentation

AUGMENTATION: Changes = {
    "scale": ({}, 0.5),
    "shift": ({}, 0.3),
    "colour": ({}, 0.2),
    "occlusion": ({}, 0.0),
    "flip": ({}, False),
}
STRONG = Augmentation(scale=0.2, shift=0.1, colour=0.6, occlusion=0.5, flip=True)


@pytest.mark.parametrize("field", AUGMENTATION)
def test_pictures(field: str) -> None:
    """Pixel by pixel, of two views of each instant."""
    overrides, value = AUGMENTATION[field]
    before = dataclasses.replace(STRONG, **overrides)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 2, 8, 8, 3)).astype(np.uint8)
    corner = rng.uniform(0, 100, (5, 2, 2))
    boxes = np.concatenate([corner, corner + 40], axis=-1).astype(np.float32)
    made = []
    for config in (before, dataclasses.replace(before, **{field: value})):
        keys = jax.vmap(jax.random.key)(jnp.arange(5))
        pixels, box, flipped = jax.jit(augment, static_argnums=3)(keys, images, boxes, config)
        for i in range(5):
            wanted, wanted_box, wanted_flip = formulas.augmented(
                jax.random.key(i), images[i], boxes[i], config
            )
            np.testing.assert_allclose(pixels[i], wanted, atol=2e-2)
            np.testing.assert_allclose(box[i], wanted_box, atol=1e-3)
            assert bool(flipped[i]) == wanted_flip
        made.append(np.asarray(pixels))
    assert np.abs(made[0] - made[1]).max() > 1


# -------- all of them


@pytest.mark.parametrize(
    ("settings", "formulas_of"),
    [
        (Objective, set(OBJECTIVE)),
        (Optimiser, set(OPTIMISER)),
        (Augmentation, set(AUGMENTATION)),
    ],
)
def test_every_field_has_a_formula(settings: type, formulas_of: set[str]) -> None:
    assert {field.name for field in dataclasses.fields(settings)} == formulas_of


def test_a_method_has_no_other_settings() -> None:
    parts = {field.name for field in dataclasses.fields(Method)}
    assert parts == {"network", "objective", "optimiser", "augmentation"}
