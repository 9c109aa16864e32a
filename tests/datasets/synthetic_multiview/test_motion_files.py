"""Motion archives: which files are found, whose they are, which frames become records, and what is refused."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from datasets.synthetic_multiview import anatomy, bvh, motion_files, performance, retarget
from datasets.synthetic_multiview.motion_files import scan
from tests.datasets.synthetic_multiview import bvh_files
from tests.refusals import refused

JOINTS = bvh_files.skeleton()


def fill(folder: Path, *names: str, frames: int = 11, frame_time: float = 0.05) -> Path:
    for i, name in enumerate(names):
        bvh_files.write(folder / name, JOINTS, bvh_files.moving(JOINTS, frames, i), frame_time)
    return folder


def test_folders_are_subjects_and_so_are_single_files(tmp_path: Path) -> None:
    folder = fill(
        tmp_path, "b/walk.bvh", "b/day 2/morning/Run.BVH", "a.bvh", "c/walk.bvh", "b/walk.txt", "b/._walk.bvh"
    )
    seen: list[int] = []
    archive = scan(folder, 0.1, on_file=lambda: seen.append(1))
    assert [(f.subject, f.action, f.subaction, f.name, f.split) for f in archive.files] == [
        ("a", "a", "", "a.bvh", "train"),
        ("b", "Run", "day 2/morning", "b/day 2/morning/Run.BVH", "validation"),
        ("b", "walk", "", "b/walk.bvh", "validation"),
        ("c", "walk", "", "c/walk.bvh", "test"),
    ]
    assert len(seen) == 4 and archive.subjects == ["a", "b", "c"]
    assert [file.instants for file in archive.files] == [6] * 4  # 0.5 s, both ends included
    data = (folder / "a.bvh").read_bytes()
    assert archive.specification == {
        "files": {f.name: [f.digest, f.split, f.subject] for f in archive.files},
        "up_axis": "auto",
        "joint_map": {},
    }
    assert archive.files[0].digest == hashlib.sha256(data).hexdigest()[:16]


@pytest.mark.parametrize(
    ("people", "counts"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (9, (7, 1, 1)), (20, (14, 2, 4))]
)
def test_the_last_people_are_kept_out_of_training(
    people: int, counts: tuple[int, ...], tmp_path: Path
) -> None:
    folder = fill(tmp_path, *(f"s{i:02d}/a.bvh" for i in range(people)), frames=1)
    archive = scan(folder, 0.1)
    splits = [file.split for file in archive.files]
    assert tuple(map(splits.count, motion_files.SPLITS)) == counts
    assert [file.subject for file in archive.files] == sorted(file.subject for file in archive.files)


def test_folders_may_say_the_split(tmp_path: Path) -> None:
    folder = fill(tmp_path, "train/x/a.bvh", "train/b.bvh", "test/a/c.bvh", "test/a/d/c.bvh")
    assert [(f.split, f.subject, f.action, f.subaction) for f in scan(folder, 0.1).files] == [
        ("train", "b", "b", ""),
        ("train", "x", "a", ""),
        ("test", "a", "c", ""),
        ("test", "a", "c", "d"),
    ]


def test_who_performs_what(tmp_path: Path) -> None:
    """Nobody of an archive is one of the generated sets' people, and each file is a sequence of its own."""
    archive = scan(fill(tmp_path, "train/x/a.bvh", "train/y/a.bvh", "train/y/b.bvh", "test/z/a.bvh"), 0.1)
    acts = [
        act for split in ("train", "validation", "test") for act in performance.captured(archive, split, 0)
    ]
    assert [(act.subject, act.action, act.subaction) for act in acts] == [
        ("x", "a", "1"),
        ("y", "a", "1"),
        ("y", "b", "1"),
        ("z", "a", "1"),
    ]
    assert [act.person for act in acts] == [1000, 1001, 1001, 1002]
    assert len({act.sequence for act in acts}) == 4


def test_every_file_is_turned_its_own_way(tmp_path: Path) -> None:
    """Two copies of one movement by one person: the same but for a turn about the vertical."""
    folder = fill(tmp_path, "a/one.bvh")
    (folder / "a/two.bvh").write_bytes((folder / "a/one.bvh").read_bytes())
    person = anatomy.person(np.asarray(anatomy.person_draws(0, 1), np.float64), np)
    acts = performance.captured(scan(folder, 0.1), "train", 0)
    one, other = (act.perform(person).body.joints for act in acts)
    one, other = (joints - joints[:1, :1] for joints in (one, other))
    complex_one, complex_other = (joints[..., 0] + 1j * joints[..., 1] for joints in (one, other))
    turn = complex_other[0, 1] / complex_one[0, 1]
    assert abs(abs(turn) - 1) < 1e-9 and abs(np.angle(turn, deg=True)) > 5
    np.testing.assert_allclose(complex_other, turn * complex_one, atol=1e-6)
    np.testing.assert_allclose(other[..., 2], one[..., 2], atol=1e-6)


