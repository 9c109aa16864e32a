"""A prepared set from a stranger runs no code: classes are looked at before TFDS sees them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datasets.tuples import pipeline, prepared

ROOT = Path(__file__).resolve().parents[3]
SET = "synthetic_multiview/tiny"


@pytest.fixture
def copied(prepared_tiny: Path, tmp_path: Path) -> Path:
    """A folder of prepared sets like a download: `data/`, beside which programs are started."""
    shutil.copytree(prepared_tiny, tmp_path / "data")
    return tmp_path / "data"


def features_of(data_dir: Path) -> Path:
    return pipeline.prepared_path(data_dir, SET) / "features.json"


def rewrite(file: Path, change: Any) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_every_class_of_a_tuple_is_let_through(prepared_tiny: Path) -> None:
    file = features_of(prepared_tiny)
    prepared.check_classes(file)
    named = set(prepared.class_names(json.loads(file.read_text())))
    assert named == prepared.CLASSES, "what is let through is what is used"


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_foreign_class_is_refused_at_any_depth(key: str, deep: bool, copied: Path) -> None:
    def change(content: dict) -> None:
        at = content
        if deep:
            at = next(iter(content["featuresDict"]["features"].values()))
        at.pop("pythonClassName", None)
        at[key] = "data.evil.payload.Feature"

    rewrite(features_of(copied), change)
    with pytest.raises(ValueError) as raised:
        pipeline.open_split(copied, SET, "train")
    assert "features.json" in str(raised.value) and "data.evil.payload.Feature" in str(raised.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000])
def test_what_is_no_json_is_refused(text: str, copied: Path) -> None:
    features_of(copied).write_text(text)
    with pytest.raises(ValueError, match=r"features\.json"):
        pipeline.split_names(copied, SET)


def test_a_missing_description_is_named(copied: Path) -> None:
    features_of(copied).unlink()
    with pytest.raises(ValueError, match=r"no features\.json"):
        pipeline.open_split(copied, SET, "train")


def test_no_program_runs_what_a_set_names(copied: Path) -> None:
    """From the folder beside `data/`, where `data.evil.payload` can be imported."""
    evil = copied / "evil"
    evil.mkdir()
    (evil / "payload.py").write_text("open('ran', 'w')\n")
    rewrite(features_of(copied), lambda content: content.update(pythonClassName="data.evil.payload.Feature"))
    rewrite(
        features_of(copied).with_name("dataset_info.json"),
        lambda content: content.update(moduleName="data.evil.payload"),
    )
    command = [sys.executable, "-m", "launch.prepare", f"--dataset={SET}", "--data_dir=data", "--inspect"]
    done = subprocess.run(
        command, cwd=copied.parent, env={"PYTHONPATH": str(ROOT), "PATH": "", "JAX_PLATFORMS": "cpu"},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("prepare: error: "), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "data.evil.payload.Feature" in done.stderr
    assert not (copied.parent / "ran").exists()
