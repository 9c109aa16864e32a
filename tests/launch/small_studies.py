"""A study of tiny runs for tests, what is in its result file, and results that no run has given."""

from pathlib import Path
from typing import Any

from launch.cli import options
from launch.runs import settings
from launch.studies import results
from launch.studies.study import Study

BASE = """
--dataset=synthetic_multiview/tiny
--labelled_batch=4
--blocks=2
--sequences=1
--instants=2
--width=8
--embedding_dim=8
--hidden=8
--stem=patch8
--steps=2
--warmup_steps=0
--validate_every=0
"""


def study_in(folder: Path, data_dir: Path, **changes: Any) -> Study:
    """Baseline and MCSS with half of S1's labels, two updates each."""
    (folder / "base.flags").write_text(BASE)
    given = {"amounts": "S1:0.5", "seeds": "0", "stride": 12} | changes
    return Study(
        base=str(folder / "base.flags"), workdir=str(folder / "study"), data_dir=str(data_dir), **given
    )


def lines(config: Study, judge: str = "validation") -> dict[results.Key, dict[str, Any]]:
    """The result file's lines by run."""
    file = Path(config.workdir) / f"results_{judge}.jsonl"
    return {results.key_of(line): line for line in results.read(file)}


JUDGED = {"judge": "test", "every": 0, "stride": 5, "damaged": "keep"}


def trained_as(method: str, labelled: str, seed: int) -> dict[str, Any]:
    """Settings of a run of a study."""
    folder = f"runs/a b/runs/{method}_{seed}"
    return options.values(
        options.build(
            settings.Train, method=method, labelled=labelled, seed=seed, workdir=folder, margin=0.25
        )
    )


REPORTED = [
    {"method": method, "labelled": labelled, "seed": seed, "status": "finished"}
    | {"judged": JUDGED, "configuration": trained_as(method, labelled, seed), "wall_seconds": 900.0}
    | {name: base * (1 + seed / 10) for name, base in (("pa_mpjpe", error), ("mpjpe", 2 * error))}
    | {"split": "people:test", "subjects": ["S7", "S8"], "revision": "abc123"}
    for method, labelled, error in (
        ("baseline", "S1:0.05", 90.0),
        ("mcss", "S1:0.05", 72.0),
        ("mcss", "S1", 61.0),
    )
    for seed in (0, 1)
] + [
    {
        "method": "mcss",
        "labelled": "S1",
        "seed": 2,
        "status": "failed",
        "error": "the loss <b>became</b> odd",
    },
    {"method": "baseline", "labelled": "S1", "seed": 0, "status": "unfinished"},
]
"""Lines of a result file with what a page must say: gains, a missing baseline, a failed run."""
