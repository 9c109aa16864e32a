"""One replica's training step and its inference twin, as pure functions of state, batch and key.

The body sees a local batch. Under a mapped axis it shares batch statistics, gathers the embeddings of all
replicas as candidates for mining, and averages loss *and* gradients over the axis: the one recipe that is
right under plain jit, pmap and shard_map alike (docs/method.md#one-replicas-step).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from mcss_jax import geometry, losses, metrics, mining, skeleton
from mcss_jax.augment import augment
from mcss_jax.method import Method
from mcss_jax.metric_losses.registry import metric_loss
from mcss_jax.networks.pixels import standardise
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.pairs import Instants, Pairs, Term, negatives
from mcss_jax.training.batch import Batch, Labelled, Part
from mcss_jax.training.optimiser import schedule, transformation
from mcss_jax.training.state import TrainState, Variables

Sums = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]
Report = dict[str, Float[Array, ""]]

# Millimetres of canonical MPJPE. A mined negative whose pose is nearer to the anchor's than this is a false one: the
# loss pushes apart what should lie together. A pose estimator's error is no smaller (docs/method.md#false-negatives).
FALSE_NEGATIVE = 50.0

# Numbers of the parts' random streams: each sample of each part is augmented by a key of its own.
STREAMS: dict[Part, int] = {"labelled": 0, "unlabelled": 1}


class Outputs(NamedTuple):
    """The network's outputs for b samples of v views in training: pose standardised, rotation as six numbers."""

    embedding: Float[Array, "b v d"]
    pose: Float[Array, "b v 17 3"]
    rotation: Float[Array, "b v 6"]


class Crop(NamedTuple):
    """What augmentation made of b samples: the box of the first view, pixels, and whether it is mirrored."""

    box: Float[Array, "b 4"]
    flipped: Bool[Array, " b"]


class Prediction(NamedTuple):
    """`embedding` has unit norm; `canonical` is in mm; `rotation` turns it to the virtual camera's frame."""

    embedding: Float[Array, "b d"]
    canonical: Float[Array, "b 17 3"]
    rotation: Float[Array, "b 3 3"]


def _sum_over(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else lax.psum(tree, axis_name)


def _gather(tree: Any, axis_name: str | None) -> Any:
    if axis_name is None:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, axis_name, tiled=True), tree)


def _keys(rng: Key[Array, ""], step: Array, sample: Int[Array, " b"], stream: int) -> Key[Array, " b"]:
    key = jax.random.fold_in(jax.random.fold_in(rng, step), stream)
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(sample)


def _targets(
    labelled: Labelled, box: Float[Array, "l 4"], flipped: Array
) -> tuple[Float[Array, "l 17 3"], Float[Array, "l 3 3"]]:
    """Canonical pose and rotation in the virtual camera of the (augmented, perhaps mirrored) crop."""
    turn = geometry.look_through(labelled.intrinsics, box)
    pose = jnp.where(labelled.valid[:, None, None], labelled.pose, 0.0)
    virtual = jnp.matmul(pose, turn, precision="highest")
    virtual = jnp.where(flipped[:, None, None], skeleton.mirror(virtual), virtual)
    return skeleton.canonicalise(virtual)


