"""Names of joints: the common families are understood, a user's map comes first, what is missing is listed."""

from pathlib import Path

import pytest

from datasets.synthetic_multiview import joint_names
from datasets.synthetic_multiview.bvh import Joint
from tests.datasets.synthetic_multiview import bvh_files
from tests.refusals import refused

JOINTS = bvh_files.skeleton()
PLAIN = {joint.name: joint.name for joint in JOINTS}


def sided(pattern: str, parts: dict[str, str], left: str, right: str) -> dict[str, str]:
    """Names of both sides: `{s}` is the side and `{n}` the part."""
    return {
        f"{side}{part}": pattern.format(s=said, n=name)
        for side, said in (("Left", left), ("Right", right))
        for part, name in parts.items()
    }


def parts(*names: str) -> dict[str, str]:
    ours = ("UpLeg", "Leg", "Foot", "ToeBase", "Shoulder", "Arm", "ForeArm", "Hand")
    return dict(zip(ours, names, strict=True))


def middle(*names: str) -> dict[str, str]:
    return dict(zip(("Hips", "Spine", "Spine1", "Neck", "Head"), names, strict=True))


SAME = ("UpLeg", "Leg", "Foot", "ToeBase", "Shoulder", "Arm", "ForeArm", "Hand")
LEGS = ("Hip", "Knee", "Ankle", "Toe")
FAMILIES = {
    "MotionBuilder": PLAIN,
    "Mixamo": {name: f"mixamorig:{name}" for name in PLAIN},
    "Mixamo, numbered": {name: f"mixamorig7:{name}" for name in PLAIN},
    "Mixamo, underscores": {name: f"mixamorig_{name}" for name in PLAIN},
    "own prefix": {name: f"Character1_{name}" for name in PLAIN} | {"Hips": "Reference"},
    "lower case": {name: name.lower() for name in PLAIN},
    "upper case": {name: name.upper() for name in PLAIN},
    "Xsens": middle("Hips", "Chest", "Chest2", "Neck", "Head")
    | sided("{s}{n}", parts(*LEGS, "Collar", "Shoulder", "Elbow", "Wrist"), "Left", "Right"),
    "Bandai": middle("Hips", "Spine", "Chest", "Neck", "Head")
    | sided("{n}_{s}", parts("UpperLeg", "LowerLeg", "Foot", "Toes", "Shoulder", "UpperArm", "LowerArm", "Hand"),
            "L", "R"),
    "Blender": middle("hips", "spine", "spine.001", "neck", "head")
    | sided("{n}.{s}", parts("thigh", "shin", "foot", "toe", "shoulder", "upper_arm", "forearm", "hand"), "L", "R"),
    "Unreal": middle("pelvis", "spine_01", "spine_02", "neck_01", "head")
    | sided("{n}_{s}", parts("thigh", "calf", "foot", "ball", "clavicle", "upperarm", "lowerarm", "hand"), "l", "r"),
    "Biped": {name: f"Bip01 {said}" for name, said in (
        middle("Pelvis", "Spine", "Spine1", "Neck", "Head")
        | sided("{s} {n}", parts("Thigh", "Calf", "Foot", "Toe0", "Clavicle", "UpperArm", "Forearm", "Hand"),
                "L", "R")).items()},
    "SMPL": middle("Pelvis", "Spine1", "Spine2", "Neck", "Head")
    | sided("{s}_{n}", parts("Hip", "Knee", "Ankle", "Foot", "Collar", "Shoulder", "Elbow", "Wrist"), "L", "R"),
    "Acclaim": middle("root", "lowerback", "thorax", "lowerneck", "head")
    | sided("{s}{n}", parts("femur", "tibia", "foot", "toes", "clavicle", "humerus", "radius", "wrist"), "l", "r"),
    "Poser": middle("hip", "abdomen", "chest", "neck", "head")
    | sided("{s}{n}", parts("Thigh", "Shin", "Foot", "Toe", "Collar", "Shldr", "ForeArm", "Hand"), "l", "r"),
    "classic": middle("Hips", "Chest", "Chest2", "Neck", "Head")
    | sided("{s}{n}", parts("UpLeg", "LowLeg", "Foot", "Toe", "Collar", "UpArm", "LowArm", "Hand"), "Left", "Right"),
}  # fmt: skip
EXPECTED = {"Thorax": "Neck", "Head": "Head"} | {
    side[0] + role: side + part
    for side in ("Left", "Right")
    for role, part in (
        ("Hip", "UpLeg"),
        ("Knee", "Leg"),
        ("Foot", "Foot"),
        ("Shoulder", "Arm"),
        ("Elbow", "ForeArm"),
        ("Wrist", "Hand"),
    )
}


def names_by_role(joints: tuple[Joint, ...], own: dict[str, str] | None = None) -> dict[str, str]:
    return {role: joints[i].name for role, i in joint_names.find_roles(joints, own or {}).joint.items()}


