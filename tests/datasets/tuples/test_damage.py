"""Prepared sets whose files are damaged, or that something else made: a sentence, whatever the libraries raise."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from datasets.tuples import pipeline, prepared
from mcss_jax.errors import UserError
from tests.refusals import refused

DATASET = "synthetic_multiview/tiny"
SHARD = "synthetic_multiview-train.array_record-00000-of-00001"


@pytest.fixture
def copy(prepared_tiny: Path, tmp_path: Path) -> Path:
    """The folder of a version of its own."""
    shutil.copytree(prepared_tiny / DATASET, tmp_path / DATASET)
    return pipeline.prepared_path(tmp_path, DATASET)


def opened(copy: Path) -> pipeline.Split:
    return pipeline.open_split(copy.parents[2], DATASET, "train")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json", "metadata.json", SHARD])
@pytest.mark.parametrize("damage", ["gone", "empty", "list", "object", "cut", "noise"])
def test_damaged_files(file: str, damage: str, copy: Path) -> None:
    path = copy / file
    content = path.read_bytes()
    noise = content[:100] + os.urandom(len(content) - 100)
    new = {"empty": b"", "list": b"[]", "object": b"{}", "cut": content[: len(content) // 2], "noise": noise}
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(new[damage])
    with pytest.raises(UserError, match=r"prepare it( again with --overwrite| \(with --source)"):
        opened(copy)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"tables": {}}, ("no split 'train'",)),
        ({"tables": {"train": [{"colour": 1}]}}, ("damaged", "another version")),
        ({"tables": {"train": [3]}}, ("damaged", "another version")),
    ],
)
def test_tables_that_are_not_ours(change: dict[str, Any], facts: tuple[str, ...], copy: Path) -> None:
    file = copy / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with refused(*facts):
        opened(copy)


def test_other_folders_are_no_versions(copy: Path) -> None:
    shutil.copytree(copy, copy.with_name(f"{copy.name}-old"))
    shutil.copytree(copy, copy.with_name("9.x"))
    assert pipeline.prepared_path(copy.parents[2], DATASET) == copy


def test_what_is_not_prepared_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(pipeline.NotPrepared, match="is not prepared in"):
        pipeline.open_split(tmp_path, DATASET, "train")


def test_the_systems_own_errors_are_no_damage(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), prepared.damage_in_words(tmp_path):
        raise PermissionError(13, "Permission denied")
    with refused("RuntimeError", "damaged"):
        with prepared.damage_in_words(tmp_path):
            raise RuntimeError
