"""People: bone lengths, build, skin and clothes, and the flesh that hangs on a skeleton.

Geometry is written over an array namespace `xp` (numpy or jax.numpy): the builder evaluates it in NumPy
float64, the stream evaluates the same lines in float32 on the accelerator. Lengths are millimetres, colours
are RGB in [0, 1].
"""

from types import ModuleType
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

Arrays = Any  # a numpy or jax array; the namespace argument says which

# The flesh, part by part. Left and right parts of one kind look alike, as they do on people.
PARTS = (
    "pelvis", "belly", "chest", "shoulders", "neck", "head", "nose",
    "left_upper_arm", "left_forearm", "left_hand", "left_thigh", "left_shin", "left_foot",
    "right_upper_arm", "right_forearm", "right_hand", "right_thigh", "right_shin", "right_foot",
    "left_thumb", "right_thumb", "seat",
)  # fmt: skip

NUM_BODY_DRAWS = 12
NUM_OUTFIT_DRAWS = 24
NUM_PERSON_DRAWS = NUM_BODY_DRAWS + NUM_OUTFIT_DRAWS

SKIN = ((0.96, 0.80, 0.69), (0.87, 0.66, 0.51), (0.72, 0.50, 0.35), (0.52, 0.34, 0.23), (0.35, 0.22, 0.15))
HAIR = ((0.10, 0.08, 0.07), (0.28, 0.17, 0.09), (0.50, 0.30, 0.14), (0.80, 0.66, 0.38), (0.62, 0.61, 0.60))


class Person(NamedTuple):
    """One person: lengths and radii in millimetres (scalars), colours `[3]`, and the pattern of the
    clothes."""

    thigh: Arrays
    shin: Arrays
    foot: Arrays
    hip: Arrays  # half the distance between the hip joints
    loin: Arrays  # Hip to Spine
    rib: Arrays  # Spine to Thorax
    neck: Arrays
    skull: Arrays  # Neck/Nose to Head (its top)
    shoulder: Arrays  # half the distance between the shoulder joints
    shoulder_drop: Arrays
    upper_arm: Arrays
    forearm: Arrays
    hand: Arrays
    girth: Arrays  # thickness of limbs, 1 = average
    belly: Arrays  # thickness of the trunk, 1 = average
    skin: Arrays
    hair: Arrays
    top: Arrays
    top_second: Arrays
    bottom: Arrays
    bottom_second: Arrays
    shoes: Arrays
    sleeve: Arrays  # 0 = none .. 1 = to the wrist
    leg: Arrays  # 0.6 = shorts .. 1 = to the ankle
    pattern: Arrays  # 0 plain, 1 rings, 2 stripes along the limb, 3 checks, 4 dots
    wavelength: Arrays
    hair_line: Arrays  # how far the hair comes down the head, -1..1


class Body(NamedTuple):
    """A posed skeleton in the world frame: joints in Human3.6M's order, and what the flesh needs beside
    them."""

    joints: Arrays  # [..., 17, 3] mm
    hands: Arrays  # [..., 2, 3] mm, finger tips, left then right
    thumbs: Arrays  # [..., 2, 3] mm
    heels: Arrays  # [..., 2, 3] mm
    toes: Arrays  # [..., 2, 3] mm
    pelvis_axes: Arrays  # [..., 3, 3], columns are forward, left, up
    chest_axes: Arrays
    head_axes: Arrays
    seat: Arrays  # [..., 4]: centre of the seat's top in mm, and its radius (0: there is no seat)


class Flesh(NamedTuple):
    """Rounded cones, one per part: spheres of two radii and the hull between them, flattened along one
    direction."""

    start: Arrays  # [..., parts, 3] mm
    end: Arrays  # [..., parts, 3] mm
    start_radius: Arrays  # [..., parts] mm
    end_radius: Arrays  # [..., parts] mm
    flat: Arrays  # [..., parts, 3], unit direction along which the part is thinner
    flatness: Arrays  # [..., parts], 1 = round, 1.6 = 1.6 times thinner along `flat`


def person_draws(seed: int | Array, subject: int | Array, outfit: int | Array = 0) -> Float[Array, " draws"]:
    """Uniform draws in [0, 1) of one subject wearing one outfit; the same bits on every processor
    (threefry)."""
    who = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), subject)
    body = jax.random.uniform(jax.random.fold_in(who, 0), (NUM_BODY_DRAWS,))
    clothes = jax.random.fold_in(jax.random.fold_in(who, 1), outfit)
    return jax.numpy.concatenate([body, jax.random.uniform(clothes, (NUM_OUTFIT_DRAWS,))])


def _between(low: float | int, high: float | int, draw: Arrays) -> Arrays:
    return low + (high - low) * draw


