"""One self-contained page that compares trained runs on people none of them saw: figures, plots and pictures.

python -m launch.report --runs=runs/demo/baseline,runs/demo/mcss --output=runs/demo/report.html
"""

import base64
import dataclasses
import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from datasets import pipeline, tuples
from launch import evaluate, figures, flags, inference, metric_log, progress, protocols, retrieve, run_folder
from launch.flags import option

SHOWN = 8  # pictures in the grid of predictions
QUERIES = 6  # rows in the grid of retrievals


@dataclasses.dataclass(frozen=True)
class Report:
    """See `python -m launch.report --help`."""

    runs: str = option("", "Folders of the runs to compare, separated by commas. Required.", "Runs")
    output: str = option("report.html", "Page to write; the figures go beside it as results.json.", "Runs")
    dataset: str = option("", "Prepared data set; by default the one the first run was trained on.", "Data")
    data_dir: str = option("", "Folder of prepared data sets; by default the run's.", "Data")
    split: str = option("test", "Split of unseen people.", "Data")
    stride: int = option(1, "Use every n-th instant.", "Data")


@dataclasses.dataclass(frozen=True)
class Compared:
    """Everything the page shows: each run's evaluation and retrieval by name, and the bounds they share."""

    evaluated: dict[str, evaluate.Evaluated]
    retrieval: dict[str, dict[str, float]]
    indices: dict[str, np.ndarray]
    pairs: dict[str, np.ndarray]
    logs: dict[str, list[dict[str, Any]]]
    split: pipeline.Split
    min_gap: float

    @property
    def results(self) -> dict[str, dict[str, float]]:
        """The figures of `results.json`: millimetres, unseen people."""
        first = next(iter(self.evaluated.values()))
        out: dict[str, dict[str, float]] = {"mean_pose": dict(first.mean_pose)}
        for name, result in self.evaluated.items():
            row = self.retrieval[name]
            out[name] = result.figures | {f"retrieval_{key.replace('@', '_at_')}": row[key] for key in row}
        for name in ("oracle", "chance"):
            row = self.retrieval[name]
            out[name] = {f"retrieval_{key.replace('@', '_at_')}": row[key] for key in row}
        return out


def names_of(runs: list[run_folder.Run], folders: list[str]) -> list[str]:
    """Short, distinct names: the method where that is enough, the folder's name where it is not."""
    methods: list[str] = [run.config.method for run in runs]
    return methods if len(set(methods)) == len(methods) else [Path(folder).name for folder in folders]


def compare(folders: list[str], dataset: str, data_dir: str, split_name: str, stride: int = 1) -> Compared:
    """Opens, evaluates and retrieves with every run.

    Raises ValueError and FileNotFoundError as `run_folder.open_run` and `evaluate.open_data` do.
    """
    runs = [run_folder.open_run(folder) for folder in folders]
    split = evaluate.open_data(runs[0], dataset, data_dir, split_name)
    choice = protocols.choose(split, stride=stride)
    rule, gap = retrieve.rule_of(same_instant=False, min_gap=0.5), 0.5
    evaluated, rows, indices, pairs, logs = {}, {}, {}, {}, {}
    for name, run, folder in zip(names_of(runs, folders), runs, folders, strict=True):
        if run.card["image_size"] != split.image_size:
            raise ValueError(
                f"{folder} was trained on pictures of {run.card['image_size']} px, {folders[0]} on {split.image_size}"
            )
        result = evaluate.evaluate(run, split, choice)
        evaluated[name] = result
        indices[name] = retrieve.by_features(result.views, result.views.embedding, rule)
        rows[name] = retrieve.scores(result.views, indices[name])
        pairs[name] = retrieve.by_camera_pair(result.views, result.views.embedding, rule)
        logs[name] = metric_log.read(folder)
    progress.say("oracle and chance: aligning every query with every candidate")
    views = next(iter(evaluated.values())).views
    rows["oracle"], rows["chance"] = retrieve.bounds(views, rule)
    return Compared(evaluated, rows, indices, pairs, logs, split, gap)


def _picture(compared: Compared, views: inference.Views, index: int) -> np.ndarray:
    record = compared.split[int(views.record[index])]
    return tuples.decode_jpeg(record["images"][int(views.camera[index])])


