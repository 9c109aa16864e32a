"""The inventory: what is there and what is missing, whatever the layout; splits, groups, estimates."""

import dataclasses
from pathlib import Path

import pytest

from datasets.distributions import originals
from datasets.distributions.originals import File
from datasets.mpi_inf_3dhp.catalogue import take_inventory
from datasets.mpi_inf_3dhp.footage import Options
from datasets.mpi_inf_3dhp.layout import SUBJECTS
from datasets.mpi_inf_3dhp.multi_view import FRAMES, frame_rate, step
from tests.distributions import mpi_inf_3dhp as distribution

CHEST = Options((0, 2, 4, 7, 8), False, "univ_annot3", "auto", ("S7", "S8"))


def whole(cameras: int = 14) -> list[File]:
    """Names of the complete distribution."""
    paths = []
    for subject in SUBJECTS:
        for sequence in ("Seq1", "Seq2"):
            paths += [f"{subject}/{sequence}/{name}" for name in ("annot.mat", "camera.calibration")]
            paths += [f"{subject}/{sequence}/imageSequence/video_{k}.avi" for k in range(cameras)]
    for k in range(1, 7):
        paths.append(f"t/TS{k}/annot_data.mat")
        paths += [f"t/TS{k}/imageSequence/img_{n:06d}.jpg" for n in range(1, 5)]
    return [File(path, 25_088 * 500, "", (), "source", 0) for path in paths]


def test_complete_distribution() -> None:
    inventory = take_inventory(whole(), CHEST)
    assert not inventory.missing and not inventory.unexpected and not inventory.warnings
    assert [take.name for take in inventory.takes[:3]] == ["S1 Seq1", "S1 Seq2", "S2 Seq1"]
    assert [take.split for take in inventory.takes] == ["train"] * 12 + ["retrieval"] * 4 + ["test"] * 6
    assert [take.group for take in inventory.takes] == [*range(16), *range(101, 107)]
    assert len({take.name for take in inventory.takes}) == 22
    assert inventory.counts["S1", "camera 7"] == (2, 2) and inventory.counts["TS6", "images"] == (1, 1)
    assert len(inventory.counts) == 8 * 7 + 6 * 2
    by_name = {take.name: take for take in inventory.takes}
    # 500 frames by the annotation's size: every second at 25, every fifth at 50 frames per second.
    assert [by_name[name].kept_frames for name in ("S1 Seq1", "S1 Seq2", "TS1")] == [250, 100, 4]
    assert by_name["S1 Seq1"].source_frames == 2500
    assert (by_name["S5 Seq2"].subject, by_name["S5 Seq2"].action, by_name["S5 Seq2"].subaction) == (
        "S5",
        "Seq2",
        "",
    )


def test_subjects_of_the_splits_are_disjoint() -> None:
    for subjects in (("S7", "S8"), ("S1",), (), SUBJECTS):
        inventory = take_inventory(whole(), dataclasses.replace(CHEST, retrieval_subjects=subjects))
        by_split = {
            split: {take.subject for take in inventory.takes if take.split == split}
            for split in ("train", "retrieval", "test")
        }
        assert by_split["retrieval"] == set(subjects)
        assert by_split["train"] == set(SUBJECTS) - set(subjects)
        assert by_split["test"] == {f"TS{k}" for k in range(1, 7)}


def test_what_is_missing_is_named() -> None:
    gone = (
        "S2/Seq1/annot.mat",
        "S3/Seq2/camera.calibration",
        "S4/Seq1/imageSequence/video_7.avi",
        "t/TS2/ann",
    )
    files = [f for f in whole() if not f.path.startswith((*gone, "t/TS3/image", "S5/Seq2"))]
    inventory = take_inventory(files, CHEST)
    names = [missing.name for missing in inventory.missing]
    assert names[:3] == ["S2/Seq1/annot.mat", "S3/Seq2/camera.calibration", "S4/Seq1/video_7.avi"]
    assert names[3:10] == [
        "S5/Seq2/annot.mat",
        "S5/Seq2/camera.calibration",
        *(f"S5/Seq2/video_{k}.avi" for k in CHEST.cameras),
    ]
    assert names[10:] == ["TS2/annot_data.mat", "TS3/images"]
    names = [take.name for take in inventory.takes]
    assert not {"S2 Seq1", "S3 Seq2", "S5 Seq2", "TS2", "TS3"} & set(names)
    assert len(names) == 22 - 5
    partial = next(take for take in inventory.takes if take.name == "S4 Seq1")
    assert set(partial.files) == {"annotation", "calibration", "0", "2", "4", "8"}
    assert inventory.counts["S4", "camera 7"] == (1, 2) and inventory.counts["TS3", "images"] == (0, 1)