def _mix(table: tuple[tuple[float, ...], ...], draw: Arrays, xp: ModuleType) -> Arrays:
    """A colour on the way along `table` at position `draw` in [0, 1)."""
    colours = xp.asarray(table, draw.dtype)
    place = draw * (len(table) - 1)
    weight = xp.maximum(0.0, 1.0 - abs(place - xp.arange(len(table), dtype=draw.dtype)))
    return xp.sum(colours * weight[:, None], axis=0)


def hsv_to_rgb(hue: Arrays, saturation: Arrays, value: Arrays, xp: ModuleType) -> Arrays:
    """Colour `[..., 3]` in [0, 1] from hue, saturation and value in [0, 1]."""
    channels = xp.asarray([5.0, 3.0, 1.0], hue.dtype)
    k = (channels + 6.0 * hue) % 6.0
    return value * (1.0 - saturation * xp.clip(xp.minimum(k, 4.0 - k), 0.0, 1.0))


def person(draws: Arrays, xp: ModuleType) -> Person:
    """The person of a vector of `NUM_PERSON_DRAWS` uniforms (`[draws]`, of namespace `xp`)."""
    stature = _between(1500.0, 1950.0, draws[0])
    long_leg, broad, long_arm = (_between(0.94, 1.06, draws[i]) for i in (1, 2, 3))
    girth = _between(0.82, 1.28, draws[4])
    trunk = _between(0.85, 1.25, draws[5]) * girth**0.5
    d = draws[NUM_BODY_DRAWS:]
    top = hsv_to_rgb(d[0], _between(0.15, 0.9, d[1]), _between(0.25, 0.95, d[2]), xp)
    top_second = hsv_to_rgb(
        (d[0] + _between(0.25, 0.75, d[3])) % 1.0, _between(0.0, 0.9, d[4]), (d[2] + 0.5) % 1.0, xp
    )
    bottom = hsv_to_rgb(d[5], _between(0.1, 0.7, d[6]), _between(0.15, 0.8, d[7]), xp)
    return Person(
        thigh=0.245 * stature * long_leg,
        shin=0.246 * stature * long_leg,
        foot=0.125 * stature,
        hip=0.072 * stature * broad,
        loin=0.132 * stature,
        rib=0.145 * stature,
        neck=0.066 * stature,
        skull=0.066 * stature,
        shoulder=0.095 * stature * broad,
        shoulder_drop=0.018 * stature,
        upper_arm=0.160 * stature * long_arm,
        forearm=0.142 * stature * long_arm,
        hand=0.098 * stature,
        girth=girth,
        belly=trunk,
        skin=_mix(SKIN, draws[6], xp),
        hair=_mix(HAIR, draws[7], xp),
        top=top,
        top_second=top_second,
        bottom=bottom,
        bottom_second=0.55 * bottom + 0.2,
        shoes=hsv_to_rgb(d[8], 0.6 * d[9], _between(0.08, 0.9, d[10]), xp),
        sleeve=_between(0.15, 1.1, d[11]),
        leg=_between(0.55, 1.25, d[12]),
        pattern=xp.floor(5.0 * d[13]),
        wavelength=_between(90.0, 200.0, d[14]),
        hair_line=_between(-0.5, 0.5, draws[8]),
    )


def along(axes: Arrays, forward: Arrays, left: Arrays, up: Arrays) -> Arrays:
    """The vector with these components on `axes` (`[..., 3, 3]`, columns forward, left, up)."""
    return axes[..., 0] * forward + axes[..., 1] * left + axes[..., 2] * up


def hand(wrist: Arrays, axes: Arrays, person: Person) -> tuple[Arrays, Arrays]:
    """Finger tips and thumb of a hand that hangs down its `axes` (those of an arm at rest)."""
    fingers = wrist + along(axes, 0.12 * person.hand, 0.0, -0.99 * person.hand)
    thumb = wrist + along(axes, 0.40 * person.hand, 0.0, -0.35 * person.hand)
    return fingers, thumb


def foot(ankle: Arrays, axes: Arrays, person: Person) -> tuple[Arrays, Arrays]:
    """Heel and toe of a foot with its sole along `axes`."""
    heel = ankle + along(axes, -0.14 * person.foot, 0.0, -34.0)
    toe = ankle + along(axes, 0.62 * person.foot, 0.0, -42.0)
    return heel, toe


