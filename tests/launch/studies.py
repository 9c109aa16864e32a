"""A study of tiny runs for tests, and what is in its result file."""

from pathlib import Path
from typing import Any

from launch import study_results
from launch.study import Study

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


def lines(config: Study, judge: str = "validation") -> dict[study_results.Key, dict[str, Any]]:
    """The result file's lines by run."""
    file = Path(config.workdir) / f"results_{judge}.jsonl"
    return {study_results.key_of(line): line for line in study_results.read(file)}
