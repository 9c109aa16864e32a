"""Pr-VIPE's key files, as they are published, against splits that never were on disk."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.tuples import pipeline
from datasets.tuples.records import SequenceRow, runs_of
from launch.evaluation import inference, protocols
from launch.retrieval import frame_keys
from mcss_jax.errors import UserError
from tests.distributions import human36m
from tests.refusals import refused

H36M = human36m.CAMERAS


def split_of(cameras: list[str], *sequences: tuple[str, str, str, list[int]]) -> pipeline.Split:
    """A split from (subject, action, sub-action, frame numbers) of each sequence."""
    rows: list[SequenceRow] = []
    for subject, action, subaction, frames in sequences:
        first = rows[-1].first + rows[-1].length if rows else 0
        rows.append(SequenceRow(subject, action, subaction, 0, first, len(frames), 0.2, runs=runs_of(frames)))
    lengths = [row.length for row in rows]
    record: dict[str, Any] = {"camera": [name.encode() for name in cameras], "images": [b""] * len(cameras)}
    return pipeline.Split(
        "set/1.0.0:test", tuple(rows), len(cameras), "", [record] * sum(lengths), "mask", 8, 8,
        np.repeat(np.arange(len(rows)), lengths),
    )  # fmt: skip


@pytest.fixture
def metadata(tmp_path: Path) -> str:
    path = tmp_path / "metadata.xml"
    path.write_text(human36m.metadata_xml(human36m.Distribution(takes=((3, 1), (3, 2), (5, 1)))))
    return str(path)


def written(tmp_path: Path, *lines: str, name: str = "keys.txt") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def views_at(*places: tuple[int, int]) -> inference.Views:
    """Predicted views by (record, view)."""
    record, camera = np.asarray(places).T
    n = len(places)
    blank, embedding = np.zeros((n, 17, 3), np.float32), np.zeros((n, 2), np.float32)
    return inference.Views(record, camera, record * 0, record * 0.1, embedding, blank, blank, blank, blank)


def test_keys_of_both_sets(tmp_path: Path) -> None:
    first = written(tmp_path, "S11:Directions 1:54138969:000020", "", "S9:WalkDog:60457274:001230")
    second = written(
        tmp_path, "S1:Seq1:V0:C0:003370", "S8:Seq2:V10:C10:000000", "S1:Seq1:V0:C0:003370", name="b"
    )
    keys = frame_keys.read([first, second])
    assert [(k.subject, k.take, k.camera, k.frame, k.is_human36m) for k in keys] == [
        ("S11", "Directions 1", "54138969", 20, True),
        ("S9", "WalkDog", "60457274", 1230, True),
        ("S1", "Seq1", "0", 3370, False),
        ("S8", "Seq2", "10", 0, False),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "S11:Directions 1:54138969",
        "S11:Directions 1:54138969:12a",
        "11:Directions 1:54138969:000020",
        "S1:Seq1:V0:C0:",
        "S1:Seq1:C0:V0:000010",
        "S1:Seq1:V0:C1:000010",
    ],
)
def test_a_malformed_line_is_named(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, "S1:Seq1:V0:C0:000010", "", line)
    with pytest.raises(UserError, match=re.escape(f"{path}, line 3: {line!r} is no frame key; expected")):
        frame_keys.read([path])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file of frame keys .*none.txt"):
        frame_keys.read([tmp_path / "none.txt"])
    with pytest.raises(UserError, match="hold no key"):
        frame_keys.read([written(tmp_path, "", " ")])
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="binary is not a text file"):
        frame_keys.read([binary])


def test_human36m_by_its_metadata(tmp_path: Path, metadata: str) -> None:
    """Files are named subject by subject: in S5, `Discussion 2` is sub-action 1, and 3 is 2 (docs/data_formats.md)."""
    by_file = frame_keys.takes_by_file(metadata)
    assert by_file["S5", "Discussion 2"] == ("S5", "Discussion", "1")
    assert by_file["S9", "Discussion 1"] == ("S9", "Discussion", "1")
    split = split_of(
        list(H36M),
        ("S5", "Discussion", "1", [0, 5, 10]),
        ("S5", "Discussion", "2", [0, 5, 10, 64]),
        ("S5", "Greeting", "1", []),
    )
    texts = [
        f"S5:Discussion 3:{H36M[2]}:000010",  # sequence 1, record 5
        f"S5:Discussion 2:{H36M[0]}:000000",
        f"S5:Discussion 3:{H36M[2]}:000020",
        f"S5:Discussion 3:{H36M[2]}:000030",
        f"S11:Discussion 1:{H36M[2]}:000010",
        f"S5:Greeting 1:{H36M[2]}:000010",
        f"S5:Nothing:{H36M[2]}:000010",
        "S5:Discussion 3:11111111:000010",
    ]
    keys = frame_keys.read([written(tmp_path, *texts)])
    located = frame_keys.locate(split, keys, metadata)
    assert [(p.record, p.view) for p in located.places] == [(5, 2), (0, 0)]
    assert located.records.tolist() == [0, 5] and located.cameras == (H36M[2], H36M[0])
    assert located.lacking == {
        "frame not stored": tuple(texts[2:4]),
        "no such sequence": tuple(texts[4:7]),
        "no such camera": (texts[7],),
    }
    said = frame_keys.lacking_text(located, views_at((0, 0), (0, 1)))
    assert f"2 lacking, frame not stored ({texts[2]}, {texts[3]})" in said
    assert f"1 lacking, view not valid ({texts[0]})" in said
    with pytest.raises(UserError, match=r"give its path with --metadata"):
        frame_keys.locate(split, keys)
    with pytest.raises(UserError, match="there is no file .*--metadata"):
        frame_keys.locate(split, keys, str(tmp_path / "other.xml"))
    with refused("set/1.0.0:test", "1"):
        frame_keys.locate(split, keys[4:5], metadata)


def test_mpi_inf_3dhp_and_what_the_other_flags_leave(tmp_path: Path) -> None:
    split = split_of(["0", "2", ""], ("S1", "Seq1", "", [3360, 3370]), ("S1", "Seq2", "", [3370]))
    split.table = (dataclasses.replace(split.table[0], defect="odd"), split.table[1])
    keys = frame_keys.read(
        [
            written(
                tmp_path,
                "S1:Seq1:V2:C2:003370",
                "S1:Seq2:V0:C0:003370",
                "S1:Seq2:V2:C2:003370",
                "S1:Seq2:V4:C4:003370",
            )
        ]
    )
    located = frame_keys.locate(split, keys)
    assert [(p.record, p.view) for p in located.places] == [(1, 1), (2, 0), (2, 1)]
    assert list(located.lacking) == ["no such camera"]
    choice = protocols.choose(split, damaged="drop", cameras="2")
    assert [(p.record, p.view) for p in frame_keys.within(located, split, choice).places] == [(2, 1)]
    nothing = dataclasses.replace(choice, cameras=("0",), records=np.asarray([0, 1]))
    with refused("--cameras", "--damaged", "--exclude"):
        frame_keys.within(located, split, nothing)


def test_places_among_predicted_views(tmp_path: Path) -> None:
    split = split_of(["0", "2"], ("S1", "Seq1", "", [0, 10]))
    keys = frame_keys.read([written(tmp_path, "S1:Seq1:V2:C2:000010", "S1:Seq1:V0:C0:000000")])
    located = frame_keys.locate(split, keys)
    assert frame_keys.view_indices(views_at((0, 0), (0, 1), (1, 0), (1, 1)), located).tolist() == [0, 3]
    assert frame_keys.lacking_text(located, views_at((0, 0), (1, 1))) == "none lacking"
    with pytest.raises(UserError, match="none of the frame keys names a valid view"):
        frame_keys.view_indices(views_at((0, 1), (1, 0)), located)
