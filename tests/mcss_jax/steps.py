"""A tiny method, state and batch for tests of the training step, and a network that compiles fast."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.augment import Augmentation
from mcss_jax.method import Method, Network, Objective, Optimiser
from mcss_jax.networks import resnet
from mcss_jax.training.batch import Batch, Labelled, Unlabelled
from mcss_jax.training.state import PoseStatistics, TrainState, init_state, pose_statistics

SIZE = 32
TINY = Method(
    network=Network(width=8, embedding_dim=8, stem="patch8", hidden=8, layers=1),
    # Across groups, as the few instants of a tiny batch would hardly be each other's negatives otherwise.
    objective=Objective(margin=0.5, temperature_start=0.2, across_groups=True),
    # Warm-up would make the first update zero; a small epsilon-like step would hide differences.
    optimiser=Optimiser(learning_rate=1e-3, warmup_steps=0, steps=100),
    augmentation=Augmentation(),
)


@contextlib.contextmanager
def two_blocks() -> Iterator[None]:
    """Within it a ResNet-18 has two blocks in two stages, and a training step compiles in a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.STAGES, 18, (1, 1))
        yield


def darken(
    keys: jax.Array, views: jax.Array, box: jax.Array, _: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """An augmentation that compiles fast: every sample is darkened and perhaps mirrored as its own key says."""
    light = jax.vmap(jax.random.uniform)(keys)
    pixels = views.astype(jnp.float32) * light[:, None, None, None, None]
    return pixels, box, light < 0.5


def poses(rng: np.random.Generator, n: int) -> np.ndarray:
    """Camera-frame poses in millimetres with hips and spine where a person has them."""
    pose = rng.normal(0, 250, (n, 17, 3))
    pose[:, 0], pose[:, 1], pose[:, 4], pose[:, 8] = 0, (-130, 0, 20), (130, 0, -20), (0, -500, 30)
    return (pose + (300, 100, 4000)).astype(np.float32)


def make_batch(seed: int = 0, labelled: int = 8, unlabelled: int = 8) -> Batch:
    rng = np.random.default_rng(seed)
    pictures = pairs = None
    if labelled:
        corner = rng.uniform(200, 600, (labelled, 2))
        pictures = Labelled(
            images=rng.integers(0, 256, (labelled, SIZE, SIZE, 3)).astype(np.uint8),
            pose=poses(rng, labelled),
            intrinsics=np.tile(
                np.asarray([[1100, 0, 500], [0, 1100, 500], [0, 0, 1]], np.float32), (labelled, 1, 1)
            ),
            box=np.concatenate([corner, corner + 250], axis=1).astype(np.float32),
            valid=np.arange(labelled) != 1,
            sample=np.arange(labelled, dtype=np.int32),
        )
    if unlabelled:
        group = np.arange(unlabelled) // 4
        pose = poses(rng, unlabelled)
        pose[1::2] = np.nan
        pairs = Unlabelled(
            images=rng.integers(0, 256, (unlabelled, 2, SIZE, SIZE, 3)).astype(np.uint8),
            group=group.astype(np.int32),
            sequence=(2 * group + np.arange(unlabelled) % 4 // 2).astype(np.int32),
            time=(0.5 * (np.arange(unlabelled) % 2)).astype(np.float32),
            valid=np.arange(unlabelled) != 2,
            sample=np.arange(unlabelled, dtype=np.int32),
            pose=pose,
        )
    return Batch(pictures, pairs)


def make_state(method: Method = TINY) -> TrainState:
    """A state on the host, so that a donated call cannot take it from the next test.

    Filled by NumPy, which compiles nothing; no scale is zero, so that every parameter has a gradient.
    """
    rng = np.random.default_rng(3)
    statistics = pose_statistics(jnp.asarray(poses(np.random.default_rng(9), 20)))
    shapes = jax.eval_shape(lambda: init_state(method, jax.random.key(0), SIZE, PoseStatistics(*statistics)))

    def fill(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        if name.startswith(".opt_state") or leaf.dtype == jnp.int32:
            return np.zeros(leaf.shape, leaf.dtype)
        if "kernel" in name:
            return rng.normal(0, np.sqrt(2 / np.prod(leaf.shape[:-1])), leaf.shape).astype(np.float32)
        return np.full(leaf.shape, 1.0 if "scale" in name or "var" in name else 0.0, np.float32)

    filled = jax.tree_util.tree_map_with_path(fill, shapes)
    return dataclasses.replace(filled, statistics=jax.tree.map(np.asarray, statistics))


def leaves(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by name, for messages that say where two trees differ."""
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