def flesh(body: Body, person: Person, xp: ModuleType) -> Flesh:
    """The rounded cones of a body, in the order of `PARTS`; leading axes as in `body`."""
    joints, scale, trunk = body.joints, person.girth, person.belly
    hip, spine, thorax, nose, top = (joints[..., i, :] for i in (0, 7, 8, 9, 10))
    right_hip, right_knee, right_ankle = (joints[..., i, :] for i in (1, 2, 3))
    left_hip, left_knee, left_ankle = (joints[..., i, :] for i in (4, 5, 6))
    left_shoulder, left_elbow, left_wrist = (joints[..., i, :] for i in (11, 12, 13))
    right_shoulder, right_elbow, right_wrist = (joints[..., i, :] for i in (14, 15, 16))
    ahead = {
        "pelvis": body.pelvis_axes[..., 0],
        "chest": body.chest_axes[..., 0],
        "head": body.head_axes[..., 0],
    }
    head_left, head_up = body.head_axes[..., 1], body.head_axes[..., 2]
    breadth = person.shoulder / 165.0
    up = xp.broadcast_to(xp.asarray([0.0, 0.0, 1.0], joints.dtype), hip.shape)

    def inside(start: Arrays, end: Arrays, share: float) -> Arrays:
        return start + share * (end - start)

    rows = [
        (inside(hip, right_hip, 0.75), inside(hip, left_hip, 0.75), 88 * trunk, 88 * trunk, ahead["pelvis"],
         1.1),
        (hip, spine, 118 * trunk, 112 * trunk, ahead["pelvis"], 1.35),
        (spine, inside(spine, thorax, 0.72), 116 * trunk, 132 * breadth, ahead["chest"], 1.45),
        (inside(thorax, right_shoulder, 0.8), inside(thorax, left_shoulder, 0.8), 58.0, 58.0,
         ahead["chest"], 1.05),
        (inside(thorax, nose, 0.12), nose, 50.0, 48.0, ahead["chest"], 1.0),
        (nose + 0.06 * person.skull * ahead["head"], top - 0.70 * person.skull * head_up, 0.60 * person.skull,
         0.78 * person.skull, head_left, 1.16),
        (nose + 0.30 * person.skull * head_up + 0.72 * person.skull * ahead["head"],
         nose + 0.06 * person.skull * head_up + 0.86 * person.skull * ahead["head"], 11.0, 17.0, head_left,
         1.0), ]  # fmt: skip
    palm_scale = person.hand / 170.0
    for side, (shoulder, elbow, wrist, hip_joint, knee, ankle) in enumerate(
        (
            (left_shoulder, left_elbow, left_wrist, left_hip, left_knee, left_ankle),
            (right_shoulder, right_elbow, right_wrist, right_hip, right_knee, right_ankle),
        )
    ):
        across = body.thumbs[..., side, :] - wrist
        palm = xp.cross(body.hands[..., side, :] - wrist, across)
        palm = palm / xp.sqrt(xp.sum(palm * palm, axis=-1, keepdims=True))
        rows += [
            (shoulder, elbow, 52 * scale, 42 * scale, ahead["chest"], 1.0),
            (elbow, wrist, 42 * scale, 28 * scale, ahead["chest"], 1.0),
            (inside(wrist, body.hands[..., side, :], 0.25), inside(wrist, body.hands[..., side, :], 0.85),
             40 * palm_scale, 30 * palm_scale, palm, 1.7),
            (hip_joint, knee, 84 * scale, 56 * scale, ahead["pelvis"], 1.0),
            (knee, ankle, 56 * scale, 38 * scale, ahead["pelvis"], 1.0),
            (body.heels[..., side, :], body.toes[..., side, :], 46.0, 38.0, up, 1.0),
        ]  # fmt: skip
    for side, wrist in enumerate((left_wrist, right_wrist)):
        rows.append((wrist, body.thumbs[..., side, :], 18.0, 13.0, ahead["head"], 1.0))
    seat, seat_radius = body.seat[..., :3], body.seat[..., 3]
    foot = xp.where(seat_radius[..., None] > 0, seat * (1 - up), hip)
    brim = xp.where(seat_radius[..., None] > 0, seat - 0.55 * seat_radius[..., None] * up, hip + up)
    rows.append((brim, foot, xp.maximum(seat_radius, 1.0), xp.maximum(0.9 * seat_radius, 1.0), up, 1.0))

    shape = joints.shape[:-2]

    def stack(column: int) -> Arrays:
        ones = xp.ones(shape, joints.dtype)
        return xp.stack([ones * row[column] for row in rows], axis=-1)

    return Flesh(
        start=xp.stack([row[0] for row in rows], axis=-2),
        end=xp.stack([row[1] for row in rows], axis=-2),
        start_radius=stack(2),
        end_radius=stack(3),
        flat=xp.stack([row[4] for row in rows], axis=-2),
        flatness=stack(5),
    )


def outline(parts: Flesh, xp: ModuleType) -> tuple[Arrays, Arrays]:
    """Spheres (`[..., n, 3]` mm, `[..., n]` mm) that bound the person, without the seat, for finding its
    crop."""
    centres = xp.concatenate([parts.start[..., :-1, :], parts.end[..., :-1, :]], axis=-2)
    radii = xp.concatenate([parts.start_radius[..., :-1], parts.end_radius[..., :-1]], axis=-1)
    return centres, radii
