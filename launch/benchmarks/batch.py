"""The synthetic batches that the benchmark's suites work on, and their network in a few words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from launch.runs import settings
from mcss_jax.training.batch import Batch, Labelled, Unlabelled
from mcss_jax.training.state import PoseStatistics, pose_statistics


def random_poses(seed: int, count: int) -> Float[np.ndarray, "n 17 3"]:
    """Camera-frame poses of a standing person's extent, 4 m away, millimetres."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, 17, 3)) * [120, 450, 120] + [0, 0, 4000]).astype(np.float32)


def random_batch(config: settings.Train, size: int) -> Batch:
    """A batch of the run's make-up, as `train_step` takes it: noise for pictures, random poses."""
    rng = np.random.default_rng(0)
    labelled = unlabelled = None
    if count := settings.labelled_size(config):
        labelled = Labelled(
            images=rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
            pose=random_poses(1, count),
            intrinsics=np.tile(
                np.asarray([[1145, 0, 512], [0, 1145, 512], [0, 0, 1]], np.float32), (count, 1, 1)
            ),
            box=np.tile(np.asarray([400, 300, 700, 600], np.float32), (count, 1)),
            valid=np.ones(count, bool),
            sample=np.arange(count, dtype=np.int32),
        )
    blocks = settings.blocks_of(config)
    if blocks is not None:
        index = np.arange(blocks.size, dtype=np.int32)
        unlabelled = Unlabelled(
            images=rng.integers(0, 256, (blocks.size, 2, size, size, 3), dtype=np.uint8),
            group=index // (blocks.sequences * blocks.instants),
            sequence=index // blocks.instants,
            time=(index % blocks.instants * max(blocks.min_gap, 0.1)).astype(np.float32),
            valid=np.ones(blocks.size, bool),
            sample=index,
            pose=random_poses(2, blocks.size),
        )
    return Batch(labelled, unlabelled)


def statistics() -> PoseStatistics:
    """Mean and scale of the random poses."""
    return pose_statistics(jnp.asarray(random_poses(1, 64)))


def pairs_in(batch: Batch) -> int:
    """Positive pairs: the unlabelled instants."""
    return 0 if batch.unlabelled is None else len(batch.unlabelled.sample)


def size_of(config: settings.Train) -> int:
    """Side of the pictures, pixels: what the flags say, as stored sizes are not looked up."""
    return config.data.image_size or config.data.stream_size


def encoder_name(network: Mapping[str, Any]) -> str:
    """An encoder in a few words, by its settings; those of older records had no other kind than a ResNet."""
    if network.get("encoder", "resnet") == "vit":
        return f"ViT-{network['vit_size']}x{network['vit_layers']}/{network['vit_patch']}"
    return f"ResNet-{network['depth']}/{network['width']} {network['stem']}"


def describe(config: settings.Train, size: int) -> str:
    """The network and its pictures in a few words."""
    return f"{encoder_name(dataclasses.asdict(config.network))} {size}px"
