"""What a source holds: all of it, parts of it, several times, and with the defects that are known."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import originals
from datasets.distributions.originals import File
from datasets.human36m.catalogue import take_inventory
from tests.distributions import human36m
from tests.refusals import refused

CAMERAS = human36m.CAMERAS


@pytest.fixture(scope="module")
def files(human36m_source: Path) -> tuple[File, ...]:
    return originals.scan(human36m_source)


def without(files: tuple[File, ...], pattern: str) -> list[File]:
    left = [file for file in files if not re.search(pattern, file.path)]
    assert len(left) < len(files)
    return left


def named(tmp_path: Path, distribution: human36m.Distribution, names: list[str]) -> list[File]:
    """Files of a name each, and the `metadata.xml` of a distribution."""
    (tmp_path / "metadata.xml").write_text(human36m.metadata_xml(distribution))
    (metadata,) = originals.scan(tmp_path)
    return [metadata, *(dataclasses.replace(metadata, path=name) for name in names)]


def all_names(distribution: human36m.Distribution, subject: str) -> list[str]:
    prefixes = [distribution.prefix(subject, *take) for take in distribution.takes]
    return [f"{subject}/MyPoseFeatures/D3_Positions/{prefix}.cdf" for prefix in prefixes] + [
        f"{subject}/Videos/{prefix}.{camera}.mp4" for prefix in prefixes for camera in CAMERAS
    ]


def test_a_whole_distribution(files) -> None:
    inventory = take_inventory(files, 5, "auto")
    assert not inventory.missing and not inventory.unexpected and not inventory.warnings
    assert [take.name for take in inventory.takes] == [
        "S1 9.1 Sitting 1", "S1 10.2 SittingDown", "S5 9.1 Sitting 1", "S5 10.2 SittingDown", "S9 9.1 Sitting 1",
        "S9 10.2 SittingDown 1",
    ]  # fmt: skip
    first, last = inventory.takes[0], inventory.takes[-1]
    assert (first.split, first.subject, first.action, first.subaction) == ("train", "S1", "Sitting", "1")
    assert (last.split, last.subject, last.action, last.subaction) == ("test", "S9", "SittingDown", "2")
    assert (first.group, last.group) == (1, 9)
    assert (first.source_frames, first.kept_frames) == (4 * 12, 3)
    offset = "file SittingDown 1, id 10.2: annotation offset against the image"
    assert (first.defect, last.defect) == ("", offset)
    assert inventory.defects == (f"S9, {offset}; it is stored and flagged, evaluations can leave it out",)
    for subject in ("S1", "S5", "S9"):
        columns = {column: count for (row, column), count in inventory.counts.items() if row == subject}
        assert columns == {
            "poses": (2, 2),
            **dict.fromkeys(CAMERAS, (2, 2)),
            "mono poses": (8, 8),
            "masks": (8, 8),
        }
    assert {row for row, _ in inventory.counts} == {"S1", "S5", "S9"}


def test_names_that_begin_alike_are_kept_apart(files) -> None:
    for take in take_inventory(files, 5, "mask").takes:
        prefix = take.name.split(" ", 2)[2]
        names = {file.path.split("/")[-1] for several in take.files.values() for file in several}
        assert names == {f"{prefix}.cdf"} | {
            f"{prefix}.{c}.{s}" for c in CAMERAS for s in ("mp4", "mat", "cdf")
        }
        assert all(f"{take.subject}/" in file.path for several in take.files.values() for file in several)


@pytest.mark.parametrize("boxes", ["joints", "static"])
def test_masks_that_are_not_needed_are_not_unpacked(files, boxes) -> None:
    takes = take_inventory(files, 5, boxes).takes
    assert takes and not any("masks" in role for take in takes for role in take.files)


def test_what_is_missing_is_named(files) -> None:
    left = without(
        without(files, r"S5.*/D3_Positions/Sitting 1"), r"Videos/SittingDown 1\.55011271|S9/.*ground_truth"
    )
    inventory = take_inventory(left, 1, "auto")
    assert [missing.name for missing in inventory.missing] == [
        "S5/Sitting 1.cdf",
        "S9/SittingDown 1.55011271.mp4",
    ]
    assert [missing.hint for missing in inventory.missing] == [
        "Poses, D3 Positions: SubjectSpecific_6.tgz holds those of S5",
        "Videos: SubjectSpecific_4.tgz holds those of S9",
    ]
    assert "S5 9.1 Sitting 1" not in [take.name for take in inventory.takes] and len(inventory.takes) == 5
    damaged = inventory.takes[-1]
    assert "video 55011271" not in damaged.files and "video 54138969" in damaged.files
    assert damaged.source_frames == 3 * damaged.poses
    assert inventory.counts["S5", "poses"] == (1, 2) and inventory.counts["S9", "55011271"] == (1, 2)
    assert inventory.counts["S9", "masks"] == (0, 8)


def test_a_missing_subject_and_a_take_without_any_video(files) -> None:
    inventory = take_inventory(without(files, r"^S1/|S5/Videos/SittingDown\."), 1, "auto")
    assert len(inventory.missing) == 2 * 5 + 4
    # Hints are told once each: one for each subject and kind of file.
    assert {missing.hint for missing in inventory.missing} == {
        "Poses, D3 Positions: SubjectSpecific_1.tgz holds those of S1",
        "Videos: SubjectSpecific_1.tgz holds those of S1",
        "Videos: SubjectSpecific_6.tgz holds those of S5",
    }
    assert [take.name for take in inventory.takes] == [
        "S5 9.1 Sitting 1",
        "S9 9.1 Sitting 1",
        "S9 10.2 SittingDown 1",
    ]
    assert inventory.counts["S1", "poses"] == (0, 2)


def test_no_metadata(files) -> None:
    with refused("metadata.xml", "v1.1", "v1.2"):
        take_inventory(without(files, "metadata"), 1, "auto")


def test_malformed_metadata_is_named(files, tmp_path) -> None:
    (tmp_path / "metadata.xml").write_text("<a/>")
    with refused("metadata.xml", "no node") as caught:
        take_inventory([*without(files, "metadata"), *originals.scan(tmp_path)], 1, "auto")
    assert str(caught.value).startswith("metadata.xml")


def test_masks_that_are_asked_for_must_be_there(files) -> None:
    # The mask of a camera whose video is not there is not needed.
    left = without(files, r"S1/.*Sitting 1\.60457274\.(mat|mp4)")
    assert len(take_inventory(left, 1, "mask").takes) == 6
    with refused("8 files of person masks", "S9/Sitting 1.54138969.mat", "boxes=auto"):
        take_inventory(without(files, "S9/.*ground_truth"), 1, "mask")


def test_what_is_known_and_what_is_not(files) -> None:
    strange = [
        dataclasses.replace(files[0], path=path)
        for path in (
            "S1/Videos/Dancing.54138969.mp4",
            "S1/Videos/Sitting 1.999.mp4",
            "S2/Videos/Sitting.1.mp4",
        )
    ]
    inventory = take_inventory([*files, *strange], 1, "auto")
    assert inventory.unexpected == ("S1/Videos/Dancing.54138969.mp4", "S1/Videos/Sitting 1.999.mp4")


def test_of_two_copies_the_loose_one_is_used_and_sizes_are_compared(files) -> None:
    video = next(file for file in files if "S1/Videos/Sitting 1.54138969" in file.path)
    packed = dataclasses.replace(video, path=f"a.tgz/{video.path}", archive="a.tgz", size=video.size + 1)
    inventory = take_inventory([packed, *files], 1, "auto")
    assert inventory.takes[0].files["video 54138969"] == (video,)
    assert (
        len(inventory.warnings) == 1
        and f"a.tgz/{video.path} has {video.size + 1} bytes" in inventory.warnings[0]
    )


def test_the_damaged_takes_of_s9(tmp_path) -> None:
    distribution = human36m.Distribution(
        subjects=("S9",), takes=((5, 1), (5, 2), (10, 1), (10, 2), (13, 1), (13, 2))
    )
    inventory = take_inventory(named(tmp_path, distribution, all_names(distribution, "S9")), 5, "auto")
    assert not inventory.missing
    assert [take.name for take in inventory.takes if take.defect] == [
        "S9 5.2 Greeting", "S9 10.2 SittingDown 1", "S9 13.1 Waiting 1",
    ]  # fmt: skip
    assert [take.defect.partition(":")[0] for take in inventory.takes if take.defect] == [
        "file Greeting, id 5.2", "file SittingDown 1, id 10.2", "file Waiting 1, id 13.1",
    ]  # fmt: skip
    assert len(inventory.defects) == 3


def test_the_unreadable_video_of_s11_may_be_missing(tmp_path) -> None:
    distribution = human36m.Distribution(subjects=("S11",), takes=((2, 1), (2, 2)))
    names = all_names(distribution, "S11")
    there = take_inventory(named(tmp_path, distribution, names), 5, "auto")
    names.remove("S11/Videos/Directions.54138969.mp4")
    lacking = take_inventory(named(tmp_path, distribution, names), 5, "auto")
    for inventory in (there, lacking):
        assert not inventory.missing
        assert [take.unreadable for take in inventory.takes] == [(), ("54138969",)]
        assert inventory.takes[1].defect == ""  # the other cameras are as good as any
    assert (
        "S11/Directions.54138969.mp4: empty or corrupt in most downloads; where it cannot" in there.defects[0]
    )
    assert "it is not there, and that view is invalid" in lacking.defects[0]
    names.remove("S11/Videos/Directions 1.54138969.mp4")
    (missing,) = take_inventory(named(tmp_path, distribution, names), 5, "auto").missing
    assert missing.name == "S11/Directions 1.54138969.mp4"


@pytest.mark.parametrize("layout", ["fetch", "archives", "nested"])
def test_layouts_hold_the_same(tmp_path, monkeypatch, layout) -> None:
    monkeypatch.setattr(human36m.scene, "film", lambda *given: np.zeros((given[-1], 16, 16, 3), np.uint8))
    distribution = human36m.Distribution(
        subjects=("S1", "S11"), takes=((12, 1), (15, 2)), mono=True, masks=True, layout=layout
    )
    human36m.write(tmp_path, distribution)
    inventory = take_inventory(originals.scan(tmp_path), 5, "mask")
    assert not inventory.missing and not inventory.unexpected and not inventory.warnings
    assert [(take.name, take.action) for take in inventory.takes] == [
        ("S1 12.1 TakingPhoto 1", "TakingPhoto"), ("S1 15.2 WalkingDog", "WalkingDog"),
        ("S11 12.1 Photo 1", "TakingPhoto"), ("S11 15.2 WalkDog", "WalkingDog"),
    ]  # fmt: skip
    assert all(len(take.files) == 1 + 3 * 4 for take in inventory.takes)
