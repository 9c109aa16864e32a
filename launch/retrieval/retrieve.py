"""Retrieval with a run: every view searched among the others, by its embedding and by what it is compared with."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from datasets.tuples import pipeline
from launch.cli import progress
from launch.evaluation import evaluate, inference, protocols
from launch.retrieval import frame_keys, protocol
from launch.retrieval.protocol import Figures, Scores, SearchSet, rule_of
from launch.retrieval.settings import Retrieve, check_without_poses, ks_of
from launch.retrieval.tables import group_table, pair_table, table
from launch.retrieval.temporal_alignment import alignment
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.search import retrieval

EMBEDDING, POSE, SUPERVISED = "embedding", "regressed pose", "supervised only"


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """What a run retrieves from a split.

    Attributes:
      views: queries and gallery, with the run's embeddings.
      scores: by method; none where the split has no poses.
      alignment: temporal alignment errors by method, where the split has no poses.
      cameras: names, in the order of `Scores.pairs`.
      card: the protocol.
    """

    views: inference.Views
    scores: dict[str, Scores]
    alignment: dict[str, Figures]
    cameras: tuple[str, ...]
    card: dict[str, Any]


def untrained(
    run: run_folder.Run, split: pipeline.Split, choice: protocols.Choice, *, batch: int
) -> inference.Views:
    """The chosen views through the same network with its initial weights."""
    fresh = run_folder.initial_state(run.config, run.card["image_size"], run.state.statistics)
    return inference.predict_split(fresh, split, choice, batch=batch)


def retrieve(run: run_folder.Run, split: pipeline.Split, config: Retrieve) -> Retrieved:
    """Searches a split's views among themselves and measures what is found.

    Raises UserError when the gallery is empty or smaller than K, as `check_without_poses` does where the split has
    none, and as `frame_keys.locate`, `protocols.choose` and `open_baseline` do.
    """
    baseline = open_baseline(config.baseline) if config.baseline else None
    choice, keys = select(split, config)
    predicted = inference.predict_split(run.state, split, choice, batch=config.batch)
    chosen = np.arange(len(predicted)) if keys is None else frame_keys.view_indices(predicted, keys)
    views = predicted.select(chosen)
    card = evaluate.protocol(run, split, choice, views)
    if keys is not None:
        card["frames"] = "those that the frame keys name"
        card["frame keys"] = f"{len(chosen):,} found; {frame_keys.lacking_text(keys, predicted)}"
    if baseline is not None:
        card[SUPERVISED] = (
            f"{config.baseline}: labels used {baseline.card['labelled']}, seed {baseline.config.run.seed}, "
            f"step {baseline.step}"
        )
    # What may be retrieved is settled before another network sees the pictures.
    prepared = _prepared(split, views, config) if views.has_pose else None
    if prepared is None:
        check_without_poses(config, split.name)
    features = {EMBEDDING: views.embedding, POSE: views.canonical.reshape(len(views), -1)}
    if baseline is not None:
        features[SUPERVISED] = _by_baseline(baseline, run, choice, config).select(chosen).embedding
    features["untrained"] = untrained(run, split, choice, batch=config.batch).select(chosen).embedding
    if prepared is None:
        errors = {name: alignment(views, values) for name, values in features.items()}
        card["query"] = "every view; gallery: each other camera's views of its sequence, its own instant kept"
        return Retrieved(views, {}, errors | {"chance": alignment(views, None)}, (), card)
    searched, sizes = prepared
    scores = _scores(searched, features, config)
    return Retrieved(
        views, scores, {}, tuple(searched.cameras.values()), card | _protocol_card(config, searched, sizes)
    )


def _prepared(
    split: pipeline.Split, views: inference.Views, config: Retrieve
) -> tuple[SearchSet, Int[np.ndarray, "n c"]]:
    """Queries and gallery, and how many views each query may retrieve in each camera.

    Raises UserError when the gallery is empty or smaller than K.
    """
    searched = protocol.search_set(split, views)
    sizes = protocol.gallery_sizes(searched, _rule(config))
    protocol.check_gallery(searched, sizes, max(ks_of(config)))
    return searched, sizes


def _rule(config: Retrieve) -> retrieval.ViewRule:
    return rule_of(config.same_instant, config.min_gap, config.gallery)


def _by_baseline(
    baseline: run_folder.Run, run: run_folder.Run, choice: protocols.Choice, config: Retrieve
) -> inference.Views:
    """The run's views through the supervised-only encoder, as large as that one wants its pictures."""
    name, data_dir = config.dataset or run.config.data.dataset, config.data_dir or run.config.data.data_dir
    split = evaluate.open_data(baseline, name, data_dir, config.split)
    return inference.predict_split(baseline.state, split, choice, batch=config.batch)


