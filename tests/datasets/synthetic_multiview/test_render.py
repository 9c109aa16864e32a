"""The renderer against the geometry it draws, and the stream built on it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.synthetic_multiview import anatomy, motion, render, scene, stream
from tests.refusals import refused

SIZE = 48
JOINT_PARTS = {13: ("left_forearm", "left_hand", "left_thumb"), 16: ("right_forearm", "right_hand",
"right_thumb"), 2: ("right_thigh", "right_shin"), 5: ("left_thigh", "left_shin"),
               3: ("right_shin", "right_foot"), 6: ("left_shin", "left_foot"),
               12: ("left_upper_arm", "left_forearm"), 15: ("right_upper_arm", "right_forearm")}  # fmt: skip


def set_up(subject: int, sequence: int, action: int, time: float, view: int):
    draws = (anatomy.person_draws(0, subject), motion.motion_draws(0, sequence))
    draws = [np.asarray(d, np.float64) for d in draws]
    person = anatomy.person(draws[0], np)
    body = motion.pose(action, draws[1], np.float64(time), person, np)
    rig = scene.rig(np.asarray(scene.rig_draws(0, 0, 4), np.float64), np)
    camera = scene.Camera(*(field[view] for field in rig))
    box = scene.crop_box(*anatomy.outline(anatomy.flesh(body, person, np), np), camera, 0.08, np)
    camera = camera._replace(intrinsics=scene.crop_intrinsics(camera.intrinsics, box, SIZE, np))
    room = scene.room(np.asarray(scene.room_draws(0, subject), np.float64), np)
    return jax.tree.map(lambda x: np.asarray(x, np.float32), (body, person, room, camera))


drawn = jax.jit(jax.vmap(partial(render.render, size=SIZE)))


def stacked(scenes):
    return jax.tree.map(lambda *fields: np.stack(fields), *scenes)


@pytest.fixture(scope="module")
def scenes():
    return [set_up(s, 5 * a + s, a, 0.9 * a + s, (a + s) % 4) for a in range(8) for s in range(2)]


@pytest.fixture(scope="module")
def rendered(scenes):
    images, parts = drawn(*stacked(scenes))
    return np.asarray(images), np.asarray(parts)


def test_pictures_hold_a_person_that_fills_the_crop(rendered):
    images, parts = rendered
    assert images.dtype == np.uint8 and images.shape == (16, SIZE, SIZE, 3)
    for image, part in zip(images, parts, strict=True):
        body = (part >= 0) & (part != anatomy.PARTS.index("seat"))
        rows, columns = np.nonzero(body)
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 0.76 * SIZE < extent < 0.90 * SIZE, "a margin of 8 % on either side"
        assert image.std() > 10


def test_every_joint_projects_onto_the_person_and_mostly_onto_its_own_part(scenes, rendered):
    own = []
    for (body, _, _, camera), part in zip(scenes, rendered[1], strict=True):
        image = scene.to_camera(body.joints, camera) @ camera.intrinsics.T
        pixels = np.floor(image[:, :2] / image[:, 2:]).astype(int)
        seen = part[pixels[:, 1], pixels[:, 0]]
        assert (seen >= 0).mean() > 0.93  # a thin limb may miss the middle of its pixel
        own += [anatomy.PARTS[seen[j]] in parts for j, parts in JOINT_PARTS.items()]
    assert np.mean(own) > 0.7  # the others are hidden behind another part


@jax.jit
def nearest(body, person, room, camera, x, y):
    return render.nearest_solid(render.prepare(body, person, room, camera).solids, x, y)


def test_nearest_solid_is_that_of_spheres_strung_along_the_axes(scenes):
    """Oracle: a rounded cone is the union of the spheres between its ends; take the first root over all of
    them."""
    rng, count = np.random.default_rng(0), 200
    place = np.linspace(0, 1, 400)
    same_part = []
    for body, person, room, camera in scenes[::3]:
        k = camera.intrinsics
        u, v = rng.uniform(0.1 * SIZE, 0.9 * SIZE, (2, count))
        rays = np.stack([(u - k[0, 2]) / k[0, 0], (v - k[1, 2]) / k[1, 1], np.ones(count)], axis=1)
        x, y = rays[:, 0].astype(np.float32), rays[:, 1].astype(np.float32)
        depth, _, part = (np.asarray(out) for out in nearest(body, person, room, camera, x, y))

        flesh = jax.tree.map(lambda f: np.asarray(f, np.float64), anatomy.flesh(body, person, np))
        rotation = camera.rotation.astype(float)
        expected, expected_part = np.full(count, np.inf), np.full(count, -1)
        for i in range(len(anatomy.PARTS)):
            start, end = (rotation @ p[i] + camera.translation for p in (flesh.start, flesh.end))
            flat = rotation @ flesh.flat[i]
            metric = np.eye(3) + (flesh.flatness[i] ** 2 - 1) * np.outer(flat, flat)
            centres = start + place[:, None] * (end - start)
            radii = flesh.start_radius[i] + place * (flesh.end_radius[i] - flesh.start_radius[i])
            a = np.einsum("ni,ij,nj->n", rays, metric, rays)[:, None]
            b = rays @ metric @ centres.T
            c = np.einsum("si,ij,sj->s", centres, metric, centres) - radii**2
            root = b * b - a * c
            first = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf).min(1)
            expected_part = np.where(first < expected, i, expected_part)
            expected = np.minimum(expected, first)
        hit = np.isfinite(expected)
        assert (hit == (part >= 0)).mean() > 0.98  # the rim itself may go either way
        both = hit & (part >= 0)
        assert np.median(np.abs(depth - expected)[both]) < 0.5
        assert (np.abs(depth - expected)[both] < 5).mean() > 0.95
        same_part += (part == expected_part)[both].tolist()
    assert len(same_part) > 100 and np.mean(same_part) > 0.95  # neighbours share a sphere at their joint


def test_nearer_limb_hides_the_farther(scenes):
    for body, person, room, camera in scenes[:4]:
        flesh = anatomy.flesh(body, person, np)
        at = scene.to_camera((flesh.start + flesh.end) / 2, camera)
        x, y = (at[:, i] / at[:, 2] for i in range(2))
        depth, _, part = nearest(body, person, room, camera, x, y)
        assert (np.asarray(part) >= 0).all()
        assert (np.asarray(depth) <= at[:, 2]).all(), "what hides the middle of a part is nearer than that"


def test_shadow_is_where_light_is_kept_away(scenes):
    rng = np.random.default_rng(1)
    for body, person, room, _ in scenes[:3]:
        flesh = anatomy.flesh(body, person, np)
        light, place = room.light.astype(float), np.linspace(0, 1, 60)
        points = np.concatenate(
            [rng.uniform(-1500, 1500, (300, 2)) + body.joints[0, :2], np.zeros((300, 1))], 1
        )
        clearance = np.full(300, np.inf)
        for i in render.SHADOWED:
            centres = flesh.start[i] + place[:, None] * (flesh.end[i] - flesh.start[i])
            radii = flesh.start_radius[i] + place * (flesh.end_radius[i] - flesh.start_radius[i])
            away = np.linalg.norm(np.cross(points[:, None] - centres, light), axis=-1) - radii
            clearance = np.minimum(clearance, away.min(1))
        parts, here = jax.tree.map(jnp.asarray, flesh), jax.tree.map(jnp.asarray, room)
        shadow = np.asarray(render.shadow(parts, here, *jnp.asarray(points[:, :2].T, jnp.float32)))
        assert (shadow[clearance < -15] > 0.5).all() and (clearance < -15).any()
        assert (shadow[clearance > 15] == 0).all() and (clearance > 15).any()


def test_the_nose_is_seen_from_the_front_and_the_hair_from_behind(scenes):
    """A standing person turned towards and away from a camera that looks at the head."""
    draws = np.full(motion.NUM_MOTION_DRAWS, 0.5)
    person = anatomy.person(np.asarray(anatomy.person_draws(0, 1), np.float64), np)
    rotation = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])  # looks along -x
    scenes = []
    for heading in (0.0, 0.5):
        draws[1] = heading
        body = motion.pose(motion.ACTIONS.index("arms_raised"), draws, np.float64(0), person, np)
        camera = scene.Camera(rotation, np.array([0.0, 1500, 4000]), np.eye(3))
        x, y, z = scene.to_camera(body.joints[9:10], camera)[0]
        k = np.array([[600.0, 0, SIZE / 2 - 600 * x / z], [0, 600, SIZE / 2 - 600 * y / z], [0, 0, 1]])
        room = scene.room(np.asarray(scene.room_draws(0, 0), np.float64), np)
        scenes.append((body, person, room, camera._replace(intrinsics=k)))
    batch = jax.tree.map(lambda *fields: np.stack(fields * 8).astype(np.float32), *scenes)
    images, parts = (np.asarray(out)[:2] for out in drawn(*batch))
    noses = (parts == anatomy.PARTS.index("nose")).sum((1, 2))
    assert noses[0] > 0 and noses[1] == 0
    heads = [images[i][parts[i] == anatomy.PARTS.index("head")].astype(float) for i in range(2)]
    hue = [np.abs(h / h.sum(1, keepdims=True) - person.hair / person.hair.sum()).sum(1).mean() for h in heads]
    assert hue[1] < 0.6 * hue[0]


def test_one_picture_is_that_of_the_batch_whatever_the_tile_and_samples_are_its_mean(scenes, rendered):
    """Four rays per pixel at half the size are the rays of the full-size picture."""
    half = jax.jit(partial(render.render, size=SIZE // 2, samples=2, tile=SIZE * 8))
    for i in (0, 9):
        body, person, room, camera = scenes[i]
        k = camera.intrinsics * np.array([[0.5], [0.5], [1.0]], np.float32)
        image, _ = half(body, person, room, camera._replace(intrinsics=k))
        expected = rendered[0][i].reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean((1, 3))
        assert (np.abs(np.asarray(image) - expected) > 1.5).mean() < 0.005
        again, _ = half(body, person, room, camera._replace(intrinsics=k))
        np.testing.assert_array_equal(image, again)


def test_subjects_look_different(rendered):
    images = rendered[0].astype(float)
    assert np.abs(images[0::2] - images[1::2]).mean((1, 2, 3)).min() > 10


CONFIG = stream.StreamConfig(subjects=(3, 8), groups=2, sequences=2, instants=3, size=16, gap=0.4)


def test_stream_is_laid_out_in_blocks_of_known_people():
    batch = jax.tree.map(np.asarray, stream.stream_batch(0, 5, CONFIG))
    assert batch.images.shape == (12, 2, 16, 16, 3) and batch.images.dtype == np.uint8
    np.testing.assert_array_equal(batch.group, np.repeat([10, 11], 6))
    np.testing.assert_array_equal(batch.sequence, np.repeat([20, 21, 22, 23], 3))
    np.testing.assert_allclose(np.diff(batch.time.reshape(4, 3), axis=1), CONFIG.gap, atol=1e-5)
    assert set(batch.subject.tolist()) <= set(CONFIG.subjects)
    for field in (batch.subject, batch.action):
        assert (field.reshape(4, 3) == field.reshape(4, 3)[:, :1]).all()
    assert (batch.camera[:, 0] != batch.camera[:, 1]).all()
    # Both views of an instant show one skeleton.
    world = np.einsum("bvji,bvkj->bvki", batch.rotation, batch.pose - batch.translation[:, :, None])
    np.testing.assert_allclose(world[:, 0], world[:, 1], atol=0.1)
    again = jax.tree.map(np.asarray, next(stream.stream(0, CONFIG, first_step=5)))
    jax.tree.map(np.testing.assert_array_equal, batch, again)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"subjects": ()}, ("subjects is empty",)),
        ({"views": 5}, ("views is 5", "1 to 4")),
        ({"views": 0}, ("views is 0",)),
    ],
)
def test_stream_refuses(change, facts):
    with refused(*facts):
        next(stream.stream(0, CONFIG._replace(**change)))
