"""Captured motion on other people: the file's directions, the person's lengths, the floor, the middle of the room."""

import numpy as np
import pytest

from datasets.synthetic_multiview import anatomy, bvh, joint_names, retarget
from datasets.synthetic_multiview.bvh import Placed
from mcss_jax import skeleton
from tests.datasets.synthetic_multiview import bvh_files
from tests.refusals import refused

JOINTS = bvh_files.skeleton()
NAMES = [joint.name for joint in JOINTS]
ROLES = joint_names.find_roles(JOINTS, {})
AT = {name: i for i, name in enumerate(skeleton.JOINTS)}
# Bones of a person, by the joints of the file that say their direction.
BONES = {
    ("RHip", "LHip"): ("RightUpLeg", "LeftUpLeg"),
    ("Spine", "Thorax"): ("Spine1", "Neck"),
    ("Thorax", "Neck"): ("Neck", "Head"),
} | {
    (side[0] + upper, side[0] + lower): (side + start, side + end)
    for side in ("Left", "Right")
    for upper, lower, start, end in (
        ("Hip", "Knee", "UpLeg", "Leg"),
        ("Knee", "Foot", "Leg", "Foot"),
        ("Shoulder", "Elbow", "Arm", "ForeArm"),
        ("Elbow", "Wrist", "ForeArm", "Hand"),
    )
}


@pytest.fixture(scope="module")
def person() -> anatomy.Person:
    return anatomy.person(np.asarray(anatomy.person_draws(0, 3), np.float64), np)


def upright(values: np.ndarray, heading: float = 0.0) -> Placed:
    return retarget.upright(bvh.forward_kinematics(JOINTS, values), 1, heading)


def posed(person: anatomy.Person, frames: int = 3, **angles: object) -> anatomy.Body:
    placed = upright(bvh_files.poses(JOINTS, frames, **angles))
    return retarget.body(retarget.moves(placed, ROLES), person)


def lowest(body: anatomy.Body, person: anatomy.Person) -> np.ndarray:
    centres, radii = anatomy.outline(anatomy.flesh(body, person, np), np)
    return (centres[..., 2] - radii).min(-1)


def test_directions_are_the_files_and_lengths_the_persons(person: anatomy.Person) -> None:
    placed = upright(bvh_files.moving(JOINTS, 40), heading=70.0)
    body = retarget.body(retarget.moves(placed, ROLES), person)
    for (upper, lower), (start, end) in BONES.items():
        ours = body.joints[:, AT[lower]] - body.joints[:, AT[upper]]
        theirs = placed.position[:, NAMES.index(end)] - placed.position[:, NAMES.index(start)]
        cosine = (ours * theirs).sum(-1) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
        np.testing.assert_allclose(cosine, 1, atol=1e-12, err_msg=f"{upper} {lower}")
    lengths = {
        "Spine": person.loin, "Thorax": person.rib, "Neck": person.neck, "Head": person.skull,
        "LHip": person.hip, "RKnee": person.thigh, "LFoot": person.shin, "RElbow": person.upper_arm,
        "LWrist": person.forearm, "LShoulder": np.hypot(person.shoulder, person.shoulder_drop),
    }  # fmt: skip
    for name, length in lengths.items():
        bone = body.joints[:, AT[name]] - body.joints[:, skeleton.PARENTS[AT[name]]]
        np.testing.assert_allclose(np.linalg.norm(bone, axis=-1), length, rtol=1e-12, err_msg=name)
    np.testing.assert_allclose(body.joints[:, 0], 0.5 * (body.joints[:, 1] + body.joints[:, 4]), atol=1e-9)


def offsets(**changed: tuple[float, float, float]) -> tuple[bvh.Joint, ...]:
    """The skeleton with some joints elsewhere."""
    return tuple(joint._replace(offset=changed.get(joint.name, joint.offset)) for joint in JOINTS)


@pytest.mark.parametrize(
    ("spine", "spine1", "neck", "chosen"),
    [
        ((0, 0, 0), (0, 20, -5), (0, 24, 0), "Spine1"),  # the first where the back begins
        ((0, 20, -5), (0, 24, 0), (0, 0, 0), "Spine"),  # the last where it ends, as in the CMU archive
        ((0, 9, 0), (0, 9, 5), (0, 24, 0), "Spine1"),
        ((0, 19, 0), (0, 19, 5), (0, 4, 0), "Spine"),
    ],
)
def test_the_spine_is_the_joint_in_the_middle_of_the_back(
    spine: tuple[float, float, float],
    spine1: tuple[float, float, float],
    neck: tuple[float, float, float],
    chosen: str,
) -> None:
    joints = offsets(Spine=spine, Spine1=spine1, Neck=neck)
    placed = retarget.upright(bvh.forward_kinematics(joints, bvh_files.poses(JOINTS, 2)), 1, 0.0)
    expected = placed.position[:, NAMES.index("Neck")] - placed.position[:, NAMES.index(chosen)]
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(retarget.moves(placed, ROLES).bones[:, AT["Thorax"]], expected, atol=1e-12)


