"""The figures and tables of a report: errors, learning curves, retrieval, embeddings, protocol."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats

from launch.evaluation import evaluate
from launch.pages import figures, page
from launch.pages.page import Section
from launch.reports import view_pairs
from launch.reports.comparison import CHANCE, MEAN_POSE, ORACLE, Compared, confounders, tuning
from launch.retrieval import protocol as retrieval_protocol
from mcss_jax.search import retrieval
from mcss_jax.training.train_step import FALSE_NEGATIVE

BARS = {"pa_mpjpe": "PA-MPJPE", "mpjpe_canonical": "MPJPE\ncanonical", "mpjpe": "MPJPE\ncamera"}
BY_GROUP = {"mpjpe": "MPJPE", "n_mpjpe": "N-MPJPE", "pa_mpjpe": "PA-MPJPE"}
# Scalars of `metrics.jsonl` that share an axis.
CURVES = {
    "validation PA-MPJPE (mm)": ("validation/pa_mpjpe",),
    "training pose loss": ("train/loss_pose",),
    "distance of training pairs": ("train/positive_distance", "train/negative_distance"),
    "share of false negatives": ("train/false_negatives",),
}


def headline(compared: Compared) -> str:
    """The comparison in a sentence or two of HTML, when a baseline and MCSS are both there.

    The gain is given where the two differ in nothing but the method and how each is trained, which is then named.
    """
    methods = {name: config.method for name, config in compared.configs.items()}
    if any(methods.get(name) != name for name in ("baseline", "mcss")):
        return ""
    mean = compared.evaluated["baseline"].mean_pose["pa_mpjpe"]
    base, ours = (compared.evaluated[name].figures["pa_mpjpe"] for name in ("baseline", "mcss"))
    others = confounders(compared, "baseline", "mcss")
    if set(others) <= tuning(compared, "baseline", "mcss"):
        gain = f"</b> mm ({_change(ours, base)} than the baseline)"
        own = [name for name in others if name != "step"]
        gain += f". Each has settings of its own: {', '.join(own)}" if own else ""
    else:
        gain = f"</b> mm. No gain of MCSS is given: beside the method the two differ in {', '.join(others)}"
    return (
        f'<p class="gain">PA-MPJPE on unseen people: constant mean pose <b>{mean:.1f}</b> mm, supervised baseline '
        f"<b>{base:.1f}</b> mm ({_change(base, mean)}), MCSS <b>{ours:.1f}{gain}.</p>"
    )


def _change(now: float, before: float) -> str:
    percent = 100 * (1 - now / before)
    return f"{abs(percent):.0f} % {'lower' if percent >= 0 else 'higher'}"


def errors(compared: Compared) -> Section:
    """Every figure of every run, beside the constant mean pose."""
    rows = {MEAN_POSE: compared.first.mean_pose}
    rows |= {name: result.figures for name, result in compared.evaluated.items()}
    names = dict(evaluate.NAMES)
    body = page.figure_table("Mean over all views", rows, names)
    suffix = evaluate.ACTION_MEAN
    if "mpjpe" + suffix in compared.first.figures:
        of_actions = {key + suffix: text for key, text in names.items()}
        body += page.figure_table("Mean of the actions' means", rows, of_actions)
    drawn = figures.bars(
        list(BARS.values()), {n: [row[key] for key in BARS] for n, row in rows.items()}, "mm"
    )
    values = "; ".join(f"{name} {row['pa_mpjpe']:.0f} mm" for name, row in rows.items())
    chart = page.chart(drawn, f"Bars of three errors. PA-MPJPE: {values}.")
    subjects = ", ".join(compared.first.card["subjects"])
    text = (
        f"{compared.split.name}, people {subjects}. Errors: lower is better; 3DPCK and AUC: higher. {MEAN_POSE}: the "
        f"constant mean of the labelled poses of {next(iter(compared.evaluated))}."
    )
    return Section("Pose error", text, chart + body)


def groups(compared: Compared) -> Section:
    """MPJPE, N-MPJPE and PA-MPJPE of every run by action, or by sequence and activity."""
    parts = []
    for kind, labels in compared.first.groups.items():
        head = [kind, "views", *(f"{text} {n}" for text in BY_GROUP.values() for n in compared.evaluated)]
        rows = [
            [label, f"{row['views']:,}"]
            + [f"{r.groups[kind][label][key]:.1f}" for key in BY_GROUP for r in compared.evaluated.values()]
            for label, row in labels.items()
        ]
        parts.append(page.table(f"By {kind}, millimetres", head, rows))
    title = "Pose error by " + " and ".join(compared.first.groups)
    return Section(title, "MPJPE and N-MPJPE in the camera's frame, root-relative.", "".join(parts))


def learning(compared: Compared) -> Section:
    """Training by step: validation error, pose loss, and distances of positive and negative pairs."""
    drawn, absent = [], []
    for ylabel, keys in CURVES.items():
        figure = figures.curve(compared.logs, keys, ylabel)
        if figure is None:
            absent.append(ylabel)
        else:
            drawn.append(
                page.chart(figure, f"Lines of {ylabel} by training step: {', '.join(compared.logs)}.")
            )
    text = (
        "Positive: two views of one instant; negative: the mined instants. A mined negative is false where its pose is "
        f"within {FALSE_NEGATIVE:g} mm of the anchor's, among those whose labels may be read."
    )
    if absent:
        text += f" Not logged by these runs: {'; '.join(absent)}."
    return Section("Learning curves", text, page.charts(drawn))


def retrieved(compared: Compared) -> Section:
    """Mean PA-MPJPE@K and Hit@K beside the oracle and chance, and PA-MPJPE@1 by camera pair."""
    names = {
        key: key.replace("pa_mpjpe", "PA-MPJPE").replace("hit", "Hit") for key in compared.retrieval[ORACLE]
    }
    parts = [page.figure_table("PA-MPJPE@K in millimetres, Hit@K in percent", compared.retrieval, names)]
    for name, matrix in compared.pairs.items():
        rows = [
            [camera, *("–" if np.isnan(value) else f"{value:.1f}" for value in row)]
            for camera, row in zip(compared.cameras, matrix, strict=True)
        ]
        head = ["query / gallery", *compared.cameras]
        parts.append(page.table(f"{name}: PA-MPJPE@1 by camera pair, millimetres", head, rows))
    return Section(
        "Cross-view retrieval",
        "A query is one view; its gallery the views of all other cameras, without its own instant and those of its "
        f"sequence nearer than {retrieval_protocol.MIN_GAP:g} s; {compared.lists}. Hit: NP-MPJPE at most "
        f"{retrieval.MATCH_THRESHOLD}. {ORACLE}: the best by true pose; {CHANCE}: what retrieval at random is expected "
        "to give.",
        "".join(parts),
    )


def embeddings(compared: Compared) -> Section:
    """Distances between embeddings against those between poses, and along time in a sequence seen by two cameras."""
    views = compared.first.views
    pairs = view_pairs.sample(views)
    pose_gap = view_pairs.pose_gaps(views, pairs.a, pairs.b)
    drawn = []
    for i, (name, of_run) in enumerate(compared.views.items()):
        gap = view_pairs.embedding_gaps(of_run, pairs.a, pairs.b)
        # Over different instants alone: an embedding that only tells instants apart would have a high rank otherwise.
        rank = float(stats.spearmanr(pose_gap[~pairs.same], gap[~pairs.same]).statistic)
        figure = figures.embedding_against_pose(name, i, pose_gap, gap, pairs.same)
        caption = (
            f"{name}: rank correlation over different instants (Spearman) {rank:.2f}; median of pairs of one instant "
            + (f"{np.median(gap[pairs.same]):.2f}" if pairs.same.any() else "not there")
        )
        drawn.append(
            page.chart(figure, f"Distance of embeddings against distance of poses. {caption}.", caption)
        )
    drawn.extend(_along_time(compared))
    return Section(
        "Distances of embeddings",
        "Pairs of views from different cameras. Where the embedding sees the pose and not the view, its distance "
        "grows with the poses' and two views of one instant lie together.",
        page.charts(drawn),
    )


def _along_time(compared: Compared) -> Iterator[str]:
    views = compared.first.views
    strip = view_pairs.longest(views)
    if strip is None:
        return
    asked = np.full(len(strip.views), strip.asked)
    gaps = {
        name: view_pairs.embedding_gaps(of_run, asked, strip.views) for name, of_run in compared.views.items()
    }
    time = views.time[strip.views]
    figure = figures.along_time(
        time, float(views.time[strip.asked]), gaps, view_pairs.pose_gaps(views, asked, strip.views)
    )
    row = compared.split.table[views.sequence[strip.asked]]
    cameras = [_camera(compared, index) for index in (strip.asked, int(strip.views[0]))]
    nearest = "; ".join(
        f"{name} {abs(time[np.argmin(gap)] - views.time[strip.asked]):.2f} s" for name, gap in gaps.items()
    )
    caption = (
        f"{row.subject} {row.action}: one instant in {cameras[0]} (dotted) against all of the sequence in "
        f"{cameras[1]}. The nearest embedding is off by: {nearest}"
    )
    yield page.chart(figure, f"Distances along time. {caption}.", caption)


def _camera(compared: Compared, index: int) -> str:
    views = compared.first.views
    record = compared.split[int(views.record[index])]
    return str(record["camera"][int(views.camera[index])].decode())


def protocol(compared: Compared) -> Section:
    """The protocol card: what all runs share once, what tells them apart beside each other."""
    cards = {name: result.card for name, result in compared.evaluated.items()}
    keys = list(dict.fromkeys(key for card in cards.values() for key in card))
    shared = [key for key in keys if len({_words(card.get(key)) for card in cards.values()}) == 1]
    parts = [
        page.table(
            "All runs" if len(cards) > 1 else "The run",
            ["", "value"],
            [[key, _words(compared.first.card[key])] for key in shared],
            "words",
        )
    ]
    rows = [[key, *(_words(card.get(key)) for card in cards.values())] for key in keys if key not in shared]
    if rows:
        parts.append(page.table("What tells the runs apart", ["", *cards], rows, "words"))
    text = "What a reader must know to compare these figures with others."
    return Section("Protocol", text, "".join(parts))


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)
