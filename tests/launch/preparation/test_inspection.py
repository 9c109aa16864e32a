"""Counts of a prepared set, on splits made by hand and on the synthetic one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.tuples import pipeline, prepared
from datasets.tuples.records import SequenceRow
from launch.preparation import inspection
from tests.refusals import refused

DATASET = "synthetic_multiview/tiny"


def made(
    name: str, sequences: list[tuple[str, str, str]], valid: np.ndarray, **extra: object
) -> pipeline.Split:
    """(subject, action, defect) of sequences of two records each; `valid` [records, 2 views]."""
    rows = [
        SequenceRow(subject, action, "", 0, 2 * n, 2, 0.1, defect=defect)
        for n, (subject, action, defect) in enumerate(sequences)
    ]
    records = [
        {"camera": [b"left", b"" if of.sum() < 2 else b"right"], "view_valid": of, "images": [b"x", b"x"]}
        | {key: value[k] for key, value in extra.items()}  # type: ignore[index]
        for k, of in enumerate(valid)
    ]
    of_record = np.repeat(np.arange(len(rows)), 2)
    return pipeline.Split(f"set/1.0.0:{name}", tuple(rows), 2, "", records, "mask", 8, 8, of_record)


def rows_of(text: str) -> dict[str, list[str]]:
    """Label and numbers of every line of a table."""
    cells = [line.split("  ") for line in text.splitlines() if line and not line.startswith(" ")]
    return {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in cells}


def test_counts_by_hand() -> None:
    train = made(
        "train", [("S1", "walk", ""), ("S1", "sit", "off"), ("S2", "walk", "")], np.ones((6, 2), bool)
    )
    valid = np.asarray([[True, False], [True, False], [False, False], [True, False]])
    test = made(
        "test", [("TS1", "TS1", ""), ("TS2", "TS2", "")], valid, valid_frame=[True, False, True, True]
    )
    text = inspection.counts([train, test])
    rows = rows_of(text)
    assert rows["split"] == ["sequences", "instants", "valid", "valid views"]
    assert rows["train"] == ["3", "6", "6", "12"] and rows["test"] == ["2", "4", "3", "3"]
    assert rows["train, S1"] == ["2", "4", "4", "8"] and rows["train, S2"] == ["1", "2", "2", "4"]
    assert rows["train, walk"] == ["2", "4", "4", "8"] and rows["test, TS2"] == ["1", "2", "2", "1"]
    assert rows["train, left"] == ["6"] and rows["train, right"] == ["6"] and rows["test, left"] == ["3"]
    assert "test, " not in rows, "a view that is not there has no camera"
    assert text.endswith("known defects\n  train, S1 sit: off")
    assert not train.cache, "nothing is kept in memory"


def test_inspect_prints_the_counts_and_draws_the_sheet(
    prepared_tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspection.inspect(prepared_tiny, DATASET, tmp_path / "sheet.png")
    printed = capsys.readouterr().out
    rows = rows_of(printed)
    for name in pipeline.split_names(prepared_tiny, DATASET):
        split = pipeline.open_split(prepared_tiny, DATASET, name)
        assert rows[name] == [str(len(split.table)), *[str(split.records)] * 2, str(4 * split.records)]
    assert printed.endswith("known defects\n  none\n")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 4 * 128
    with refused("not prepared"):
        inspection.inspect(tmp_path, DATASET, tmp_path / "sheet.png")
    with refused("contact sheet"):
        inspection.inspect(prepared_tiny, DATASET, tmp_path / "sheet.bmp")


def test_splits_without_records_are_not_opened(prepared_tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipeline.split_names(prepared_tiny, DATASET) == ("train", "validation", "test")
    builder = prepared.open_builder(pipeline.prepared_path(prepared_tiny, DATASET))
    builder.info.metadata["tables"]["test"] = []
    monkeypatch.setattr(prepared, "open_builder", lambda path: builder)
    assert pipeline.split_names(prepared_tiny, DATASET) == ("train", "validation")