@pytest.mark.parametrize("neck", [(0.0, 22.0, 0.0), (0.0, 12.0, 3.0), (0.0, 30.0, -2.0)])
def test_shoulders_are_the_persons_wherever_the_neck_begins(
    neck: tuple[float, float, float], person: anatomy.Person
) -> None:
    shrug = np.array([-15.0, 0.0, 15.0])
    values = bvh_files.poses(JOINTS, 3, LeftShoulder_z=shrug)
    placed = retarget.upright(bvh.forward_kinematics(offsets(Neck=neck), values), 1, 0.0)
    body = retarget.body(retarget.moves(placed, ROLES), person)
    at = body.joints[:, [AT["LShoulder"], AT["RShoulder"]]] - body.joints[:, [AT["Thorax"]]]
    local = np.einsum("iab,isa->isb", body.chest_axes, at)
    np.testing.assert_allclose(local.mean(0)[0], [0, person.shoulder, -person.shoulder_drop], atol=12)
    np.testing.assert_allclose(local.mean(0)[1], [0, -person.shoulder, -person.shoulder_drop], atol=12)
    assert (np.diff(local[:, 0, 2]) > 15).all(), "the left shoulder rises"
    np.testing.assert_allclose(local[1:, 1, 2] - local[:-1, 1, 2], 0, atol=12)


def test_a_t_pose_faces_forward_and_stands(person: anatomy.Person) -> None:
    """The file's +z is the world's -y, its left stays +x."""
    body = posed(person)
    forward, left, up = np.array([0, -1, 0]), np.array([1, 0, 0]), np.array([0, 0, 1])
    # Spine and neck of the file are not quite vertical.
    for axes in (body.pelvis_axes, body.chest_axes, body.head_axes):
        assert (axes * np.stack([forward, left, up], -1)).sum(-2).min() > 0.98
    assert (body.toes - body.heels)[..., 1].max() < -100, "feet point forward"
    np.testing.assert_allclose(body.hands[..., 2], body.joints[:, [13, 16], 2], atol=25)
    assert (body.hands[:, 0, 0] > body.joints[:, 13, 0] + 100).all()
    assert (body.thumbs - body.joints[:, [13, 16]] @ np.eye(3))[..., 1].max() < -50, "thumbs forward"
    np.testing.assert_allclose(lowest(body, person), 0, atol=1e-9)
    np.testing.assert_allclose(body.joints[:, 0, :2], 0, atol=1e-9)
    assert (body.seat == 0).all()
    standing = person.thigh + person.shin + person.loin + person.rib + person.neck + person.skull
    assert (body.joints[:, 10, 2] > standing).all() and (body.joints[:, 10, 2] < standing + 100).all()


def test_a_seat_taken(person: anatomy.Person) -> None:
    """Thighs forward and shins down from the second half on: the hips sink by a thigh, the feet stay flat."""
    bend = np.repeat([0.0, 90.0], 4)
    angles = {"LeftUpLeg_x": -bend, "RightUpLeg_x": -bend, "LeftLeg_x": bend, "RightLeg_x": bend}
    # The file's person goes down too; how far does not matter to feet that stay on the floor.
    body = posed(person, 8, Hips_py=bvh_files.HIP_HEIGHT - 42 * np.sin(np.radians(bend)), **angles)
    np.testing.assert_allclose(body.joints[0, 0, 2] - body.joints[4, 0, 2], person.thigh, atol=1e-6)
    thighs = body.joints[4:, [2, 5]] - body.joints[4:, [1, 4]]
    np.testing.assert_allclose(thighs / person.thigh, np.broadcast_to([0, -1, 0], thighs.shape), atol=1e-9)
    np.testing.assert_allclose((body.toes - body.heels)[4:], (body.toes - body.heels)[:4], atol=1e-6)
    np.testing.assert_allclose(lowest(body, person), 0, atol=1e-9)


