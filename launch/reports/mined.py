"""The negatives that a trained run mines from its own training data, as pictures: hardest, typical and false ones."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from datasets.tuples import pipeline
from datasets.tuples.records import decode_jpeg, encode_jpeg
from launch.cli import options, progress
from launch.pages import page
from launch.pages.page import Section
from launch.runs import run_folder
from launch.training import sources
from mcss_jax import losses, metrics, skeleton
from mcss_jax.errors import UserError
from mcss_jax.padding import padded
from mcss_jax.pairs import Instants, Pairs
from mcss_jax.training.batch import Unlabelled
from mcss_jax.training.train_step import FALSE_NEGATIVE, embed_step

BATCHES = 20  # of the run's last ones
SHOWN = 6  # triplets of a kind
SIDE = 128  # pixels of a shown picture at most
AT_ONCE = 128  # pictures that are embedded at a time


@dataclasses.dataclass(frozen=True)
class Mined:
    """Anchors with the hardest negative in their batch; the positive is the other view of the anchor's instant.

    Attributes:
      pictures: anchor, positive and negative.
      positive, negative: distances of their embeddings to the anchor's.
      sequence: number of the anchor's recording.
      apart: seconds between anchor and negative, NaN where they are of two recordings; other_group: of two groups.
      pose_gap: canonical MPJPE between their poses, mm; NaN where the run may not read both labels.
    """

    pictures: UInt8[np.ndarray, "a 3 s s 3"]
    positive: Float[np.ndarray, " a"]
    negative: Float[np.ndarray, " a"]
    sequence: Int[np.ndarray, " a"]
    apart: Float[np.ndarray, " a"]
    other_group: Bool[np.ndarray, " a"]
    pose_gap: Float[np.ndarray, " a"]

    @property
    def false(self) -> Bool[np.ndarray, " a"]:
        """Anchors whose negative has nearly their own pose."""
        return self.pose_gap < FALSE_NEGATIVE


def mine(run: run_folder.Run, data_dir: str = "") -> Mined | None:
    """What a run mines from its last batches, pictures as they are stored; None where it has no negatives to mine.

    Nor where its training data are not at hand, or are no longer those that it was trained on.
    """
    config = run.config
    if config.method != "mcss" or not config.objective.metric_weight or not run.step:
        return None
    data = options.replace(config, data_dir=data_dir or config.data.data_dir, cache="none", validate_every=0)
    try:
        source = sources.open_source(data)
    except (UserError, OSError):
        return None
    if source.card["fingerprint"] != run.card["fingerprint"]:
        return None
    first = max(0, run.step - BATCHES)
    progress.say(f"mined negatives: {run.step - first} batches of {run.card['dataset']}")
    batches = source.batches(first, run.step, pipeline.Waiting())
    found = [_of_batch(run, jax.tree.map(np.asarray, batch.unlabelled)) for _, batch in batches]
    return Mined(
        *(np.concatenate([getattr(one, field.name) for one in found]) for field in dataclasses.fields(Mined))
    )


def _of_batch(run: run_folder.Run, seen: Unlabelled) -> Mined:
    objective = run.config.objective
    views = seen.images.reshape(-1, *seen.images.shape[2:])
    embedding = _embedded(run, views).reshape(len(seen.valid), 2, -1)
    instants = Instants(*map(jnp.asarray, (seen.group, seen.sequence, seen.time, seen.valid)))
    pairs = Pairs(
        embedding, instants, embedding, instants, objective.min_negative_gap, objective.across_groups
    )
    triplets = jax.tree.map(np.asarray, jax.jit(lambda pairs: losses.mine(pairs, 0.0))(pairs))
    anchor = np.flatnonzero(triplets.valid)
    column = triplets.mined[anchor]
    here, there = anchor // 2, column // 2
    same = seen.sequence[here] == seen.sequence[there]
    canonical = np.asarray(skeleton.canonicalise(jnp.asarray(seen.pose))[0])
    known = np.isfinite(canonical[here] + canonical[there]).all(axis=(1, 2))
    gap = np.asarray(metrics.mpjpe(jnp.asarray(canonical[here]), jnp.asarray(canonical[there])))
    return Mined(
        pictures=np.stack([views[anchor], views[anchor ^ 1], views[column]], axis=1),
        positive=triplets.positive[anchor],
        negative=triplets.negative[anchor],
        sequence=seen.sequence[here],
        apart=np.where(same, np.abs(seen.time[here] - seen.time[there]), np.nan),
        other_group=seen.group[here] != seen.group[there],
        pose_gap=np.where(known, gap, np.nan),
    )


_embed = jax.jit(embed_step)


def _embedded(run: run_folder.Run, views: UInt8[np.ndarray, "n s s 3"]) -> Float[jax.Array, "n d"]:
    parts = [views[first : first + AT_ONCE] for first in range(0, len(views), AT_ONCE)]
    return jnp.concatenate(
        [_embed(run.state, padded(part, AT_ONCE)).embedding[: len(part)] for part in parts]
    )


def chosen(mined: Mined) -> dict[str, Int[np.ndarray, " n"]]:
    """Anchors to show by kind: those with the nearest negatives, with middling ones, and with false ones.

    Within a kind every anchor is of another recording: neighbours in time look alike.
    """
    by_distance = np.argsort(mined.negative, kind="stable")
    middle = np.abs(np.arange(len(by_distance)) - len(by_distance) // 2)
    false = np.flatnonzero(mined.false)
    kinds = {
        "Hardest": by_distance,
        "Typical": by_distance[np.argsort(middle, kind="stable")],
        "False: nearly the same pose": false[np.argsort(mined.pose_gap[false], kind="stable")],
    }
    return {name: _one_a_sequence(mined, order)[:SHOWN] for name, order in kinds.items()}


def _one_a_sequence(mined: Mined, order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    _, first = np.unique(mined.sequence[order], return_index=True)
    return order[np.sort(first)]


def section(by_run: dict[str, Mined]) -> Section | None:
    """Triplets of every run that mines negatives; None where none does."""
    if not by_run:
        return None
    parts = []
    for name, mined in by_run.items():
        parts.append(page.heading(name) if len(by_run) > 1 else "")
        parts.append(page.paragraph(_summary(mined)))
        for kind, indices in chosen(mined).items():
            if len(indices):
                cards = "".join(_triplet(mined, int(index)) for index in indices)
                parts.append(f'<h4>{page.escape(kind)}</h4><div class="triplets">{cards}</div>')
    return Section(
        "Mined negatives",
        "Anchor, the other view of its instant, and the instant that the trained network holds nearest among the "
        "anchor's allowed negatives, in the run's last batches (pictures as stored, without augmentation). d: distance "
        f"of embeddings. A negative is false where its pose is within {FALSE_NEGATIVE:g} mm of the anchor's: known "
        "only where the run may read both labels.",
        "".join(parts),
    )


def _summary(mined: Mined) -> str:
    known = np.isfinite(mined.pose_gap)
    text = f"{len(mined.negative)} anchors; median distance to the positive {np.median(mined.positive):.2f}, to the "
    text += f"hardest negative {np.median(mined.negative):.2f}."
    if known.any():
        share = 100 * mined.false.sum() / known.sum()
        text += f" Of {known.sum()} whose poses are known {share:.0f} % are false, and the median pose is "
        text += f"{np.median(mined.pose_gap[known]):.0f} mm away."
    return text


def _triplet(mined: Mined, index: int) -> str:
    pictures: Any = mined.pictures[index]
    apart = (
        "another group"
        if mined.other_group[index]
        else "another recording"
        if np.isnan(mined.apart[index])
        else f"{mined.apart[index]:.1f} s away"
    )
    pose = "" if np.isnan(mined.pose_gap[index]) else f", {mined.pose_gap[index]:.0f} mm"
    captions = (
        "anchor",
        f"positive, d {mined.positive[index]:.2f}",
        f"negative, d {mined.negative[index]:.2f}; {apart}{pose}",
    )
    shown = "".join(
        f"<figure>{page.picture(_jpeg(pixels), caption)}<figcaption>{page.escape(caption)}</figcaption></figure>"
        for pixels, caption in zip(pictures, captions, strict=True)
    )
    return f'<div class="triplet">{shown}</div>'


def _jpeg(pixels: UInt8[np.ndarray, "s s 3"]) -> bytes:
    data = encode_jpeg(pixels)
    return encode_jpeg(decode_jpeg(data, SIDE)) if len(pixels) > SIDE else data