def _one_per_action(compared: Compared, views: inference.Views, count: int) -> list[int]:
    """`count` views, action after action, from the middle of its sequences, cameras in turn."""
    actions = np.asarray([row.action for row in compared.split.table])[views.sequence]
    names = list(dict.fromkeys(actions))
    chosen = []
    for i in range(count):
        of_action = np.flatnonzero(actions == names[i % len(names)])
        cameras = np.unique(views.camera[of_action])
        of_view = of_action[views.camera[of_action] == cameras[i % len(cameras)]]
        chosen.append(int(of_view[(i + 1) * len(of_view) // (count + 1)]))
    return chosen


def _sections(compared: Compared) -> list[tuple[str, str, Figure]]:
    """Title, explanation and figure of every section."""
    evaluated = compared.evaluated
    first = next(iter(evaluated.values()))
    views = {name: result.views for name, result in evaluated.items()}
    shown = _one_per_action(compared, first.views, SHOWN)
    asked = _one_per_action(compared, first.views, QUERIES)
    error_names = ("PA-MPJPE", "MPJPE, canonical", "MPJPE, camera")
    error_keys = ("pa_mpjpe", "mpjpe_canonical", "mpjpe")
    errors = {"mean pose": [first.mean_pose[key] for key in error_keys]}
    errors |= {name: [result.figures[key] for key in error_keys] for name, result in evaluated.items()}
    actions = list(first.by_action)
    return [
        ("Pose error", "Lower is better.", figures.bars(error_names, errors, "mm")),
        (
            "What the networks say",
            "Poses are aligned to the truth and drawn as the camera sees them; left side red, right side blue.",
            figures.predictions(
                np.stack([_picture(compared, first.views, i) for i in shown]),
                first.views.true_in_camera[shown],
                {name: v.in_camera[shown] for name, v in views.items()},
            ),
        ),
        (
            "Pose error by action",
            "PA-MPJPE.",
            figures.bars(actions, {n: [r.by_action[a] for a in actions] for n, r in evaluated.items()}, "mm"),
        ),
        (
            "Cross-view retrieval",
            "The query's nearest embeddings from other cameras, its own instant excluded. The number is the PA-MPJPE "
            "in millimetres; a green frame is a match (NP-MPJPE at most 0.1).",
            figures.retrieved(
                lambda i: _picture(compared, first.views, i), asked, compared.indices, first.views
            ),
        ),
        (
            "Retrieval by camera pair",
            "Mean PA-MPJPE of the nearest view, in millimetres.",
            figures.camera_pairs(compared.pairs),
        ),
        (
            "Distances of embeddings",
            "A view-invariant embedding puts two views of one instant nearer than different instants.",
            figures.distances(views),
        ),
        ("Training", "", figures.curves(compared.logs)),
    ]


def _embedded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;margin:0 auto;max-width:1120px;padding:24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 4px}p{margin:4px 0 10px;color:#52606d}
img{max-width:100%;height:auto;display:block}table{border-collapse:collapse;margin:12px 0;font-size:14px}
th,td{padding:5px 14px 5px 0;text-align:right;border-bottom:1px solid #e4e7eb}
th:first-child,td:first-child{text-align:left}.scroll{overflow-x:auto}.card td{text-align:left;vertical-align:top}
.gain{font-size:17px;color:#1f2933}details summary{cursor:pointer;font-size:17px;margin-top:32px}
"""


def _table(rows: dict[str, dict[str, float]], names: dict[str, str]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in names.values())
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{row[key]:.1f}</td>" if key in row else "<td>–</td>" for key in names)
        + "</tr>"
        for name, row in rows.items()
    )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{body}</table></div>'


def _headline(compared: Compared) -> str:
    """The comparison in one sentence, when a baseline and MCSS are both there."""
    if not {"baseline", "mcss"} <= compared.evaluated.keys():
        return ""
    mean = compared.evaluated["baseline"].mean_pose["pa_mpjpe"]
    base, ours = (compared.evaluated[name].figures["pa_mpjpe"] for name in ("baseline", "mcss"))
    return (
        f'<p class="gain">PA-MPJPE on unseen people: constant mean pose <b>{mean:.1f}</b> mm, supervised baseline '
        f"<b>{base:.1f}</b> mm ({100 * (1 - base / mean):.0f} % lower), MCSS <b>{ours:.1f}</b> mm "
        f"({100 * (1 - ours / base):.0f} % lower than the baseline).</p>"
    )


def page(compared: Compared, title: str) -> str:
    """The report as one HTML file: no script, nothing loaded from elsewhere."""
    evaluated = compared.evaluated
    first = next(iter(evaluated.values()))
    poses = {"mean pose": first.mean_pose} | {name: result.figures for name, result in evaluated.items()}
    retrieval_names = {
        key: key.replace("pa_mpjpe", "PA-MPJPE").replace("hit", "Hit") for key in compared.retrieval["oracle"]
    }
    parts = [f"<h1>{html.escape(title)}</h1>", _headline(compared)]
    parts.append(f"<p>{html.escape(compared.split.name)}, subjects {', '.join(first.card['subjects'])}</p>")
    parts.append("<h2>Figures</h2>" + _table(poses, evaluate.NAMES))
    parts.append(
        "<p>Retrieval from other cameras; the query's instant and those nearer than "
        f"{compared.min_gap} s in its sequence are excluded. PA-MPJPE@K in mm, Hit@K in percent.</p>"
        + _table(compared.retrieval, retrieval_names)
    )
    for name, text, figure in progress.bar(_sections(compared), "draw the report", "figure"):
        picture = f'<img alt="{html.escape(name)}" src="{_embedded(figure)}">'
        parts.append(f"<h2>{html.escape(name)}</h2><p>{html.escape(text)}</p>{picture}")
    for name, result in evaluated.items():
        rows = "".join(
            f"<tr><td>{html.escape(key)}</td><td>"
            f"{html.escape(', '.join(map(str, value)) if isinstance(value, list) else str(value))}</td></tr>"
            for key, value in result.card.items()
        )
        parts.append(
            f'<details><summary>Protocol: {html.escape(name)}</summary><table class="card">{rows}</table></details>'
        )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>{"".join(parts)}</body></html>\n'
    )


def write(compared: Compared, output: Path, title: str, extra: dict[str, Any] | None = None) -> None:
    """Writes the page and, beside it, `results.json`."""
    run_folder.write_text(output, page(compared, title))
    results = compared.results | (extra or {})
    run_folder.write_text(output.parent / "results.json", json.dumps(results, indent=2) + "\n")


def main(config: Report) -> None:
    """Compares the runs and names the page."""
    folders = [folder for folder in config.runs.split(",") if folder]
    if not folders:
        raise ValueError("--runs is missing; name the folders of the runs to compare, separated by commas")
    compared = compare(folders, config.dataset, config.data_dir, config.split, config.stride)
    progress.say(evaluate.table({name: result.figures for name, result in compared.evaluated.items()}))
    progress.say(retrieve.table(compared.retrieval))
    output = Path(config.output).expanduser()
    write(compared, output, "MCSS: comparison of runs")
    progress.say(f"report: {output.resolve()}")


if __name__ == "__main__":
    flags.run(Report, "launch.report", __doc__ or "", main)
