"""What a file is, told by its path: as many layouts as people have, and names that begin alike."""

import pytest

from datasets.distributions.originals import File
from datasets.human36m.files import Kind, Place, is_unused, place_of, sort_files

CAMERA = "54138969"


def file(path: str, size: int = 10) -> File:
    archive = "/".join(path.split("/")[: 1 + path.split("/").index("a.tgz")]) if "a.tgz/" in path else ""
    return File(path, size, archive, (path,) if archive else (), "source", 0)


@pytest.mark.parametrize(
    ("path", "kind", "prefix", "camera"),
    [
        ("S5/Videos/Sitting 1.54138969.mp4", Kind.VIDEO, "Sitting 1", CAMERA),
        ("S5/Videos/SittingDown.54138969.mp4", Kind.VIDEO, "SittingDown", CAMERA),
        ("VideosSubjectSpecific_6.tgz/S5/Videos/Walking.54138969.mp4", Kind.VIDEO, "Walking", CAMERA),
        ("x/s5.zip/s5/Videos.tgz/S5/Videos/Walking.54138969.mp4", Kind.VIDEO, "Walking", CAMERA),
        ("s5/Videos/WalkDog 1.54138969.mp4", Kind.VIDEO, "WalkDog 1", CAMERA),
        ("S1/copy/S5/Videos/Photo.54138969.mp4", Kind.VIDEO, "Photo", CAMERA),
        ("S5/MyPoseFeatures/D3_Positions/Photo 1.cdf", Kind.POSES, "Photo 1", ""),
        ("extracted/S5/Poses_D3_Positions/Photo 1.cdf", Kind.POSES, "Photo 1", ""),
        ("S5/MyPoseFeatures/D3_Positions_mono/Photo.54138969.cdf", Kind.MONO, "Photo", CAMERA),
        ("extracted/S5/Poses_D3_Positions_mono/Photo.54138969.cdf", Kind.MONO, "Photo", CAMERA),
        ("S5/MySegmentsMat/ground_truth_bb/Photo.54138969.mat", Kind.MASKS, "Photo", CAMERA),
    ],
)
def test_places(path: str, kind: Kind, prefix: str, camera: str) -> None:
    assert place_of(path) == Place(kind, "S5", prefix, camera)


@pytest.mark.parametrize(
    "path",
    [
        "Videos/Sitting 1.54138969.mp4",
        "SittingDown/Videos/Sitting 1.54138969.mp4",
        "S5/Sitting 1.54138969.mp4",
        "S5/Videos/Sitting.mp4",
        "S5/Videos/Sitting 1.54138969.avi",
        "S5/Videos/Sitting 1.54138969.mp4.part",
        "S5/MyPoseFeatures/D2_Positions/Photo.54138969.cdf",
        "S5/MyPoseFeatures/D3_Positions_mono_universal/Photo.54138969.cdf",
        "S5/MySegmentsMat/ground_truth_bs/Photo.54138969.mat",
        "Photo.cdf",
    ],
)
def test_what_is_not_read_has_no_place(path: str) -> None:
    assert place_of(path) is None


def test_names() -> None:
    assert Place(Kind.POSES, "S5", "Directions 2").name == "S5/Directions 2.cdf"
    assert Place(Kind.VIDEO, "S5", "Directions 2", CAMERA).name == "S5/Directions 2.54138969.mp4"
    assert Place(Kind.MASKS, "S5", "Directions 2", CAMERA).name == "S5/Directions 2.54138969.mat"


def test_loose_files_come_first_and_sizes_that_differ_are_told() -> None:
    loose, packed = "b/S1/Videos/Photo.1.mp4", "a.tgz/S1/Videos/Photo.1.mp4"
    place = Place(Kind.VIDEO, "S1", "Photo", "1")
    for order in ([file(loose), file(packed)], [file(packed), file(loose)]):
        files = sort_files(order)
        assert files.places == {place: file(loose)} and not files.warnings
    for several in (
        [file(packed, 11), file(loose)],
        [file("z/S1/Videos/Photo.1.mp4", 11), file(loose), file(packed)],
    ):
        files = sort_files(several)
        assert files.places[place] == file(loose)
        (warning,) = files.warnings
        assert warning == f"{loose} (10 bytes) is used; {several[0].path} has 11 bytes: one may be incomplete"
    files = sort_files([file("a.tgz/metadata.xml"), file("x/metadata.xml"), file("b/metadata.xml", 9)])
    assert [f.path for f in files.metadata] == ["b/metadata.xml", "x/metadata.xml", "a.tgz/metadata.xml"]
    assert files.warnings == (
        "b/metadata.xml (9 bytes) is used; x/metadata.xml has 10 bytes: one may be incomplete",
    )


def test_only_what_looks_like_data_and_is_none_is_unexpected() -> None:
    unexpected = [
        "Photo.1.mp4",
        "S1/Photo.1.mp4",
        "S1/Videos/Photo.mp4",
        "S1/Videos/Photo.1.mp4.part",
        "x/Photo.cdf",
    ]
    unused = [
        "S1/MyPoseFeatures/D2_Positions/Photo.1.cdf",
        "S1/MyPoseFeatures/D3_Positions_mono_universal/Photo.1.cdf",
        "S1/TOF/Photo.cdf",
        "code-v1.2.zip/H36M/readme.m",
        "checksums.txt",
    ]
    files = sort_files([file(path) for path in [*unexpected, *unused, "metadata.xml"]])
    assert files.unexpected == tuple(sorted(unexpected)) and not files.places


def test_subjects_without_poses_and_miscellaneous_takes_are_not_used() -> None:
    assert is_unused(Place(Kind.VIDEO, "S2", "Walking", CAMERA))
    assert is_unused(Place(Kind.VIDEO, "S10", "Walking", CAMERA))
    assert is_unused(Place(Kind.POSES, "S1", "_ALL 1")) and is_unused(Place(Kind.POSES, "S1", "_ALL"))
    assert not is_unused(Place(Kind.VIDEO, "S1", "Walking", CAMERA))
    assert not is_unused(Place(Kind.VIDEO, "S11", "Walking", CAMERA))
