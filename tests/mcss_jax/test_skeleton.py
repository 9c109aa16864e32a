"""The canonical pose: exact to undo, the same from every camera, defined for every input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import skeleton
from mcss_jax.skeleton import JOINTS, LEFT, LHIP, MIRROR, PARENTS, RHIP, RIGHT, ROOT, THORAX

SEEDS = st.integers(0, 2**31 - 1)
canonicalise, mirror = jax.jit(skeleton.canonicalise), jax.jit(skeleton.mirror)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else q[:, [1, 0, 2]]


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """Joints in millimetres, far from degenerate: hips 300 mm apart, a spine of 500 mm, the rest anywhere."""
    pose = rng.normal(0, 300, (17, 3))
    pose[ROOT], pose[RHIP], pose[LHIP], pose[THORAX] = 0, (-150, 0, 0), (150, 0, 0), (20, 500, 30)
    return pose


slope_of_everything = jax.jit(
    jax.grad(lambda pose: sum(jnp.sum(jnp.sin(x)) for x in skeleton.canonicalise(pose)))
)


def degenerate_poses() -> dict[str, np.ndarray]:
    base = random_pose(np.random.default_rng(0))
    one_point, no_hips, along, thin, reversed_spine = (base.copy() for _ in range(5))
    one_point[:] = 7.0
    no_hips[[RHIP, LHIP]] = base[ROOT]
    along[THORAX] = (400, 0, 0)  # a spine along the hips
    thin[THORAX] = (400, 1e-5, 0)
    reversed_spine[THORAX] = (0, -500, 0)
    collapsed = np.zeros((17, 3))
    return {
        "one point": one_point,
        "no hips": no_hips,
        "spine along the hips": along,
        "spine nearly along the hips": thin,
        "upside down": reversed_spine,
        "zeros": collapsed,
    }


def test_the_seventeen_joints() -> None:
    assert len(JOINTS) == len(set(JOINTS)) == len(PARENTS) == 17
    assert PARENTS[ROOT] == -1
    assert all(0 <= parent < joint for joint, parent in enumerate(PARENTS) if joint)
    assert len(skeleton.BONES) == 16
    assert {child for _, child in skeleton.BONES} == set(range(1, 17))


def test_left_and_right_are_the_same_limbs_on_either_side() -> None:
    assert {JOINTS[j] for j in LEFT} == {name for name in JOINTS if name.startswith("L")}
    assert {JOINTS[j] for j in RIGHT} == {name for name in JOINTS if name.startswith("R")}
    for left, right in zip(LEFT, RIGHT, strict=True):
        assert JOINTS[left][1:] == JOINTS[right][1:]
        assert MIRROR[left] == right and MIRROR[right] == left
        assert MIRROR[PARENTS[left]] == PARENTS[right]
    assert [j for j in range(17) if MIRROR[j] == j] == [j for j in range(17) if JOINTS[j][0] not in "LR"]


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_restore_undoes_canonicalise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = (random_pose(rng) @ random_rotation(rng).T + rng.normal(0, 3000, 3)).astype(np.float32)
    canonical, rotation = canonicalise(pose)
    np.testing.assert_allclose(skeleton.restore(canonical, rotation), pose - pose[:1], atol=2e-3)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-6)
    assert np.linalg.det(np.asarray(rotation, np.float64)) == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_every_camera_sees_the_same_canonical_pose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = random_pose(rng)
    turns = [random_rotation(rng) for _ in range(4)]
    seen = np.stack([pose @ turn.T + rng.normal(0, 3000, 3) for turn in turns]).astype(np.float32)
    canonical, rotation = canonicalise(seen)
    np.testing.assert_allclose(canonical, np.broadcast_to(canonical[0], (4, 17, 3)), atol=5e-3)
    # What differs between the cameras is in the rotation, and all of it.
    for view in range(1, 4):
        np.testing.assert_allclose(rotation[view], turns[view] @ turns[0].T @ rotation[0], atol=1e-5)


def test_the_body_frame_of_a_standing_person() -> None:
    """Facing a camera (x right, y down, z forward), their left is at its right, up is -y, the chest at -z."""
    pose = np.zeros((17, 3), np.float32)
    pose[LHIP], pose[RHIP], pose[THORAX] = (130, 0, 0), (-130, 0, 0), (0, -500, 0)
    expected = np.asarray([[1, 0, 0], [0, -1, 0], [0, 0, -1]]).T
    np.testing.assert_allclose(skeleton.body_frame(jnp.asarray(pose)), expected, atol=1e-6)
    canonical, _ = canonicalise(pose)
    np.testing.assert_allclose(canonical[THORAX], (0, 500, 0), atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_mirrored_picture_has_the_mirrored_canonical_pose(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pose = (random_pose(rng) @ random_rotation(rng).T + (0, 0, 4000)).astype(np.float32)
    of_mirrored, turned = canonicalise(mirror(pose))
    canonical, rotation = canonicalise(pose)
    np.testing.assert_allclose(of_mirrored, mirror(canonical), atol=5e-3)
    flip = np.diag([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(turned, flip @ rotation @ flip, atol=1e-5)
    np.testing.assert_array_equal(mirror(mirror(pose)), pose)


@pytest.mark.parametrize("name", degenerate_poses())
def test_degenerate_poses_have_a_frame_and_finite_gradients(name: str) -> None:
    pose = jnp.asarray(degenerate_poses()[name], jnp.float32)
    canonical, rotation = canonicalise(pose)
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-5)
    assert np.linalg.det(np.asarray(rotation)) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(skeleton.restore(canonical, rotation), pose - pose[:1], atol=1e-3)
    assert np.isfinite(slope_of_everything(pose)).all()


def test_gradient_of_the_canonical_pose() -> None:
    rng = np.random.default_rng(3)
    pose = jnp.asarray(random_pose(rng) / 300, jnp.float32)
    weight = jnp.asarray(rng.normal(size=(17, 3)), jnp.float32)
    direction = jnp.asarray(rng.normal(size=(17, 3)), jnp.float32)
    value = jax.jit(lambda p: jnp.sum(weight * skeleton.canonicalise(p)[0]))
    numeric = (value(pose + 1e-2 * direction) - value(pose - 1e-2 * direction)) / 2e-2
    assert jnp.vdot(jax.jit(jax.grad(value))(pose), direction) == pytest.approx(
        float(numeric), rel=5e-3, abs=5e-3
    )
