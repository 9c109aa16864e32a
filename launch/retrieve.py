"""Cross-view retrieval with a trained run: query a view, find the same pose in the other cameras.

    python -m launch.retrieve --workdir=runs/mcss --split=test

With poses it reports mean PA-MPJPE@K and Hit@K beside the oracle, chance, an untrained encoder and retrieval by
regressed pose; without poses the temporal alignment error: query a frame of camera A, take the nearest frame of camera
B of the same sequence, and measure how far apart in time they are.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from datasets import pipeline
from launch import evaluate, flags, inference, progress, protocols, run_folder
from launch.flags import option
from mcss_jax import retrieval

KS = (1, 5, 10, 20)


@dataclasses.dataclass(frozen=True)
class Retrieve:
    """See `python -m launch.retrieve --help`."""

    workdir: str = option("", "Folder of the run. Required.", "Run")
    step: int = option(0, "Checkpoint; 0 for the newest.", "Run")
    dataset: str = option("", "Prepared data set; by default the one the run was trained on.", "Data")
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", "Data")
    split: str = option("test", "Split that holds queries and gallery.", "Data")
    stride: int = option(1, "Use every n-th instant.", "Data")
    batch: int = option(256, "Pictures at a time.", "Data")
    same_instant: bool = option(
        False,
        "Keep the query's own instant in the gallery (the oracle is then zero by construction).",
        "Protocol",
    )
    min_gap: float = option(
        0.5, "Exclude other instants of the query's sequence that are nearer than this, seconds.", "Protocol"
    )


def keys_of(views: inference.Views) -> retrieval.FrameKeys:
    """What the retrieval rule knows of each view."""
    return retrieval.FrameKeys(
        views.sequence.astype(np.int32), views.time.astype(np.float32), views.camera.astype(np.int32)
    )


def rule_of(same_instant: bool, min_gap: float) -> retrieval.ViewRule:
    """Another camera; the query's instant kept or not; near instants of its sequence excluded."""
    return retrieval.ViewRule(same_view=False, same_instant=same_instant, min_gap=min_gap)


def by_features(
    views: inference.Views, features: Float[np.ndarray, "n d"], rule: retrieval.ViewRule, k: int = max(KS)
) -> np.ndarray:
    """Indices [n, k] of the nearest allowed views of every view."""
    keys = keys_of(views)
    return retrieval.nearest(features, features, k, allowed=rule, query_keys=keys, gallery_keys=keys)[0]


def scores(views: inference.Views, indices: np.ndarray) -> dict[str, float]:
    """Mean PA-MPJPE@K and Hit@K (percent) of retrieved indices."""
    poses = views.true_canonical
    out = {f"pa_mpjpe@{k}": retrieval.mean_pa_mpjpe_at_k(poses, poses, indices[:, :k]) for k in KS}
    return out | {f"hit@{k}": 100 * retrieval.hit_at_k(poses, poses, indices[:, :k]) for k in KS if k != 5}


def bounds(views: inference.Views, rule: retrieval.ViewRule) -> tuple[dict[str, float], dict[str, float]]:
    """(oracle, chance): retrieval by true pose, and at random among the allowed views."""
    poses, keys = views.true_canonical, keys_of(views)
    best = retrieval.oracle(poses, poses, max(KS), allowed=rule, query_keys=keys, gallery_keys=keys)[0]
    random = retrieval.chance(
        poses, poses, ks=KS, allowed=rule, query_keys=keys, gallery_keys=keys, max_pairs=4_000_000
    )
    chance = {f"pa_mpjpe@{k}": random["pa_mpjpe"] for k in KS}
    return scores(views, best), chance | {f"hit@{k}": 100 * random[f"hit@{k}"] for k in KS if k != 5}


def by_camera_pair(
    views: inference.Views, features: Float[np.ndarray, "n d"], rule: retrieval.ViewRule
) -> np.ndarray:
    """Mean PA-MPJPE@1 [query camera, gallery camera]; NaN on the diagonal."""
    cameras = np.unique(views.camera)
    out = np.full((len(cameras), len(cameras)), np.nan)
    keys = keys_of(views)
    for i, a in enumerate(cameras):
        for j, b in enumerate(cameras):
            if a == b:
                continue
            q, g = np.flatnonzero(views.camera == a), np.flatnonzero(views.camera == b)
            found = retrieval.nearest(
                features[q],
                features[g],
                1,
                allowed=rule,
                query_keys=jax.tree.map(lambda x, q=q: x[q], keys),
                gallery_keys=jax.tree.map(lambda x, g=g: x[g], keys),
            )[0]
            out[i, j] = retrieval.mean_pa_mpjpe_at_k(views.true_canonical[q], views.true_canonical[g], found)
    return out


