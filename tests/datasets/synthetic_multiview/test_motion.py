"""Motion: exact skeletons, joint limits, smoothness, balance, and actions that can be told apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.synthetic_multiview import anatomy, motion
from mcss_jax import skeleton

ALL = range(len(motion.ACTIONS))
DRAWS = np.random.default_rng(0).uniform(size=(40, motion.NUM_MOTION_DRAWS))


@pytest.fixture(scope="module")
def person() -> anatomy.Person:
    return anatomy.person(np.asarray(anatomy.person_draws(0, 3), np.float64), np)


def canonical(joints: np.ndarray) -> np.ndarray:
    """Root-relative, turned so that the hips lie along x: the pose without its heading, [..., 17, 3]."""
    joints = joints - joints[..., :1, :]
    across = joints[..., 4, :] - joints[..., 1, :]
    angle = np.arctan2(across[..., 1], across[..., 0])
    c, s = np.cos(angle)[..., None], np.sin(angle)[..., None]
    x, y, z = joints[..., 0], joints[..., 1], joints[..., 2]
    return np.stack([c * x + s * y, c * y - s * x, z], axis=-1)


def bend(joints: np.ndarray, upper: int, middle: int, lower: int) -> np.ndarray:
    """Angle in degrees between two bones that meet in `middle`: 0 is straight."""
    first, second = (
        joints[..., middle, :] - joints[..., upper, :],
        joints[..., lower, :] - joints[..., middle, :],
    )
    cosine = (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("action", ALL)
def test_skeleton_is_rigid_limited_smooth_and_grounded(action, person):
    time = np.arange(0, 8, 1 / 50)
    for draws in DRAWS[:8]:
        body = motion.pose(action, draws, time, person, np)
        joints = body.joints
        assert joints.shape == (len(time), 17, 3) and np.isfinite(joints).all()
        np.testing.assert_array_equal(joints[:, 0], 0.5 * (joints[:, 1] + joints[:, 4]))
        for parent, child in skeleton.BONES:
            lengths = np.linalg.norm(joints[:, child] - joints[:, parent], axis=-1)
            np.testing.assert_allclose(lengths, lengths[0], rtol=1e-12)
        for hip, knee, foot in ((1, 2, 3), (4, 5, 6)):
            assert 0 <= bend(joints, hip, knee, foot).min() and bend(joints, hip, knee, foot).max() < 140
            # Knees bend backwards only: thigh x shin points to the person's left, never to the right.
            thigh, shin = joints[:, knee] - joints[:, hip], joints[:, foot] - joints[:, knee]
            left = joints[:, 4] - joints[:, 1]
            assert (np.cross(thigh, shin) * left).sum(-1).min() > 0
        for shoulder, elbow, wrist in ((11, 12, 13), (14, 15, 16)):
            assert bend(joints, shoulder, elbow, wrist).max() < 150
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 50
        assert speed.max() < 9000, "no joint of a person moves faster than 9 m/s here"
        lowest = np.minimum(body.heels[..., 2] - 46, body.toes[..., 2] - 38).min(-1)
        np.testing.assert_allclose(lowest, 0, atol=1e-9)
        assert np.abs(joints[..., :2]).max() < 3000


def test_angles_stay_within_limits():
    time = np.linspace(0, 10, 201)
    for action in ALL:
        for draws in DRAWS[:32]:
            a = motion.angles(action, draws, time, np)
            for flexion, highest in (("knee", 125), ("elbow", 150)):
                for side in "mo":
                    angle = getattr(a, f"{flexion}_{side}")
                    assert angle.min() >= 0 and angle.max() <= highest, (motion.ACTIONS[action], flexion)
            for side in "mo":
                assert getattr(a, f"hip_{side}").min() >= -40 and getattr(a, f"hip_{side}").max() <= 125
                assert getattr(a, f"lift_{side}").max() <= 190
            assert np.abs(a.look).max() <= 70 and np.abs(a.twist).max() <= 50


@pytest.mark.parametrize("action", ALL)
def test_side_draw_mirrors_the_pose_exactly(action, person):
    """The other value of the side draw gives the mirrored person, so left and right are balanced by
    construction."""
    draws = DRAWS[action].copy()
    draws[1], draws[5], draws[6], time = 0.0, 0.5, 0.5, np.linspace(0, 4, 9)
    left, right = (
        motion.pose(action, np.concatenate([[side], draws[1:]]), time, person, np) for side in (0.1, 0.9)
    )
    flip = np.array([1.0, -1.0, 1.0])
    mirrored = (right.joints * flip)[:, list(skeleton.MIRROR)]
    np.testing.assert_allclose(left.joints, mirrored, atol=1e-6)
    np.testing.assert_allclose(left.head_axes[..., 0], right.head_axes[..., 0] * flip, atol=1e-9)


def test_sides_and_headings_are_balanced(person):
    draws = np.asarray(jax.vmap(lambda i: motion.motion_draws(0, i))(np.arange(400)), np.float64)
    assert abs((draws[:, 0] < 0.5).mean() - 0.5) < 0.08
    quarter = np.histogram(draws[:, 1], 4, (0, 1))[0]
    assert quarter.min() > 70


def test_actions_are_told_apart_by_nearest_class_mean(person):
    time = np.array([0.0, 3.1, 6.7])
    poses = np.stack([[canonical(motion.pose(a, d, time, person, np).joints) for d in DRAWS] for a in ALL])
    # Fold the mirror images onto each other: the main side is a draw.
    mirrored = (poses * np.array([-1.0, 1.0, 1.0]))[..., list(skeleton.MIRROR), :]
    poses = np.where((DRAWS[:, 0] < 0.5)[None, :, None, None, None], poses, mirrored).reshape(
        len(ALL), -1, 51
    )
    means = poses[:, ::2].mean(1)
    away = np.linalg.norm(poses[:, 1::2, None] - means[None, None], axis=-1)
    right = (away.argmin(-1) == np.arange(len(ALL))[:, None]).mean(1)
    assert right.mean() > 0.8 and right.min() > 0.5, dict(zip(motion.ACTIONS, right, strict=True))
    within = np.linalg.norm(
        (poses - poses.mean(1, keepdims=True)).reshape(len(ALL), -1, 17, 3), axis=-1
    ).mean((1, 2))
    assert within.min() > 25, "every action varies, in millimetres per joint"


def test_numpy_and_jax_agree(person):
    as_jax = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), person)
    time = np.linspace(0, 6, 7)
    posed = jax.jit(jax.vmap(lambda a, d, t: motion.pose(a, d, t, as_jax, jnp), (0, 0, None)))
    ours = posed(np.arange(8), DRAWS[:8].astype(np.float32), time.astype(np.float32))
    for action in ALL:
        exact = motion.pose(action, DRAWS[action].astype(np.float32).astype(np.float64), time, person, np)
        for field in exact._fields:
            np.testing.assert_allclose(
                getattr(ours, field)[action], getattr(exact, field), atol=0.1, err_msg=field
            )


def test_numpy_geometry_repeats(person):
    one, two = (motion.pose(0, DRAWS[0], np.linspace(0, 1, 5), person, np) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_phoning_hand_is_at_the_ear_and_sitters_sit(person):
    time = np.linspace(0, 5, 6)
    for draws in DRAWS[:16]:
        joints = motion.pose(motion.ACTIONS.index("phoning"), draws, time, person, np).joints
        hand = 13 if draws[0] < 0.5 else 16
        assert np.linalg.norm(joints[:, hand] - joints[:, 9], axis=-1).max() < 330
        sitting = motion.pose(motion.ACTIONS.index("sitting"), draws, time, person, np)
        assert sitting.joints[:, 0, 2].max() < 0.75 * (person.thigh + person.shin)
        assert (sitting.seat[:, 3] > 0).all()