def test_hints_are_few() -> None:
    """They are told once each: by archive and kind, not by sequence and camera."""
    everything = dataclasses.replace(CHEST, cameras=tuple(range(14)))
    missing = take_inventory([], everything).missing
    assert len(missing) == 16 * (2 + 14) + 6 * 2
    hints = {
        m.name.split("/")[-1]: {other.hint for other in missing if other.name.endswith(m.name.split("/")[-1])}
        for m in missing
    }
    assert all(len(several) == 1 for several in hints.values())
    archives = {"vnect": (0, 1, 2, 4, 5, 6, 7, 8), "other_angled": (3, 9, 10), "ceiling": (11, 12, 13)}
    for archive, cameras in archives.items():
        (hint,) = set.union(*(hints[f"video_{k}.avi"] for k in cameras))
        assert f"videos: imageSequence/{archive}_cameras.zip" in hint
    assert hints["annot.mat"] == {"annotations: annot.mat of the sequence"}
    assert hints["camera.calibration"] == {"cameras: camera.calibration of the sequence"}
    assert hints["annot_data.mat"] == {"annotations: annot_data.mat of mpi_inf_3dhp_test_set.zip"}
    assert hints["images"] == {"pictures: imageSequence/img_*.jpg of mpi_inf_3dhp_test_set.zip"}
    assert len({m.hint for m in missing}) == 7


def test_no_picture_no_take() -> None:
    files = [f for f in whole() if "S1/Seq1/image" not in f.path]
    assert "S1 Seq1" not in [take.name for take in take_inventory(files, CHEST).takes]


def test_cameras_outside_the_set_are_neither_missing_nor_unexpected() -> None:
    inventory = take_inventory(whole(11), CHEST)
    assert not inventory.missing and not inventory.unexpected
    missing = take_inventory(whole(11), dataclasses.replace(CHEST, cameras=tuple(range(14)))).missing
    assert len(missing) == 16 * 3
    assert missing[0].name == "S1/Seq1/video_11.avi" and "ceiling_cameras.zip" in missing[0].hint


def test_defects_are_told_where_they_concern() -> None:
    inventory = take_inventory(whole(), CHEST)
    assert [sentence.split()[0] for sentence in inventory.defects] == [
        "S3/Seq1", "S4/Seq2", "S6/Seq2", "TS3", "TS4", "TS6", "any",
    ]  # fmt: skip
    assert inventory.defects[-1].startswith("any sequence may hold a few frames of a flash, ")
    assert all("(source: " in sentence for sentence in inventory.defects)
    assert [take.name for take in inventory.takes if take.defect] == ["S4 Seq2", "TS6"]
    measured = take_inventory(whole(), dataclasses.replace(CHEST, annotation="annot3"))
    assert [take.name for take in measured.takes if take.defect] == ["S4 Seq2"]
    assert len(measured.defects) == 6
    assert (
        take_inventory([f for f in whole() if f.path.startswith("S1/")], CHEST).defects
        == inventory.defects[-1:]
    )
    assert not take_inventory([], CHEST).defects


@pytest.mark.parametrize("layout", ["loose", "zipped", "pictures"])
def test_written_distributions_are_found(tmp_path: Path, layout: str) -> None:
    what = distribution.Distribution(
        sequences=("S1/Seq1", "S8/Seq2"),
        tests=("TS5",),
        frames=3,
        test_frames=2,
        size=64,
        layout=layout,  # type: ignore[arg-type]
        cameras=(0, 2, 3, 4, 7, 8, 13),
    )
    distribution.write(tmp_path, what)
    inventory = take_inventory(originals.scan(tmp_path), CHEST)
    assert [(take.name, take.split) for take in inventory.takes] == [
        ("S1 Seq1", "train"),
        ("S8 Seq2", "retrieval"),
        ("TS5", "test"),
    ]
    assert not inventory.unexpected and not inventory.warnings
    assert not [
        missing for missing in inventory.missing if missing.name.startswith(("S1/Seq1", "S8/Seq2", "TS5"))
    ]
    count = 3 if layout == "pictures" else 1
    assert len(inventory.takes[0].files["7"]) == count
    assert (inventory.takes[0].archived != frozenset()) == (layout == "zipped")


def test_steps_keep_the_multiples_of_ten() -> None:
    assert [step(rate, False) for rate in (25.0, 50.0, 30.0, 100.0, 10.0)] == [2, 5, 2, 10, 1]
    assert step(50.0, True) == 1
    fast = {take for take in (f"S{k}/Seq{m}" for k in range(1, 9) for m in (1, 2)) if frame_rate(take) == 50}
    assert fast <= set(FRAMES) and len(FRAMES) == 16
    assert fast == {"S1/Seq2", "S3/Seq1", "S3/Seq2", "S5/Seq1", "S5/Seq2"}