def open_baseline(folder: str) -> run_folder.Run:
    """The run of `--baseline`. Raises UserError when it was not trained on labels alone."""
    run = run_folder.open_run(folder)
    if run.config.method != "baseline":
        raise UserError(
            f"--baseline={folder} was trained with --method={run.config.method}; expected a run of --method=baseline"
        )
    return run


def select(split: pipeline.Split, config: Retrieve) -> tuple[protocols.Choice, frame_keys.Located | None]:
    """The records and cameras that the flags ask for, and the frame keys among them where there are any.

    Raises as `protocols.choose`, `frame_keys.read` and `frame_keys.locate` do.
    """
    choice = protocols.choose(
        split,
        every=config.every,
        damaged=config.damaged,
        cameras=config.cameras,
        stride=config.stride,
        exclude=config.exclude,
    )
    files = [name for name in config.frame_keys.split(",") if name]
    if not files:
        return choice, None
    located = frame_keys.locate(split, frame_keys.read(files), config.metadata)
    kept = frame_keys.within(located, split, choice)
    return dataclasses.replace(choice, records=kept.records, every=0, cameras=kept.cameras), kept


def _scores(
    searched: SearchSet, features: Mapping[str, Float[np.ndarray, "n _"]], config: Retrieve
) -> dict[str, Scores]:
    """The scores of every method, by the features that it is searched with, of the oracle and of chance."""
    ks, rule = ks_of(config), _rule(config)
    scores: dict[str, Scores] = {}
    for name, values in progress.bar(features.items(), "search", "method"):
        neighbours = protocol.search(searched, values, rule, max(ks))
        scores[name] = protocol.score(searched, neighbours, ks)
    progress.say("oracle and chance: aligning every query with every candidate")
    best, candidates = protocol.oracle(searched, rule, max(ks))
    scores["oracle"] = protocol.score(searched, best, ks)
    scores["chance"] = protocol.chance(searched, candidates, ks)
    return scores


def _protocol_card(config: Retrieve, searched: SearchSet, sizes: Int[np.ndarray, "n c"]) -> dict[str, Any]:
    """What the card must say of the protocol, by how many views each query may retrieve in each camera."""
    whose = {
        "other_views": "all subjects",
        "same_subject": "its own subject",
        "other_subjects": "other subjects",
    }
    there = sizes > 0
    pairs = sum(there[searched.seen_by(a)].any(axis=0).sum() for a in searched.cameras)
    excludes = not config.same_instant or config.min_gap > 0 or config.gallery != "other_views"
    return {
        "query": f"every view that may retrieve any: {there.any(axis=1).sum():,} of {len(searched):,}",
        "gallery": f"the other cameras' views of {whose[config.gallery]} of the split",
        "same instant": "kept" if config.same_instant else "excluded",
        "near in time": f"other instants of the sequence nearer than {config.min_gap:g} s are excluded",
        **(
            {"published Hit@K (Pr-VIPE)": "excludes nothing; these figures are not comparable with it"}
            if config.frame_keys and excludes
            else {}
        ),
        "pooled": "all other cameras are one gallery; mean over queries",
        "averaged over camera pairs": "queries of one camera, gallery of another; mean over "
        f"{pairs} ordered pairs",
        "match (Hit@K)": f"NP-MPJPE at most {retrieval.MATCH_THRESHOLD}: poses centred at the hip and divided by "
        "|hip - spine| + |spine - thorax|, then aligned (Pr-VIPE)",
        "shorter lists": protocol.shorter_lists(sizes, max(ks_of(config))),
        "chance": "expected value over all that a query may retrieve",
    }


