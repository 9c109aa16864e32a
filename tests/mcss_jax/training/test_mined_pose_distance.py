"""What is logged of mined negatives: how far their true poses are and how many are false, where labels may be used."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax import skeleton
from mcss_jax.method import Method, Network, Objective
from mcss_jax.training import train_step
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.mcss_jax.steps import make_batch, poses


def test_it_is_the_canonical_distance_to_the_mined_instant() -> None:
    batch = make_batch(labelled=0, unlabelled=8)
    pose = poses(np.random.default_rng(4), 8)
    away = np.random.default_rng(5).normal(0, 25, (8, 17, 3)) * np.linspace(0.2, 1.6, 8)[:, None, None]
    pose = pose[:1] + away.astype(np.float32)  # some of them nearer to each other than 50 mm, some farther
    pose[5] = np.nan
    batch = dataclasses.replace(batch, unlabelled=dataclasses.replace(batch.unlabelled, pose=pose))
    embedding = np.random.default_rng(1).normal(size=(8, 2, 4)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
    outputs = {
        "unlabelled": train_step.Outputs(
            jnp.asarray(embedding), jnp.zeros((8, 2, 17, 3)), jnp.zeros((8, 2, 6))
        )
    }
    method = Method(objective=Objective(across_groups=True))
    state = TrainState(
        jnp.zeros((), jnp.int32),
        {"params": {}},
        (),
        PoseStatistics(jnp.zeros((17, 3)), jnp.ones(())),
        Network(),
    )
    run = jax.jit(lambda o, b: train_step.objective(method, o, {}, state, b, None))
    _, (sums, mined) = run(outputs, batch)
    canonical = np.asarray(skeleton.canonicalise(jnp.asarray(pose))[0])
    distances = []
    for anchor, column in enumerate(np.asarray(mined)):
        here, there = anchor // 2, column // 2
        if batch.unlabelled.valid[here] and here != 5 and there != 5:
            distances.append(np.linalg.norm(canonical[here] - canonical[there], axis=-1).mean())
    total, count = sums["mined_pose_distance"]
    assert float(count) == len(distances) > 4
    assert float(total) == pytest.approx(sum(distances), rel=1e-4)
    false, of = sums["false_negatives"]
    assert (float(false), float(of)) == (sum(distance < 50 for distance in distances), len(distances))
    assert 0 < float(false) < float(of)