def _mined_poses(term: Term, pose: Float[Array, "b 17 3"], candidates: Float[Array, "n 17 3"]) -> Sums:
    """Of anchors and mined negatives whose labels may be used: true distance (canonical MPJPE, mm); share of false."""
    own = jnp.repeat(skeleton.canonicalise(pose)[0], 2, axis=0)
    other = skeleton.canonicalise(candidates)[0][term.mined // 2]
    labelled = term.has_negative & jnp.isfinite(own + other).all(axis=(1, 2))
    distance = metrics.mpjpe(
        jnp.where(labelled[:, None, None], own, 0), jnp.where(labelled[:, None, None], other, 0)
    )
    count = jnp.sum(labelled).astype(jnp.float32)
    false = labelled & (distance < FALSE_NEGATIVE)
    return {
        "mined_pose_distance": (jnp.sum(jnp.where(labelled, distance, 0.0)), count),
        "false_negatives": (jnp.sum(false).astype(jnp.float32), count),
    }


def _negatives(pairs: Pairs) -> Sums:
    """The share of whole instants that have a negative, and how many instants may be theirs."""
    number, whole = negatives(pairs), jnp.sum(pairs.instants.valid).astype(jnp.float32)
    return {
        "anchors_with_negative": (jnp.sum(number > 0).astype(jnp.float32), whole),
        "negatives": (jnp.sum(number).astype(jnp.float32), whole),
    }


def forward(
    method: Method,
    params: Any,
    state: TrainState,
    batch: Batch,
    rng: Key[Array, ""],
    axis_name: str | None,
) -> tuple[dict[Part, Outputs], tuple[Variables, dict[Part, Crop]]]:
    """Augmentation and network, in training mode: `(outputs, (new collections, crops))` by part of the batch.

    All pictures are normalised together, over the axis too.
    """
    images: dict[Part, Float[Array, "b v s s 3"]] = {}
    crops: dict[Part, Crop] = {}
    for name, part in batch.parts.items():
        keys = _keys(rng, state.step, part.sample, STREAMS[name])
        images[name], box, flipped = augment(keys, part.views, part.boxes, method.augmentation)
        crops[name] = Crop(box[:, 0], flipped)
    network = PoseNetwork(state.network, axis_name)
    answers, collections = network.apply(
        {"params": params, **state.collections},
        standardise(jnp.concatenate([x.reshape(-1, *x.shape[2:]) for x in images.values()])),
        True,
        mutable=list(state.collections),
    )
    outputs: dict[Part, Outputs] = {}
    start = 0
    for name, pixels in images.items():
        shape = pixels.shape[:2]
        rows = slice(start, start + math.prod(shape))
        outputs[name] = Outputs(*(x[rows].reshape(*shape, *x.shape[1:]) for x in answers))
        start = rows.stop
    return outputs, (dict(collections), crops)


def objective(
    method: Method,
    outputs: dict[Part, Outputs],
    crops: dict[Part, Crop],
    state: TrainState,
    batch: Batch,
    axis_name: str | None,
) -> tuple[Float[Array, ""], tuple[Sums, Int[Array, " a"] | None]]:
    """The loss as a function of the network's outputs: `(loss, (sums, mined columns of every anchor))`.

    The loss is the global one on every replica; sums are (sum, count) of this replica, by name of the metric.
    """
    weights = method.objective
    # Terms and sums hold (sum, count) of this replica; counts carry no gradient.
    terms: dict[str, tuple[float, tuple[Array, Array]]] = {}
    sums: Sums = {}
    mined = None
    if batch.labelled is not None:
        data, crop = batch.labelled, crops["labelled"]
        standardised, rotation = outputs["labelled"].pose[:, 0], outputs["labelled"].rotation[:, 0]
        canonical, target = _targets(data, crop.box, crop.flipped)
        mean, scale = state.statistics
        standardised_target = (canonical - mean[None]) / scale
        terms["pose"] = (1.0, losses.pose(standardised, standardised_target, data.valid))
        predicted = geometry.rotation_from_6d(rotation)
        terms["rotation"] = (weights.rotation_weight, losses.rotation(predicted, target, data.valid))
        error = metrics.mpjpe(standardised * scale + mean[None], canonical)
        sums["train_mpjpe_canonical"] = (jnp.sum(error * data.valid), jnp.sum(data.valid) * 1.0)
    if batch.unlabelled is not None:
        seen = batch.unlabelled
        embedding = outputs["unlabelled"].embedding
        instants = Instants(seen.group, seen.sequence, seen.time, seen.valid)
        pairs = Pairs(
            embedding,
            instants,
            _gather(embedding, axis_name),
            _gather(instants, axis_name),
            weights.min_negative_gap,
            weights.across_groups,
        )
        temperature = mining.temperature_at(
            state.step, weights.temperature_start, weights.temperature_end, method.temperature_steps
        )
        term = metric_loss(weights.metric_loss)(pairs, weights, temperature)
        terms["metric"] = (weights.metric_weight, (term.total, term.anchors))
        sums |= term.figures
        # Flat: on a TPU the last two axes of an array are padded to 8 and 128, a pose's 17 and 3 to 42 times as much.
        candidates = _gather(seen.pose.reshape(-1, 51), axis_name).reshape(-1, 17, 3)
        sums |= _mined_poses(term, seen.pose, candidates) | _negatives(pairs)
        mined = term.mined
    # Variance about the global mean: zero when every picture has the same embedding (collapse).
    embeddings = [of.embedding.reshape(-1, of.embedding.shape[-1]) for of in outputs.values()]
    everything = _gather(lax.stop_gradient(jnp.concatenate(embeddings)), axis_name)
    sums["embedding_variance"] = (jnp.sum(jnp.var(everything, axis=0)), jnp.ones(()))
    loss = jnp.zeros(())
    for name, (weight, (total, count)) in terms.items():
        # Divided by the global count, not by this replica's: replicas may have different numbers of valid rows.
        everywhere = lax.stop_gradient(jnp.maximum(_sum_over(count, axis_name), 1.0))
        share = total / everywhere
        if axis_name is not None:
            # The mean over replicas of (replicas x share) is the global sum over the global count.
            share = lax.pmean(share * lax.axis_size(axis_name), axis_name)
        loss = loss + weight * share
        sums[f"loss_{name}"] = (total, count)
    return loss, (sums, mined)


def _loss(
    params: Any, method: Method, state: TrainState, batch: Batch, rng: Key[Array, ""], axis_name: str | None
) -> tuple[Array, tuple[Variables, Sums, Array | None]]:
    outputs, (collections, crops) = forward(method, params, state, batch, rng, axis_name)
    loss, (sums, mined) = objective(method, outputs, crops, state, batch, axis_name)
    return loss, (collections, sums, mined)


def update(
    method: Method,
    state: TrainState,
    loss: Array,
    gradients: Any,
    collections: Variables,
    sums: Sums,
    axis_name: str | None,
) -> tuple[TrainState, Report]:
    """The optimiser's step and the global metrics, from this replica's gradients, statistics and sums."""
    if axis_name is not None:
        gradients = lax.pmean(gradients, axis_name)
        collections = lax.pmean(collections, axis_name)
    optimiser = method.optimiser
    updates, opt_state = transformation(optimiser).update(gradients, state.opt_state, state.params)
    totals = _sum_over(sums, axis_name)
    report = {
        name: jnp.where(n > 0, s / jnp.where(n > 0, n, 1.0), jnp.nan) for name, (s, n) in totals.items()
    }
    report["loss"] = loss
    report["gradient_norm"] = optax.tree.norm(gradients)
    report["learning_rate"] = jnp.asarray(schedule(optimiser)(state.step), jnp.float32)
    return (
        dataclasses.replace(
            state,
            step=state.step + 1,
            variables={"params": optax.apply_updates(state.params, updates), **collections},
            opt_state=opt_state,
        ),
        report,
    )


def train_step(
    method: Method, state: TrainState, batch: Batch, rng: Key[Array, ""], *, axis_name: str | None = None
) -> tuple[TrainState, Report]:
    """One update on this replica's share of the batch: `(new state, metrics)`.

    `method` is static, and says how to train; the network is the state's. `rng` is the run's key: the step is folded
    in here. Metrics are means over the global batch, the same on
    all replicas; a metric whose count is zero is NaN (nothing to report), never a made-up zero.
    """
    (loss, (collections, sums, _)), gradients = jax.value_and_grad(_loss, has_aux=True)(
        state.params, method, state, batch, rng, axis_name
    )
    return update(method, state, loss, gradients, collections, sums, axis_name)


def embed_step(state: TrainState, images: UInt8[Array, "b s s 3"]) -> Prediction:
    """Embeddings and poses of crops, with running statistics; on one replica's share of the pictures."""
    out: Any = PoseNetwork(state.network).apply(state.variables, standardise(images), False)
    embedding, standardised, rotation = out
    mean, scale = state.statistics
    return Prediction(embedding, standardised * scale + mean[None], geometry.rotation_from_6d(rotation))
