"""BVH: what is read, forward kinematics against a slow loop, and every file that is refused."""

from itertools import permutations

import numpy as np
import pytest

from datasets.synthetic_multiview import bvh
from datasets.synthetic_multiview.bvh import Joint
from mcss_jax.errors import UserError
from tests.datasets.synthetic_multiview import bvh_files
from tests.refusals import refused

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Left Leg
  {
    OFFSET 0 -10.5 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 0 -9e0 0.5
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.008333
0 90 0 0 0 0 10 20 30
1 91 0 5 6 7 11 21 31
"""


def turned(axis: str, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.eye(4)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def slow_kinematics(joints: tuple[Joint, ...], values: np.ndarray) -> np.ndarray:
    """World transforms `[frames, joints, 4, 4]`: one matrix a channel, one frame and one joint at a time."""
    world = np.zeros((len(values), len(joints), 4, 4))
    for frame, row in enumerate(values):
        numbers = iter(row)
        for j, joint in enumerate(joints):
            local, place = np.eye(4), np.array(joint.offset)
            for channel in joint.channels:
                number = next(numbers)
                if channel.endswith("position"):
                    place["xyz".index(channel[0])] = number
                else:
                    local = local @ turned(channel[0], number)
            local[:3, 3] = place
            world[frame, j] = local if joint.parent < 0 else world[frame, joint.parent] @ local
    return world


def test_everything_is_read() -> None:
    clip = bvh.parse(SMALL.encode())
    position = ("xposition", "yposition", "zposition")
    assert clip.joints == (
        Joint("Hips", -1, (1.0, 2.0, 3.0), (*position, "zrotation", "xrotation", "yrotation")),
        Joint("Left Leg", 0, (0.0, -10.5, 0.0), ("yrotation", "xrotation", "zrotation")),
        Joint("Left Leg end", 1, (0.0, -9.0, 0.5), ()),
    )
    assert clip.frame_time == 0.008333 and clip.values.shape == (2, 9) and clip.values.dtype == np.float64
    np.testing.assert_array_equal(clip.values[1], [1, 91, 0, 5, 6, 7, 11, 21, 31])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n", "\r\n"),
        ("  ", "\t"),
        ("HIERARCHY", "\ufeffHIERARCHY"),
        ("\n{", " {"),
        ("Xposition Yposition", "XPosition yposition"),
        ("End Site", "End Site toe"),
        ("Frames: 2", "Frames:\t2"),
        ("Frame Time: 0.008333", "Frame Time: .008333  "),
        ("30\n1 91", "30 1 91"),
    ],
)
def test_the_same_written_otherwise(old: str, new: str) -> None:
    assert old in SMALL
    one, other = bvh.parse(SMALL.encode()), bvh.parse(SMALL.replace(old, new).encode())
    assert one.joints == other.joints and one.frame_time == other.frame_time
    np.testing.assert_array_equal(one.values, other.values)


def test_what_the_tests_write_is_read_back() -> None:
    joints = bvh_files.skeleton()
    values = bvh_files.moving(joints, 3)
    clip = bvh.parse(bvh_files.text(joints, values).encode())
    names = [joint.name for joint in clip.joints]
    places = bvh.forward_kinematics(clip.joints, clip.values).position
    expected = slow_kinematics(joints, values)[..., :3, 3]
    for j, joint in enumerate(joints):
        np.testing.assert_allclose(places[:, names.index(joint.name)], expected[:, j], atol=1e-9)


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("xyz")])
@pytest.mark.parametrize("positions", [0, 1, 3])
def test_forward_kinematics_against_a_slow_loop(order: str, positions: int) -> None:
    """A branching tree; children with no, one and three position channels, before or after the rotations."""
    rng = np.random.default_rng(positions)
    rotation = tuple(f"{axis}rotation" for axis in order)
    position = tuple(f"{axis}position" for axis in order)
    joints = [Joint("root", -1, (1.0, 2.0, 3.0), position + rotation)]
    for j, parent in enumerate((0, 1, 2, 0, 4)):
        channels = (*position[:positions], *rotation) if j % 2 else (*rotation, *position[:positions])
        joints.append(Joint(f"j{j}", parent, tuple(rng.normal(size=3)), channels))
    joints += [Joint("one axis", 5, (1.0, 0.0, 0.0), rotation[1:2]), Joint("end", 6, (0.0, 1.0, 0.0), ())]
    tree = tuple(joints)
    values = rng.uniform(-170, 170, (7, sum(len(joint.channels) for joint in tree)))
    placed, slow = bvh.forward_kinematics(tree, values), slow_kinematics(tree, values)
    np.testing.assert_allclose(placed.position, slow[..., :3, 3], atol=1e-9)
    np.testing.assert_allclose(placed.rotation, slow[..., :3, :3], atol=1e-12)


def test_a_known_pose() -> None:
    """Turned left by 90 degrees, then the leg raised by 90: worked out by hand."""
    clip = bvh.parse(SMALL.replace("0 90 0 0 0 0 10 20 30", "0 90 0 0 0 90 0 -90 0").encode())
    hips, leg, end = bvh.forward_kinematics(clip.joints, clip.values).position[0]
    np.testing.assert_allclose(hips, [0, 90, 0], atol=1e-12)
    np.testing.assert_allclose(leg, [0, 79.5, 0], atol=1e-12)
    np.testing.assert_allclose(end, [9, 80, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("old", "new", "facts"),
    [
        ("HIERARCHY", "", ("no BVH file", "HIERARCHY")),
        ("HIERARCHY", "HIERARCHY\nCAMERA", ("no BVH file", "'CAMERA'", "HIERARCHY")),
        ("ROOT", "JOINT", ("without parent", "'Hips'")),
        ("}\nMOTION", "}\nJOINT Lost\n{\n}\nMOTION", ("without parent", "'Lost'")),
        ("}\nMOTION", "}\nROOT Other\n{\n}\nMOTION", ("second skeleton", "'Other'")),
        ("}\nMOTION", "MOTION", ("truncated", "HIERARCHY")),
        ("{\n      OFFSET 0 -9e0 0.5\n    }\n  }\n}", "", ("truncated", "HIERARCHY")),
        ("}\nMOTION", "}\n}\nMOTION", ("'}'",)),
        ("Xposition", "Wposition", ("wposition", "'Hips'", "xposition")),
        ("Xposition", "Yposition", ("'Hips'", "each once")),
        ("CHANNELS 3", "CHANNELS 4", ("yrotation xrotation zrotation end", "'Left Leg'")),
        ("CHANNELS 3", "CHANNELS three", ("'three'", "number")),
        ("-10.5", "nan", ("'nan'", "number")),
        ("MOTION", "", ("no frames", "MOTION")),
        ("Frame Time", "Rate", ("MOTION", "'Frames:'", "'Frame Time:'")),
        ("0.008333", "0", ("frame time of 0", "above 0")),
        ("Frames: 2", "Frames: 0", ("no frames",)),
        ("Frames: 2", "Frames: 3", ("3 frames of 9 numbers", "27", "18")),
        ("21 31", "21", ("2 frames of 9 numbers", "18", "17")),
        ("21 31", "21 31 41", ("18", "19")),
        ("21 31", "inf 31", ("not finite", "frame 1")),
        ("21 31", "21,5 31", ("numbers", "21,5")),
    ],
)
def test_what_is_refused(old: str, new: str, facts: tuple[str, ...]) -> None:
    assert old in SMALL
    with refused(*facts):
        bvh.parse(SMALL.replace(old, new, 1).encode())


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe", b"HIERARCHY", b"HIERARCHY\nMOTION\n"])
def test_no_text_is_taken_for_a_skeleton(data: bytes) -> None:
    with pytest.raises(UserError, match="no BVH file|no frames|truncated"):
        bvh.parse(data)
