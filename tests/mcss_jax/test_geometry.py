"""Cameras against published vectors (docs/data_formats.md), degenerate rotations, Procrustes against SVD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcss_jax import geometry

# Camera numbers of one published calibration (docs/data_formats.md#human36m-cameras); the points are made up.
ANGLES = (-1.38382776045614, -3.16734304390158, 0.413636308164621)
CENTRE = np.array([1841.10702774543, 4955.28462344526, 1563.4453958977])
INTRINSICS = np.array(
    [[1145.04940458804, 0, 512.541504956548], [0, 1143.78109572365, 515.4514869776], [0, 0, 1]]
)
DISTORTION = np.array(
    [-0.207098910824901, 0.247775183068982, -0.00307515035078854, -0.00142447157470321, -0.000975698859470499]
)


def turn(axis: int, angle: float) -> np.ndarray:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[i, i] = rotation[j, j] = np.cos(angle)
    rotation[j, i] = np.sin(angle)
    rotation[i, j] = -np.sin(angle)
    return rotation


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def is_rotation(r: np.ndarray, tolerance: float = 2e-6) -> bool:
    r = np.asarray(r, np.float64)
    identity = np.abs(np.swapaxes(r, -1, -2) @ r - np.eye(3)).max()
    return bool(identity < tolerance and np.abs(np.linalg.det(r) - 1).max() < tolerance)


def slow_procrustes(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """One pose, float64, by SVD: aligned points, scale, rotation."""
    p, g = pred - pred.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(g.T @ p)
    sign = np.sign(np.linalg.det(u @ vt))
    s[2] *= sign
    rotation = u @ np.diag([1, 1, sign]) @ vt
    scale = s.sum() / (p**2).sum()
    return scale * p @ rotation.T + target.mean(0), scale, rotation


class TestCamera:
    rotation = turn(0, ANGLES[0]) @ turn(1, ANGLES[1]) @ turn(2, ANGLES[2])
    extrinsics = np.concatenate([rotation, (-rotation @ CENTRE)[:, None]], axis=1)
    world = np.array([[0.0, 0.0, 1000.0], [500.0, -300.0, 1500.0]])
    camera = np.array(
        [
            [-320.3032367668, -435.2657107562, 5288.6615602326],
            [-885.6528404267, -954.7269679429, 5265.4273629474],
        ]
    )
    pixels = np.array([[443.3167689867, 421.4837935469], [322.0541910116, 310.3089983083]])

    def test_published_vectors(self):
        in_camera = geometry.to_camera(self.world, self.extrinsics)
        assert in_camera.dtype == np.float64
        np.testing.assert_allclose(in_camera, self.camera, atol=1e-7)
        np.testing.assert_allclose(
            geometry.project(in_camera, INTRINSICS, DISTORTION), self.pixels, atol=1e-8
        )

    def test_jax_arrays_of_any_batch(self):
        world = jnp.asarray(np.broadcast_to(self.world, (3, 2, 2, 3)), jnp.float32)
        extrinsics, k, d = (jnp.asarray(a, jnp.float32) for a in (self.extrinsics, INTRINSICS, DISTORTION))
        camera = jax.jit(geometry.to_camera)(world, extrinsics)
        np.testing.assert_allclose(camera[2, 1], self.camera, atol=2e-3)
        np.testing.assert_allclose(geometry.project(camera, k, d)[0, 1], self.pixels, atol=2e-3)

    def test_from_camera_inverts(self):
        back = geometry.from_camera(geometry.to_camera(self.world, self.extrinsics), self.extrinsics)
        np.testing.assert_allclose(back, self.world, atol=1e-9)

    def test_without_distortion_it_is_a_pinhole(self):
        pixels = geometry.project(self.camera, INTRINSICS, np.zeros(5))
        expected = self.camera @ INTRINSICS.T
        np.testing.assert_allclose(pixels, expected[:, :2] / expected[:, 2:], atol=1e-9)


def angle_of(rotation) -> float:
    """By how much a rotation turns, radians; from its skew part, which is accurate at small angles."""
    r = np.asarray(rotation, np.float64)
    axial = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    return float(np.arctan2(np.linalg.norm(axial) / 2, (np.trace(r) - 1) / 2))


class TestLookThrough:
    def test_takes_the_optical_axis_to_the_ray_without_roll(self):
        box = np.array([700.0, 100.0, 900.0, 500.0])
        rotation = np.asarray(geometry.look_through(INTRINSICS, box))
        ray = np.linalg.solve(INTRINSICS, [800.0, 300.0, 1.0])
        ray /= np.linalg.norm(ray)
        assert is_rotation(rotation)
        np.testing.assert_allclose(rotation @ [0, 0, 1], ray, atol=1e-6)
        # The shortest way: its angle is the angle between axis and ray.
        assert angle_of(rotation) == pytest.approx(np.arccos(ray[2]), abs=1e-6)

    def test_at_300_px_and_f_1145_it_is_15_degrees(self):
        k = np.array([[1145.0, 0, 500], [0, 1145, 500], [0, 0, 1]])
        rotation = geometry.look_through(k, np.array([750.0, 450.0, 850.0, 550.0]))
        assert np.degrees(angle_of(rotation)) == pytest.approx(np.degrees(np.arctan(300 / 1145)), abs=1e-3)

    def test_a_box_at_the_principal_point_changes_nothing(self):
        box = np.array([412.541504956548, 415.4514869776, 612.541504956548, 615.4514869776])
        np.testing.assert_allclose(geometry.look_through(INTRINSICS, box), np.eye(3), atol=1e-7)

    def test_missing_numbers_give_the_identity(self):
        box = np.array([700.0, 100.0, 900.0, 500.0])
        k = np.stack([np.full((3, 3), np.nan), np.zeros((3, 3)), INTRINSICS, INTRINSICS])
        boxes = np.stack([box, box, np.full(4, np.nan), box])
        rotations = np.asarray(geometry.look_through(k, boxes))
        np.testing.assert_array_equal(rotations[:3], np.broadcast_to(np.eye(3), (3, 3, 3)))
        np.testing.assert_allclose(rotations[3], geometry.look_through(INTRINSICS, box), atol=1e-7)


class TestRotation6D:
    def test_brings_rotations_back(self):
        rng = np.random.default_rng(0)
        rotations = np.stack([random_rotation(rng) for _ in range(20)]).reshape(4, 5, 3, 3)
        columns = np.concatenate([rotations[..., 0], rotations[..., 1]], axis=-1) * 3.7
        np.testing.assert_allclose(geometry.rotation_from_6d(columns), rotations, atol=2e-6)

    DEGENERATE = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 2, 3],
            [1, 2, 3, 0, 0, 0],
            [1, 2, 3, 1, 2, 3],
            [1, 2, 3, -2, -4, -6],
            [1, 0, 0, 1, 0, 1e-7],
            [0, 0, 1, 0, 1e-3, 1],
            [0, 0, 0, 1, 0, 0],
            [1e-9, 0, 0, 0, 1e-9, 0],
            [1e12, 1, 0, 1e12, 2, 5],
        ],
        np.float32,
    )

    def test_degenerate_columns_give_rotations_and_finite_gradients(self):
        assert is_rotation(geometry.rotation_from_6d(self.DEGENERATE), 5e-6)
        weights = np.arange(9.0).reshape(1, 3, 3)
        gradient = jax.grad(lambda c: jnp.sum(geometry.rotation_from_6d(c) * weights))(
            jnp.asarray(self.DEGENERATE)
        )
        assert np.isfinite(gradient).all()


def ordinary(rng: np.random.Generator, n: int) -> np.ndarray:
    """About a metre wide and long, no plane."""
    return rng.normal(size=(n, 17, 3)) * [150, 120, 400]


BATCH = 24  # one size for all, because each size is compiled anew


def filled(poses: np.ndarray) -> np.ndarray:
    return np.concatenate([poses, np.repeat(poses[-1:], BATCH - len(poses), axis=0)]).astype(np.float32)


@jax.jit
def gradients(pred, target, weights):
    weights = jnp.broadcast_to(weights, pred.shape)
    return jax.grad(lambda p, g: jnp.sum(geometry.procrustes_residual(p, g) * weights), argnums=(0, 1))(
        pred, target
    )


class TestProcrustes:
    @pytest.mark.parametrize("noise", [0.01, 10, 100, 300])
    def test_against_float64_svd(self, noise):
        rng = np.random.default_rng(3)
        target = ordinary(rng, BATCH)
        turns = np.stack([random_rotation(rng) for _ in target])
        pred = (target + rng.normal(size=target.shape) * noise) @ np.swapaxes(turns, 1, 2)
        pred = pred * rng.uniform(0.3, 3, size=(BATCH, 1, 1)) + 200
        pred, target = pred.astype(np.float32), target.astype(np.float32)
        aligned = target + np.asarray(geometry.procrustes_residual(pred, target))
        similarity = geometry.procrustes(pred, target)
        for i in range(BATCH):
            expected, scale, rotation = slow_procrustes(
                pred[i].astype(np.float64), target[i].astype(np.float64)
            )
            np.testing.assert_allclose(aligned[i], expected, atol=1e-3)
            np.testing.assert_allclose(similarity.scale[i], scale, rtol=2e-6)
            np.testing.assert_allclose(similarity.rotation[i], rotation, atol=2e-5)
        moved = (
            np.einsum("nij,nkj->nki", similarity.rotation, pred) * np.asarray(similarity.scale)[:, None, None]
        )
        np.testing.assert_allclose(moved + np.asarray(similarity.translation)[:, None], aligned, atol=5e-3)

    def degenerate(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        pose = ordinary(np.random.default_rng(4), 1)[0]
        line = np.arange(17.0)[:, None] * [1, 2, -3]
        plane = pose * [1, 1, 0]
        round_ = pose.copy()
        round_ -= round_.mean(0)
        u, _, vt = np.linalg.svd(round_, full_matrices=False)
        round_ = (
            u @ vt * 500
        )  # equal singular values: its mirror image has three best rotations' worth of ties
        zero = np.zeros((17, 3))
        return {
            "plane on plane": (plane @ turn(0, 1.0).T, plane),
            "plane on pose": (plane, pose),
            "plane mirrored": (plane * [-1, 1, 1], plane),
            "line on line": (line @ random_rotation(np.random.default_rng(5)).T, line),
            "line reversed": (-line, line),
            "line on pose": (line, pose),
            "pose on line": (pose, line),
            "mirror": (pose * [-1, 1, 1], pose),
            "point reflection": (-pose, pose),
            "round": (round_ @ turn(2, 2.0).T, round_),
            "round mirrored": (round_ * [-1, 1, 1], round_),
            "half turn": (pose * [-1, -1, 1], pose),
            "zero on pose": (zero, pose),
            "pose on zero": (pose, zero),
            "zero on zero": (zero, zero),
            "coincident on pose": (zero + [100, 200, 5000], pose),
            "pose on coincident": (pose, zero + [100, 200, 5000]),
            "two points": (np.where(np.arange(17)[:, None] < 1, [1.0, 0, 0], zero), pose),
            "tiny": (pose * 1e-25, pose * 1e-25),
            "huge": (pose * 1e30, pose * 1e30),
            "largest": (np.clip(pose * 1e38, -3e38, 3e38), pose),
            "far": (pose + 1e6, pose),
        }

    def test_degenerate_poses_are_no_worse_than_svd(self):
        cases = self.degenerate()
        pred, target = (filled(np.stack([pair[i] for pair in cases.values()])) for i in (0, 1))
        similarity = geometry.procrustes(pred, target)
        residual = np.asarray(geometry.procrustes_residual(pred, target))
        assert is_rotation(similarity.rotation, 5e-6)
        within = [i for i, name in enumerate(cases) if name != "largest"]  # its extent is beyond float32
        assert np.isfinite(np.asarray(similarity.scale)[within]).all()
        assert np.isfinite(np.asarray(similarity.translation)[within]).all()
        for i, name in enumerate(cases):
            p, g = pred[i].astype(np.float64), target[i].astype(np.float64)
            size = np.linalg.norm(g - g.mean(0))
            best = np.linalg.norm(slow_procrustes(p, g)[0] - g) if np.ptp(p, 0).any() else size
            assert np.linalg.norm(residual[i].astype(np.float64)) <= best + 2e-6 * size, name

    def test_gradients_are_finite_at_degenerate_poses(self):
        cases = {k: v for k, v in self.degenerate().items() if k not in ("huge", "largest")}
        pred, target = (np.stack([pair[i] for pair in cases.values()]) for i in (0, 1))
        weights = np.random.default_rng(8).normal(size=(17, 3))
        for gradient in gradients(filled(pred), filled(target), weights):
            bad = [
                name
                for name, row in zip(cases, gradient[: len(cases)], strict=True)
                if not np.isfinite(row).all()
            ]
            assert not bad

    def test_gradient_against_finite_differences_of_float64_svd(self):
        rng = np.random.default_rng(6)
        target = ordinary(rng, 1)[0] / 1000
        pred = target @ random_rotation(rng).T + rng.normal(size=(17, 3)) * 0.1
        weights = rng.normal(size=(17, 3))
        gradient = np.asarray(gradients(filled(pred[None]), filled(target[None]), weights)[0][0])
        for joint, axis in [(0, 0), (5, 1), (16, 2)]:
            step = np.zeros((17, 3))
            step[joint, axis] = 1e-6
            up, down = (np.sum(slow_procrustes(pred + s, target)[0] * weights) for s in (step, -step))
            assert gradient[joint, axis] == pytest.approx((up - down) / 2e-6, rel=1e-3, abs=1e-3)

    def test_shapes(self):
        shape = jax.eval_shape(geometry.procrustes, jnp.zeros((2, 3, 17, 3)), jnp.zeros((2, 3, 17, 3)))
        assert (shape.scale.shape, shape.rotation.shape, shape.translation.shape) == (
            (2, 3),
            (2, 3, 3, 3),
            (2, 3, 3),
        )
        assert jax.eval_shape(geometry.align, jnp.zeros((17, 3)), jnp.zeros((17, 3))).shape == (17, 3)

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
    def test_undoes_any_similarity(self, seed, scale, shift):
        rng = np.random.default_rng(seed)
        target = ordinary(rng, 1)[0]
        pred = scale * (target @ random_rotation(rng).T) + scale * shift
        aligned = geometry.align(filled(pred[None]), filled(target[None]))[0]
        np.testing.assert_allclose(aligned, target.astype(np.float32), atol=4e-3)