def alignment(
    views: inference.Views, features: Float[np.ndarray, "n d"] | None, seed: int = 0
) -> dict[str, float]:
    """Temporal alignment error in seconds over all ordered camera pairs of every sequence: median and mean.

    `features=None` is chance: a uniformly random frame of the other camera instead of the nearest.
    """
    rng = np.random.default_rng(seed)
    errors = []
    for sequence in np.unique(views.sequence):
        inside = views.sequence == sequence
        for a in np.unique(views.camera[inside]):
            for b in np.unique(views.camera[inside]):
                q, g = (np.flatnonzero(inside & (views.camera == c)) for c in (a, b))
                if a == b or not len(q) or not len(g):
                    continue
                if features is None:
                    nearest = rng.integers(0, len(g), (len(q), 100))
                else:
                    nearest = retrieval.nearest(features[q], features[g], 1)[0]
                errors.append(np.abs(views.time[g][nearest] - views.time[q][:, None]).ravel())
    if not errors:
        raise ValueError("temporal alignment needs a sequence that at least two cameras saw")
    every = np.concatenate(errors)
    return {"median_s": float(np.median(every)), "mean_s": float(np.mean(every))}


def untrained(
    run: run_folder.Run, split: pipeline.Split, choice: protocols.Choice, *, batch: int
) -> inference.Views:
    """The chosen views through the same network with its initial weights."""
    fresh = run_folder.initial_state(run.config, run.card["image_size"], run.state.statistics)
    return inference.predict_split(fresh, split, choice, batch=batch)


def table(rows: dict[str, dict[str, float]]) -> str:
    """Figures by method, one row each."""
    names = list(next(iter(rows.values())))
    width = max(len(name) for name in rows)
    head = " " * width + "".join(f"{name:>14}" for name in names)
    return "\n".join(
        [
            head,
            *(f"{name:<{width}}" + "".join(f"{row[n]:14.3f}" for n in names) for name, row in rows.items()),
        ]
    )


def retrieve(run: run_folder.Run, split: pipeline.Split, config: Retrieve) -> dict[str, Any]:
    """All figures of a run on a split: `retrieval` where it has poses, `temporal_alignment` where it has none."""
    choice = protocols.choose(split, stride=config.stride)
    views = inference.predict_split(run.state, split, choice, batch=config.batch)
    before = untrained(run, split, choice, batch=config.batch)
    card = evaluate.protocol(run, split, choice, views)
    if not views.has_pose:
        card["query"] = (
            "every view; gallery: each other camera's views of the same sequence, its own instant kept"
        )
        return {
            "temporal_alignment": {
                "trained": alignment(views, views.embedding),
                "untrained": alignment(views, before.embedding),
                "chance": alignment(views, None),
            },
            "protocol": card,
        }
    card |= {
        "query": "every view; gallery: the other cameras' views of all subjects of the split",
        "same instant": "kept" if config.same_instant else "excluded",
        "near in time": f"other instants of the sequence nearer than {config.min_gap} s are excluded",
    }
    rule = rule_of(config.same_instant, config.min_gap)
    oracle, chance = bounds(views, rule)
    rows = {
        "embedding": scores(views, by_features(views, views.embedding, rule)),
        "regressed pose": scores(views, by_features(views, views.canonical.reshape(len(views), -1), rule)),
        "untrained": scores(views, by_features(views, before.embedding, rule)),
        "oracle": oracle,
        "chance": chance,
    }
    pairs = by_camera_pair(views, views.embedding, rule)
    return {"retrieval": rows, "pa_mpjpe@1_by_camera_pair": pairs.tolist(), "protocol": card}


def main(config: Retrieve) -> None:
    """Prints the tables and the card, and writes them beside the run."""
    if not config.workdir:
        raise ValueError("--workdir is missing; name the folder of a run")
    if config.stride < 1 or config.batch < 1 or config.min_gap < 0:
        raise ValueError("--stride and --batch must be at least 1, --min_gap at least 0")
    run = run_folder.open_run(config.workdir, config.step or None)
    split = evaluate.open_data(run, config.dataset, config.data_dir, config.split)
    result = retrieve(run, split, config)
    progress.say(table(result["retrieval"] if "retrieval" in result else result["temporal_alignment"]))
    if "retrieval" in result:
        progress.say("PA-MPJPE@1 by camera pair (rows: query, columns: gallery):")
        for row in result["pa_mpjpe@1_by_camera_pair"]:
            progress.say("".join("       -" if np.isnan(x) else f"{x:8.1f}" for x in row))
    progress.say("Protocol:\n" + evaluate.card_text(result["protocol"]))
    output = Path(config.workdir).expanduser() / f"retrieval_{config.split}.json"
    run_folder.write_text(output, json.dumps(result, indent=2).replace("NaN", "null") + "\n")
    progress.say(f"written to {output}")


if __name__ == "__main__":
    flags.run(Retrieve, "launch.retrieve", __doc__ or "", main)
