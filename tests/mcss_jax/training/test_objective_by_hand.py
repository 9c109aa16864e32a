"""Every setting of the objective against the formula that it stands in, written out in NumPy."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax import geometry, skeleton
from mcss_jax.method import Method, Network, Objective, Optimiser
from mcss_jax.training import train_step
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.mcss_jax.steps import make_batch, poses

STEP = 37
GAP_TOLERANCE = 1e-3


BATCH = make_batch(labelled=6, unlabelled=12)
OBJECTIVE = Objective(
    margin=0.3,
    metric_weight=0.7,
    rotation_weight=0.4,
    min_negative_gap=0.5,
    across_groups=False,
    infonce_temperature=0.2,
    temperature_start=0.4,
    temperature_end=0.1,
    temperature_steps=80,
)
CHANGED_OBJECTIVE: dict[str, Any] = {
    "metric_loss": "infonce",
    "margin": 0.6,
    "metric_weight": 1.9,
    "rotation_weight": 0.05,
    "min_negative_gap": 0.75,
    "across_groups": True,
    "infonce_temperature": 0.05,
    "temperature_start": 1.5,
    "temperature_end": 0.02,
    "temperature_steps": 40,
}


def outputs() -> dict[Any, train_step.Outputs]:
    """What a network might answer: unit embeddings, poses and six numbers."""
    rng = np.random.default_rng(5)

    def of(samples: int, views: int) -> train_step.Outputs:
        embedding = rng.normal(size=(samples, views, 6)) + [1, 0, 0, 0, 0, 0]
        embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
        answers = (embedding, rng.normal(size=(samples, views, 17, 3)), rng.normal(size=(samples, views, 6)))
        return train_step.Outputs(*(jnp.asarray(x, jnp.float32) for x in answers))

    return {"labelled": of(6, 1), "unlabelled": of(12, 2)}


def crops() -> dict[Any, train_step.Crop]:
    return {
        "labelled": train_step.Crop(jnp.asarray(BATCH.labelled.box), jnp.arange(6) % 2 == 0),
        "unlabelled": train_step.Crop(jnp.zeros((12, 4)), jnp.zeros(12, bool)),
    }


def state(step: int = STEP) -> TrainState:
    statistics = PoseStatistics(jnp.asarray(poses(np.random.default_rng(9), 1)[0] * 0.01), jnp.asarray(90.0))
    return TrainState(jnp.asarray(step, jnp.int32), {"params": {}}, (), statistics, Network())


def temperature(of: Objective, steps: int) -> float:
    """Geometric from start to end over the schedule, which is the run where it is zero."""
    progress = min(STEP / (of.temperature_steps or steps), 1.0)
    return of.temperature_start * (of.temperature_end / of.temperature_start) ** progress


def metric_term(of: Objective, steps: int) -> float:
    """The mean over anchors that have a negative, anchor by anchor."""
    x = np.asarray(outputs()["unlabelled"].embedding, np.float64)
    data, soft, losses = BATCH.unlabelled, temperature(of, steps), []
    for i in range(12):
        for view in range(2):
            negatives = []
            for j in range(12):
                same = data.group[i] == data.group[j]
                apart = data.sequence[i] != data.sequence[j] or (
                    data.time[i] != data.time[j]
                    and abs(data.time[i] - data.time[j]) >= of.min_negative_gap - GAP_TOLERANCE
                )
                if data.valid[i] and data.valid[j] and (apart if same else of.across_groups):
                    negatives += [np.linalg.norm(x[i, view] - x[j, other]) for other in range(2)]
            if not negatives:
                continue
            positive, d = np.linalg.norm(x[i, 0] - x[i, 1]), np.asarray(negatives)
            if of.metric_loss == "infonce":
                own, others = (np.exp((1 - e * e / 2) / of.infonce_temperature) for e in (positive, d))
                losses.append(-math.log(own / (own + others.sum())))
            else:
                losses.append(max(0.0, of.margin + positive + soft * math.log(np.exp(-d / soft).mean())))
    return float(np.mean(losses))


def labelled_terms() -> tuple[float, float]:
    """Pose and rotation, sample by sample."""
    data, answers = BATCH.labelled, outputs()["labelled"]
    mean, scale = (np.asarray(x, np.float64) for x in state().statistics)
    turn = np.asarray(geometry.look_through(jnp.asarray(data.intrinsics), jnp.asarray(data.box)), np.float64)
    pose_losses, rotation_losses = [], []
    for i in range(6):
        if not data.valid[i]:
            continue
        virtual = (data.pose[i] - data.pose[i, :1]) @ turn[i]
        if i % 2 == 0:
            virtual = virtual[list(skeleton.MIRROR)] * (-1, 1, 1)
        canonical, rotation = (
            np.asarray(x) for x in skeleton.canonicalise(jnp.asarray(virtual, jnp.float32))
        )
        standardised = np.asarray(answers.pose[i, 0])
        pose_losses.append(np.abs(standardised - (canonical - mean) / scale).mean())
        predicted = np.asarray(geometry.rotation_from_6d(answers.rotation[i, 0]))
        rotation_losses.append(((predicted - rotation) ** 2).sum() / 8)
    return float(np.mean(pose_losses)), float(np.mean(rotation_losses))


def loss_by_hand(of: Objective, steps: int) -> float:
    pose, rotation = labelled_terms()
    return pose + of.rotation_weight * rotation + of.metric_weight * metric_term(of, steps)


def loss_of(of: Objective, steps: int = 60) -> float:
    method = Method(objective=of, optimiser=Optimiser(steps=steps))
    batch = jax.tree.map(jnp.asarray, BATCH)
    loss, _ = jax.jit(lambda o: train_step.objective(method, o, crops(), state(), batch, None))(outputs())
    return float(loss)


@pytest.mark.parametrize("field", ["none", *CHANGED_OBJECTIVE])
def test_the_objective(field: str) -> None:
    base = dataclasses.replace(OBJECTIVE, metric_loss="infonce" if field.startswith("infonce") else "triplet")
    changed = base if field == "none" else dataclasses.replace(base, **{field: CHANGED_OBJECTIVE[field]})
    assert loss_of(changed) == pytest.approx(loss_by_hand(changed, 60), rel=1e-4)
    if field != "none":
        assert abs(loss_by_hand(changed, 60) - loss_by_hand(base, 60)) > 1e-3, "the change shows"


def test_a_schedule_without_steps_is_the_runs() -> None:
    whole = dataclasses.replace(OBJECTIVE, temperature_steps=0)
    for steps in (50, 90):
        assert loss_of(whole, steps) == pytest.approx(loss_by_hand(whole, steps), rel=1e-4)
    assert abs(loss_by_hand(whole, 50) - loss_by_hand(whole, 90)) > 1e-3


def test_terms_are_reported_under_their_own_names() -> None:
    method, batch = (
        Method(objective=OBJECTIVE, optimiser=Optimiser(steps=60)),
        jax.tree.map(jnp.asarray, BATCH),
    )
    _, (sums, _) = jax.jit(lambda o: train_step.objective(method, o, crops(), state(), batch, None))(
        outputs()
    )
    means = {name: float(total) / float(count) for name, (total, count) in sums.items()}
    pose, rotation = labelled_terms()
    assert means["loss_pose"] == pytest.approx(pose, rel=1e-4)
    assert means["loss_rotation"] == pytest.approx(rotation, rel=1e-4)
    assert means["loss_metric"] == pytest.approx(metric_term(OBJECTIVE, 60), rel=1e-4)
    x = np.asarray(outputs()["unlabelled"].embedding, np.float64)
    everything = np.concatenate([np.asarray(outputs()["labelled"].embedding)[:, 0], x.reshape(-1, 6)])
    assert means["embedding_variance"] == pytest.approx(everything.var(axis=0).sum(), rel=1e-4)
    counted = float(sums["loss_metric"][1]) / 2
    anchors = [
        i
        for i in range(12)
        if BATCH.unlabelled.valid[i]
        and any(
            BATCH.unlabelled.valid[j]
            and BATCH.unlabelled.group[i] == BATCH.unlabelled.group[j]
            and (
                BATCH.unlabelled.sequence[i] != BATCH.unlabelled.sequence[j]
                or abs(BATCH.unlabelled.time[i] - BATCH.unlabelled.time[j]) >= 0.5
            )
            for j in range(12)
        )
    ]
    assert counted == len(anchors)
    positive = np.mean([np.linalg.norm(x[i, 0] - x[i, 1]) for i in anchors])
    assert means["positive_distance"] == pytest.approx(positive, rel=1e-4)
    assert means["negative_distance"] != pytest.approx(positive, rel=1e-2)


def test_no_setting_is_without_its_formula() -> None:
    assert {field.name for field in dataclasses.fields(Objective)} == set(CHANGED_OBJECTIVE)
