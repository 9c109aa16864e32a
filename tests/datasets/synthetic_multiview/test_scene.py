"""Cameras, rooms and crops."""

import jax
import jax.numpy as jnp
import numpy as np

from datasets.synthetic_multiview import scene


def rig_of(number: int) -> scene.Camera:
    return scene.rig(np.asarray(scene.rig_draws(0, number, 4), np.float64), np)


def project(points: np.ndarray, camera: scene.Camera) -> np.ndarray:
    at = scene.to_camera(points, camera)
    image = at @ camera.intrinsics.T
    return image[:, :2] / image[:, 2:]


def single(rig: scene.Camera, view: int) -> scene.Camera:
    return scene.Camera(*(field[view] for field in rig))


def test_cameras_stand_around_the_room_upright_and_look_at_its_middle():
    for number in range(10):
        rig = rig_of(number)
        for view in range(4):
            rotation, translation, _ = camera = single(rig, view)
            np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
            assert np.linalg.det(rotation) > 0
            eye = -rotation.T @ translation
            assert 1300 <= eye[2] <= 1800 and 3500 <= np.hypot(*eye[:2]) <= 5500
            assert np.abs(eye[:2]).max() < scene.ROOM_HALF
            u, v = project(np.array([[0.0, 0, 900]]), camera)[0]
            assert 350 < u < 650 and 350 < v < 650
            low, high = project(np.array([[0.0, 0, 0], [0, 0, 1700]]), camera)
            assert low[1] > high[1], "up in the world is up in the picture"
            right = project(np.array([-rotation[0] * 0, rotation[0] * 300]), camera)
            assert right[1, 0] > right[0, 0]
        eyes = -np.einsum("vji,vj->vi", rig.rotation, rig.translation)
        bearings = np.sort(np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0])))
        assert np.diff(bearings).min() > 40


def test_box_touches_the_outline_of_a_sphere():
    camera = single(rig_of(0), 1)
    centre, radius = np.array([[200.0, -400, 700]]), np.array([150.0])
    directions = np.random.default_rng(0).normal(size=(20000, 3))
    surface = centre + radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    seen = project(surface, camera)
    x0, y0, x1, y1 = scene.crop_box(centre, radius, camera, 0.0, np)
    assert np.isclose(x1 - x0, y1 - y0)
    extent = np.ptp(seen, axis=0).max()
    assert extent <= x1 - x0 + 1e-9 and np.isclose(x1 - x0, extent, rtol=2e-3)
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], (seen.max(0) + seen.min(0)) / 2, atol=0.2)
    wider = scene.crop_box(centre, radius, camera, 0.25, np)
    assert np.isclose(wider[2] - wider[0], 1.5 * (x1 - x0))


def test_crop_intrinsics_project_into_the_crop():
    camera = single(rig_of(2), 3)
    points, box = np.array([[100.0, 50, 900], [-300, 200, 1500]]), np.array([310.5, 122.25, 690.5, 502.25])
    crop = camera._replace(intrinsics=scene.crop_intrinsics(camera.intrinsics, box, 64, np))
    np.testing.assert_allclose(
        project(points, crop), (project(points, camera) - box[:2]) * 64 / 380, atol=1e-9
    )


def test_rooms_differ_and_their_light_comes_from_above():
    rooms = [scene.room(np.asarray(scene.room_draws(0, i), np.float64), np) for i in range(20)]
    for room in rooms:
        assert np.isclose(np.linalg.norm(room.light), 1) and room.light[2] > 0.5
        for colour in (room.floor, room.floor_second, room.wall, room.wall_second):
            assert colour.min() >= 0 and colour.max() <= 1.2
    assert len({tuple(room.floor) for room in rooms}) == 20


def test_numpy_and_jax_agree():
    draws = scene.rig_draws(0, 5, 4)
    exact = scene.rig(np.asarray(draws, np.float64), np)
    ours = jax.jit(lambda d: scene.rig(d, jnp))(draws)
    for field in exact._fields:
        np.testing.assert_allclose(getattr(ours, field), getattr(exact, field), atol=0.01, rtol=1e-5)
    points, radii = np.random.default_rng(0).uniform(-900, 900, (9, 3)), np.full(9, 60.0)
    theirs = scene.crop_box(points, radii, single(exact, 0), 0.1, np)
    box = scene.crop_box(
        jnp.asarray(points, jnp.float32), jnp.asarray(radii, jnp.float32), single(ours, 0), 0.1, jnp
    )
    np.testing.assert_allclose(box, theirs, atol=0.05)