def content(result: Retrieved) -> dict[str, Any]:
    """A result as JSON values; what is not there (a camera against itself) is null."""
    if result.alignment:
        return {"temporal_alignment": result.alignment, "protocol": result.card}
    kinds = next(iter(result.scores.values())).groups
    by_kind = {f"by_{kind}": {n: s.groups[kind] for n, s in result.scores.items()} for kind in kinds}
    pairs = {
        name: {figure: _nulls(matrix) for figure, matrix in s.pairs.items()}
        for name, s in result.scores.items()
    }
    return {
        "retrieval": {name: s.pooled for name, s in result.scores.items()},
        "retrieval_averaged_over_camera_pairs": {name: s.averaged for name, s in result.scores.items()},
        "by_camera_pair": {"cameras": list(result.cameras), **pairs},
        **by_kind,
        "protocol": result.card,
    }


def _nulls(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(value) else value for value in row] for row in matrix.tolist()]


def text(result: Retrieved) -> str:
    """A result as tables and its protocol; by camera pair and by action, the run's embedding."""
    if result.alignment:
        parts = [table(result.alignment, "Temporal alignment error")]
    else:
        ours = result.scores[EMBEDDING]
        first = min(ours.pairs, key=lambda name: int(name.partition("@")[2]))
        k = first.partition("@")[2]
        parts = [
            table({name: s.pooled for name, s in result.scores.items()}, "Pooled"),
            table({name: s.averaged for name, s in result.scores.items()}, "Averaged over camera pairs"),
            *(
                pair_table(f"{figure}, query \\ gallery", result.cameras, ours.pairs[figure])
                for figure in (f"pa_mpjpe@{k}", f"hit@{k}")
            ),
            *(group_table(f"By {kind}", groups) for kind, groups in ours.groups.items()),
        ]
    return "\n\n".join([*parts, "Protocol:\n" + evaluate.card_text(result.card)])


def embedded(run: run_folder.Run, split: pipeline.Split, config: Retrieve) -> inference.Views:
    """The views that the flags ask for, with the run's embeddings. Raises as `select` does."""
    choice, keys = select(split, config)
    views = inference.predict_split(run.state, split, choice, batch=config.batch)
    return views if keys is None else views.select(frame_keys.view_indices(views, keys))


def file_name(config: Retrieve, run: run_folder.Run, split: pipeline.Split) -> str:
    """Name of the result file, which tells the protocols, checkpoints and sets of one run apart."""
    parts = (
        protocols.another_set(config.dataset, run, split),
        f"step{config.step}" if config.step else "",
        f"beside {config.baseline.strip('/')}" if config.baseline else "",
        config.gallery if config.gallery != "other_views" else "",
        "same_instant" if config.same_instant else "",
        f"gap{config.min_gap:g}" if config.min_gap != Retrieve.min_gap else "",
        f"k{'-'.join(map(str, ks_of(config)))}" if ks_of(config) != protocol.KS else "",
        "frame_keys" if config.frame_keys else "",
        f"every{config.every}" if config.every else "",
        f"stride{config.stride}" if config.stride > 1 else "",
        "undamaged" if config.damaged == "drop" else "",
        config.cameras,
        f"without {config.exclude}" if config.exclude else "",
    )
    return protocols.file_name(config.split, parts, "retrieval")