def test_the_unit_does_not_matter(person: anatomy.Person) -> None:
    placed = upright(bvh_files.moving(JOINTS, 10))
    bodies = [
        retarget.body(retarget.moves(Placed(placed.position * unit, placed.rotation), ROLES), person)
        for unit in (1.0, 0.393700787)
    ]
    for one, other in zip(*bodies, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


def test_how_a_joints_own_axes_lie_does_not_matter(person: anatomy.Person) -> None:
    """The same movement of a skeleton that rests in another pose: every joint's axes turned by a constant."""
    placed = upright(bvh_files.moving(JOINTS, 10))
    turns = np.linalg.qr(np.random.default_rng(0).normal(size=(len(JOINTS), 3, 3)))[0]
    turns[np.linalg.det(turns) < 0] *= -1
    bodies = [
        retarget.body(retarget.moves(Placed(placed.position, rotation), ROLES), person)
        for rotation in (placed.rotation, placed.rotation @ turns)
    ]
    for one, other in zip(*bodies, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)


def test_the_head_turns_as_the_files(person: anatomy.Person) -> None:
    look = np.array([-40.0, -20.0, 0.0, 20.0, 40.0])
    ahead = posed(person, 5, Head_y=look).head_axes[..., 0]
    bearing = np.degrees(np.arctan2(ahead[:, 0], -ahead[:, 1]))
    np.testing.assert_allclose(bearing, look, atol=2)


def test_hands_bend_at_the_wrist(person: anatomy.Person) -> None:
    bend = np.array([-50.0, 0.0, 50.0])
    body = posed(person, 3, LeftHand_z=bend)
    pointing = body.hands[:, 0] - body.joints[:, 13]
    angle = np.degrees(np.arctan2(pointing[:, 2], pointing[:, 0]))
    np.testing.assert_allclose(angle, bend, atol=5)
    np.testing.assert_allclose(body.hands[:, 1], body.hands[:1, 1].repeat(3, 0), atol=1e-6)


def test_a_jump_leaves_the_floor_and_a_lower_floor_is_none(person: anatomy.Person) -> None:
    height = np.full(41, bvh_files.HIP_HEIGHT)
    height[20] += 50
    body = posed(person, 41, Hips_py=height)
    air = lowest(body, person)
    leg_and_back = 42 + 41 + np.hypot(31, 1) + 22  # of the file's person: Hip to Spine1 to Neck
    expected = 50 * (person.thigh + person.shin + person.loin + person.rib) / leg_and_back
    np.testing.assert_allclose(air[20], expected, rtol=1e-9)
    np.testing.assert_allclose(np.delete(air, 20), 0, atol=1e-9)
    # Where the file's floor is does not matter.
    lower = posed(person, 41, Hips_py=height - 300)
    np.testing.assert_allclose(lower.joints, body.joints, atol=1e-8)


def test_lying_is_above_the_floor(person: anatomy.Person) -> None:
    body = posed(person, 4, Hips_x=-90, Hips_py=12)
    assert np.ptp(body.joints[..., 2], axis=1).max() < 300
    np.testing.assert_allclose(lowest(body, person), 0, atol=1e-9)


def test_heading_turns_about_the_vertical(person: anatomy.Person) -> None:
    values = bvh_files.moving(JOINTS, 12)
    plain, turned = (
        retarget.body(retarget.moves(upright(values, heading), ROLES), person) for heading in (0.0, 90.0)
    )
    centred = [body.joints - body.joints[:1, :1] * [1, 1, 0] for body in (plain, turned)]
    np.testing.assert_allclose(centred[1][..., 0], -centred[0][..., 1], atol=1e-8)
    np.testing.assert_allclose(centred[1][..., 1], centred[0][..., 0], atol=1e-8)
    np.testing.assert_allclose(centred[1][..., 2], centred[0][..., 2], atol=1e-8)


@pytest.mark.parametrize("up", [1, 2])
def test_the_vertical_is_found(up: int) -> None:
    placed = bvh.forward_kinematics(JOINTS, bvh_files.moving(JOINTS, 12))
    stored = placed if up == 1 else retarget.upright(placed, 1, 0.0)
    assert retarget.up_axis(stored, ROLES) == up
    one, other = retarget.upright(placed, 1, 20.0), retarget.upright(stored, up, 20.0)
    np.testing.assert_allclose(one.position, other.position, atol=1e-9)
    np.testing.assert_allclose(one.rotation, other.rotation, atol=1e-12)


def test_a_short_way_is_centred() -> None:
    way = np.array([[5000.0, 300.0], [5600.0, 900.0], [6000.0, 500.0]])
    np.testing.assert_allclose(retarget.within_reach(way), way - [5500, 600])


def test_a_long_way_stays_at_the_edge_and_turns_back_at_once() -> None:
    out = np.linspace(0, 20_000, 201)
    way = np.stack([np.concatenate([out, out[::-1]]), np.zeros(402)], axis=-1)
    near = retarget.within_reach(way)
    assert np.abs(near).max() <= retarget.REACH_MM + 1e-9
    np.testing.assert_allclose(near[150:201, 0], retarget.REACH_MM)
    steps, taken = np.diff(way[:, 0]), np.diff(near[:, 0])
    assert (np.abs(taken) <= np.abs(steps) + 1e-9).all()
    np.testing.assert_allclose(taken[201:220], steps[201:220], atol=1e-6)


def test_the_person_stays_near_the_middle(person: anatomy.Person) -> None:
    body = posed(person, 30, Hips_px=np.linspace(0, 3000, 30), Hips_pz=np.linspace(0, -4000, 30))
    assert np.linalg.norm(body.joints[:, 0, :2], axis=-1).max() <= retarget.REACH_MM + 1e-6


@pytest.mark.parametrize(
    ("joint", "offset"),
    [("LeftLeg", (0, 0, 0)), ("Head", (0, 0, 0)), ("LeftHand", (0, 0, 0)), ("RightHand", (0, 0, 0))],
)
def test_a_bone_without_direction(joint: str, offset: tuple[float, ...]) -> None:
    joints = tuple(j._replace(offset=offset) if j.name == joint else j for j in JOINTS)
    placed = retarget.upright(bvh.forward_kinematics(joints, bvh_files.poses(JOINTS, 2)), 1, 0.0)
    with refused("without direction", "--joint_map"):
        retarget.moves(placed, ROLES)
