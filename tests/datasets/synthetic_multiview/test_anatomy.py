"""People: determinism, ranges, and flesh that encloses its skeleton."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from datasets.synthetic_multiview import anatomy, motion


def person_of(subject: int, outfit: int = 0) -> anatomy.Person:
    return anatomy.person(np.asarray(anatomy.person_draws(0, subject, outfit), np.float64), np)


def test_draws_are_the_same_traced_and_not():
    traced = jax.jit(lambda subject: anatomy.person_draws(3, subject))(jnp.int32(5))
    np.testing.assert_array_equal(traced, anatomy.person_draws(3, 5))


def test_outfit_changes_clothes_only():
    one, other = person_of(4, outfit=0), person_of(4, outfit=1)
    assert one.thigh == other.thigh and one.girth == other.girth
    np.testing.assert_array_equal(one.skin, other.skin)
    assert np.abs(one.top - other.top).max() > 0.01


def test_subjects_differ_in_stature_build_skin_and_clothes():
    people = [person_of(s) for s in range(40)]
    stature = np.array([p.thigh + p.shin + p.loin + p.rib + p.neck + p.skull + 80 for p in people])
    assert stature.min() > 1350 and stature.max() < 2150 and stature.std() > 60
    for field in ("girth", "belly", "skin", "top", "bottom", "hair", "thigh", "upper_arm"):
        values = np.array([getattr(p, field) for p in people]).reshape(40, -1)
        assert len(np.unique(values, axis=0)) == 40, field
    assert {float(p.pattern) for p in people} == {0.0, 1.0, 2.0, 3.0, 4.0}


def test_colours_are_colours():
    for p in (person_of(s) for s in range(40)):
        for colour in (p.skin, p.hair, p.top, p.top_second, p.bottom, p.bottom_second, p.shoes):
            assert colour.shape == (3,) and colour.min() >= 0 and colour.max() <= 1


@pytest.mark.parametrize(
    "hue, rgb", [(0.0, (1, 0, 0)), (1 / 3, (0, 1, 0)), (2 / 3, (0, 0, 1)), (0.5, (0, 1, 1))]
)
def test_hsv_of_pure_hues(hue, rgb):
    np.testing.assert_allclose(anatomy.hsv_to_rgb(np.float64(hue), 1.0, 1.0, np), rgb, atol=1e-12)


def test_every_joint_is_inside_the_flesh():
    person, time = person_of(1), np.linspace(0, 5, 11)
    for action in range(len(motion.ACTIONS)):
        body = motion.pose(action, np.asarray(motion.motion_draws(0, action), np.float64), time, person, np)
        parts = anatomy.flesh(body, person, np)
        place = np.linspace(0, 1, 65)[:, None]
        for joint in np.moveaxis(body.joints, 1, 0):
            axis = parts.end - parts.start  # [t, parts, 3]
            points = parts.start[..., None, :] + place * axis[..., None, :]
            away = joint[:, None, None, :] - points
            along_flat = (away * parts.flat[..., None, :]).sum(-1)
            squared = (away**2).sum(-1) + (parts.flatness[..., None] ** 2 - 1) * along_flat**2
            radius = (
                parts.start_radius[..., None]
                + place[:, 0] * (parts.end_radius - parts.start_radius)[..., None]
            )
            assert (squared - radius**2).min(axis=(1, 2)).max() < 1.0


def test_no_part_swallows_itself():
    """A rounded cone whose one sphere holds the other has no side, which the renderer presumes."""
    person = person_of(2)
    for action in range(len(motion.ACTIONS)):
        draws = np.asarray(motion.motion_draws(1, action), np.float64)
        parts = anatomy.flesh(motion.pose(action, draws, np.array([0.7]), person, np), person, np)
        length = np.linalg.norm(parts.end - parts.start, axis=-1)
        assert (length >= np.abs(parts.end_radius - parts.start_radius)).all()
        np.testing.assert_allclose(np.linalg.norm(parts.flat, axis=-1), 1.0, atol=1e-9)
