"""Files told by their paths: loose, zipped, extracted, doubled, numbered."""

import random

import pytest

from datasets.distributions.originals import File
from datasets.mpi_inf_3dhp.layout import read_layout
from tests.refusals import refused


def file(path: str, size: int = 10, archive: str = "") -> File:
    return File(path, size, archive, (path,) if archive else (), "source", 0)


def test_every_layout_of_a_video() -> None:
    for path in (
        "S1/Seq2/imageSequence/video_10.avi",
        "mpi_inf_3dhp/S1/Seq2/imageSequence/video_10.avi",
        "S1/Seq2/imageSequence/other_angled_cameras.zip/video_10.avi",
        "S1/Seq2/imageSequence/other_angled_cameras.zip/a/b/video_10.avi",
        "all.tgz/data/S1/Seq2/imageSequence/x.zip/video_10.avi",
        "S3/Seq1/backup.zip/S1/Seq2/imageSequence/video_10.avi",
    ):
        layout = read_layout([file(path)])
        assert list(layout.pictures) == [("S1/Seq2", 10)] and not layout.unexpected, path


def test_numbers_for_each_other() -> None:
    """video_1 is not video_11, S1 is not TS1."""
    layout = read_layout(
        [file(f"S1/Seq1/imageSequence/video_{k}.avi", k + 1) for k in (1, 11)]
        + [file("x/TS1/annot_data.mat"), file("S1/Seq1/annot.mat"), file("S1/Seq1/camera.calibration")]
    )
    assert {place: files[0].size for place, files in layout.pictures.items()} == {
        ("S1/Seq1", 1): 2,
        ("S1/Seq1", 11): 12,
    }
    assert sorted(layout.annotation) == ["S1/Seq1", "TS1"] and list(layout.calibration) == ["S1/Seq1"]


def test_what_is_known_and_unused_and_what_is_not() -> None:
    unused = [
        "S1/Seq1/FGmasks/vnect_cameras.zip/video_0.avi",
        "S1/Seq1/FGmasks/imageSequence/video_0.avi",
        "S1/Seq1/ChairMasks/video_0.avi",
        "mpi_inf_3dhp_test_set/test_util/mpii_get_joints.m",
        "README.txt",
        "get_dataset.sh",
        "conf.ig",
    ]
    strange = [
        "S9/Seq1/annot.mat",
        "S1/Seq3/annot.mat",
        "S1/Seq1/video_0.avi",
        "S1/Seq1/imageSequence/video_14.avi",
        "S1/Seq1/imageSequence/video_0.mp4",
        "S1/Seq1/imageSequence/img_000001.jpg",
        "TS7/annot_data.mat",
        "TS1/annot.mat",
        "TS1/imageSequence/video_0.avi",
        "TS1/imageSequence/video_0/frame_000001.jpg",
        "holiday.jpg",
    ]
    layout = read_layout([file(path) for path in [*unused, *strange]])
    assert layout.unexpected == tuple(strange)
    assert not (layout.annotation or layout.calibration or layout.pictures or layout.warnings)


@pytest.mark.parametrize("prefix", ["img", "frame"])
def test_pictures_are_ordered_by_number(prefix: str) -> None:
    folder = "S2/Seq1/imageSequence/video_3"
    files = [file(f"{folder}/{prefix}_{k:06d}.jpg", k) for k in range(1, 121)]
    files += [file(f"t/TS2/imageSequence/img_{k}.jpg", k) for k in range(1, 13)]
    random.Random(0).shuffle(files)
    layout = read_layout(files)
    assert [f.size for f in layout.pictures["S2/Seq1", 3]] == list(range(1, 121))
    assert [f.size for f in layout.pictures["TS2", 0]] == list(range(1, 13))


@pytest.mark.parametrize(
    ("numbers", "facts"),
    [
        (
            (1, 2, 4, 5),
            ("S2/Seq1/imageSequence/video_3", "number 3", "number 4", "5"),
        ),
        ((0, 1, 2), ("number 1 was expected", "number 0")),
        ((1, 2, 2, 3), ("number 3 was expected", "number 2")),
    ],
)
def test_gaps_in_the_numbers_are_refused(numbers: tuple[int, ...], facts: tuple[str, ...]) -> None:
    folder = "S2/Seq1/imageSequence/video_3"
    # The same number twice: one with more leading zeros.
    files = [file(f"{folder}/img_{k:0{6 + i}d}.jpg") for i, k in enumerate(numbers)]
    with refused(*facts):
        read_layout(files)


def test_of_doubles_the_loose_one_is_taken() -> None:
    loose = file("z/S1/Seq1/annot.mat", 10)
    packed = file("a.zip/S1/Seq1/annot.mat", 10, "a.zip")
    for files in ([loose, packed], [packed, loose]):
        layout = read_layout(files)
        assert layout.annotation["S1/Seq1"] is loose and not layout.warnings
    layout = read_layout([packed, file("z/S1/Seq1/annot.mat", 9)])
    assert layout.warnings == (
        "S1/Seq1: z/S1/Seq1/annot.mat (9 bytes) is used; a.zip/S1/Seq1/annot.mat has 10 bytes",
    )


def test_videos_come_before_pictures_and_fuller_folders_first() -> None:
    at = "S1/Seq1/imageSequence"
    few = [file(f"a/{at}/video_0/img_{k:06d}.jpg") for k in range(1, 4)]
    many = [file(f"b/{at}/video_0/frame_{k:06d}.jpg") for k in range(1, 6)]
    assert read_layout(few + many).pictures["S1/Seq1", 0] == tuple(many)
    video = file(f"{at}/video_0.avi")
    assert read_layout([*few, video, *many]).pictures["S1/Seq1", 0] == (video,)