@pytest.mark.parametrize("frame_time", [1 / 120, 1 / 30, 1 / 24, 0.1])
def test_records_are_the_nearest_frames(frame_time: float) -> None:
    clip = bvh.Clip(JOINTS, bvh_files.poses(JOINTS, 100), frame_time)
    frames = motion_files.instants(clip, 0.1)
    for record, frame in enumerate(frames):
        assert abs(frame * frame_time - record * 0.1) <= frame_time / 2 + 1e-9
    assert frames[0] == 0 and frames[-1] <= 99 and (len(frames) * 0.1) > 99 * frame_time - 1e-6


def test_the_records_show_those_frames(tmp_path: Path) -> None:
    folder = fill(tmp_path, "a.bvh", frames=25, frame_time=1 / 24)
    archive = scan(folder, 0.1)
    excerpt = motion_files.read(archive, archive.files[0], 30.0)
    assert excerpt.frames.tolist() == [0, 2, 5, 7, 10, 12, 14, 17, 19, 22, 24]
    clip = bvh.parse((folder / "a.bvh").read_bytes())
    placed = retarget.upright(bvh.forward_kinematics(clip.joints, clip.values[excerpt.frames]), 1, 30.0)
    names = [joint.name for joint in clip.joints]
    shin = placed.position[:, names.index("LeftFoot")] - placed.position[:, names.index("LeftLeg")]
    np.testing.assert_allclose(
        excerpt.moves.bones[:, 6], shin / np.linalg.norm(shin, axis=-1, keepdims=True), atol=1e-12
    )


@pytest.mark.parametrize("up", ["auto", "z"])
def test_z_may_be_up(up: str, tmp_path: Path) -> None:
    """The same movement by a skeleton that hangs on a root turned about x."""
    above = bvh.Joint("World", -1, (0.0, 0.0, 0.0), ("xposition", "yposition", "zposition", "xrotation"))
    joints = (above, *(joint._replace(parent=joint.parent + 1) for joint in JOINTS))
    values = bvh_files.moving(JOINTS, 11)
    turned = np.concatenate([np.zeros((11, 3)), np.full((11, 1), 90.0), values], axis=1)
    bvh_files.write(tmp_path / "z/a.bvh", joints, turned)
    bvh_files.write(tmp_path / "y/a.bvh", JOINTS, values)
    ours = scan(tmp_path / "z", 0.1, up)  # type: ignore[arg-type]
    theirs = scan(tmp_path / "y", 0.1, "y")
    one, other = (motion_files.read(archive, archive.files[0], 0.0).moves for archive in (ours, theirs))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    lying = dataclasses.replace(theirs, up_axis="z")
    assert not np.allclose(motion_files.read(lying, lying.files[0], 0.0).moves.bones, other.bones, atol=0.1)


def test_a_joint_map_is_used(tmp_path: Path) -> None:
    joints = bvh_files.renamed(JOINTS, {"Head": "Kopf"})
    bvh_files.write(tmp_path / "a.bvh", joints, bvh_files.poses(JOINTS, 3))
    with refused("a.bvh", "no joint for Head", "Hips", "Kopf"):
        scan(tmp_path, 0.1)
    archive = scan(tmp_path, 0.1, joint_map={"Head": "Kopf"})
    assert archive.files[0].instants == 2 and archive.specification["joint_map"] == {"Head": "Kopf"}


def test_a_file_that_was_changed_meanwhile(tmp_path: Path) -> None:
    archive = scan(fill(tmp_path, "a.bvh"), 0.1)
    fill(tmp_path, "a.bvh", frames=21)
    with refused("a.bvh", "changed", "prepare the set again"):
        motion_files.read(archive, archive.files[0], 0.0)


def test_nothing_there(tmp_path: Path) -> None:
    with refused("no/where", "no such folder"):
        scan(tmp_path / "no" / "where", 0.1)
    with refused("no .bvh file"):
        scan(tmp_path, 0.1)


def test_folders_that_contradict_each_other(tmp_path: Path) -> None:
    fill(tmp_path / "one", "train/a/x.bvh", "b/x.bvh", frames=1)
    with refused("b/x.bvh", "folder train", "train, validation, test"):
        scan(tmp_path / "one", 0.1)
    fill(tmp_path / "two", "train/a/x.bvh", "test/a/x.bvh", frames=1)
    with refused("subject a", "test", "train"):
        scan(tmp_path / "two", 0.1)


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ("HIERARCHY", "HIER", ("a.bvh", "no BVH file")),
        ("Frames: 11", "Frames: 12", ("a.bvh", "truncated or damaged", "12 frames")),
        (
            "Frame Time: 0.05",
            "Frame Time: 0.25",
            ("a.bvh", "0.25 s", "0.1 s"),
        ),
        ("OFFSET 0.0 -42.0 0.0", "OFFSET 0 0 0", ("a.bvh", "without direction")),
    ],
)
def test_files_that_are_refused(old: str, new: str, facts: tuple[str, ...], tmp_path: Path) -> None:
    file = fill(tmp_path, "x/a.bvh") / "x/a.bvh"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with refused(*facts):
        scan(tmp_path, 0.1)


def test_years_a_frame_are_not_counted() -> None:
    clip = bvh.Clip(JOINTS, bvh_files.poses(JOINTS, 3), 1e300)
    with refused("1e+300 s", "0.1 s"):
        motion_files.instants(clip, 0.1)