def put(joints: tuple[Joint, ...], *more: tuple[str, str]) -> tuple[Joint, ...]:
    """More joints, (name, parent)."""
    names = [joint.name for joint in joints]
    rotation = bvh_files.ROTATION
    return joints + tuple(
        Joint(name, names.index(parent), (0.0, 1.0, 0.0), rotation) for name, parent in more
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_families(family: str) -> None:
    names = FAMILIES[family]
    joints = bvh_files.renamed(JOINTS, names)
    roles = joint_names.find_roles(joints, {})
    assert names_by_role(joints) == {role: names[ours] for role, ours in EXPECTED.items()}
    assert set(roles.joint) | {"Spine"} == set(joint_names.ROLES)
    assert [joints[i].name for i in roles.back] == [names["Spine"], names["Spine1"]]
    assert roles.body == tuple(range(len(joints)))


def test_what_looks_like_a_role_and_is_none() -> None:
    """A second neck joint, fingers, twist bones, a hip joint above the thigh, and the end sites."""
    decoys = [("Neck1", "Neck"), ("LeftHandIndex1", "LeftHand"), ("LeftArmTwist", "LeftArm"),
              ("LHipJoint", "Hips"), ("HeadTop_End", "Head"), ("LeftLegRoll", "LeftLeg")]  # fmt: skip
    joints = put(JOINTS, *decoys)
    end = Joint("LeftHand", len(JOINTS) - 1, (0.0, 1.0, 0.0), ())
    assert names_by_role((*joints, end)) == EXPECTED


def test_the_body_is_without_props_and_what_it_hangs_on() -> None:
    above = (Joint("World", -1, (0.0, 0.0, 0.0), bvh_files.POSITION), *JOINTS)
    joints = tuple(joint._replace(parent=joint.parent + 1 if i else -1) for i, joint in enumerate(above))
    joints = put(joints, ("Ball", "World"))
    assert joint_names.find_roles(joints, {}).body == tuple(range(1, 1 + len(JOINTS)))


def test_a_map_comes_first(tmp_path: Path) -> None:
    file = tmp_path / "map.txt"
    file.write_text("# my rig\n\nLWrist = Left Grip  # where it holds\nSpine=Spine1\n")
    own = joint_names.read_map(file)
    assert own == {"LWrist": "Left Grip", "Spine": "Spine1"}
    joints = put(JOINTS, ("Left Grip", "LeftForeArm"))
    assert names_by_role(joints, own) == EXPECTED | {"LWrist": "Left Grip"}
    assert [joints[i].name for i in joint_names.find_roles(joints, own).back] == ["Spine1"]


def test_a_skeleton_of_unknown_names_is_mapped_by_hand() -> None:
    joints = bvh_files.renamed(JOINTS, {name: f"j{i}" for i, name in enumerate(PLAIN)})
    with refused("no joint for Thorax, Head, RHip, RKnee", "j0, j1"):
        joint_names.find_roles(joints, {})
    own = {role: f"j{list(PLAIN).index(name)}" for role, name in EXPECTED.items()}
    assert names_by_role(joints, own) == own


@pytest.mark.parametrize(
    ("names", "more", "own", "facts"),
    [
        (
            {"LeftHand": "Grip"},
            [],
            {},
            ("no joint for LWrist", "Hips", "Grip", "--joint_map"),
        ),
        ({"LeftHand": "X", "Head": "Y"}, [], {}, ("no joint for Head, LWrist", "--joint_map")),
        (
            {},
            [("Left_Hand", "LeftForeArm")],
            {},
            ("several joints for LWrist", "LeftHand, Left_Hand", "--joint_map"),
        ),
        ({}, [], {"Head": "Skull"}, ("no joint 'Skull'", "Head", "Hips")),
        (
            {},
            [("LeftHand", "Hips")],
            {"LWrist": "LeftHand"},
            ("several joints for LWrist", "LeftHand, LeftHand"),
        ),
        ({}, [], {"Thorax": "Hips"}, ("no joint for Spine", "--joint_map")),
    ],
)
def test_what_cannot_be_mapped(
    names: dict[str, str], more: list[tuple[str, str]], own: dict[str, str], facts: tuple[str, ...]
) -> None:
    joints = put(bvh_files.renamed(JOINTS, names), *more)
    with refused(*facts):
        joint_names.find_roles(joints, own)


@pytest.mark.parametrize("line", ["LWrist LeftHand", "LWrist =", "Nose = Head", "Head = B", "= Head"])
def test_a_map_that_is_none(line: str, tmp_path: Path) -> None:
    file = tmp_path / "map.txt"
    file.write_text(f"Head = A\n{line}\n")
    with refused("map.txt, line 2", "'Role = JointName'", "Thorax, Head"):
        joint_names.read_map(file)


def test_no_map(tmp_path: Path) -> None:
    with refused("no.txt"):
        joint_names.read_map(tmp_path / "no.txt")
