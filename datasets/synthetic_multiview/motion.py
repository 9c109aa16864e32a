"""Actions: joint angles as smooth functions of time, and the skeleton that they pose (forward kinematics).

Angles are degrees, lengths millimetres, time seconds. The body frame is x forward, y left, z up; the world
is z up with the floor at z = 0. An action is written for a *main* side; a draw says whether that is left or
right, which makes the distribution of poses its own mirror image. `xp` is numpy or jax.numpy, as in
`anatomy`.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from datasets.synthetic_multiview.anatomy import Arrays, Body, Person, along, foot, hand

ACTIONS = ("walking", "sitting", "reaching", "bending", "arms_raised", "kicking", "phoning", "turning")

_COMMON_DRAWS = 8
_DRAWS_PER_FREEDOM = 4
_FREEDOMS = 9
NUM_MOTION_DRAWS = _COMMON_DRAWS + _DRAWS_PER_FREEDOM * _FREEDOMS


class Angles(NamedTuple):
    """Joint angles (degrees) of one moment; `_m` is the main side, `_o` the other. The defaults are
    standing at rest."""

    lean: Arrays = 2.0  # of the lower spine, forward
    curl: Arrays = 3.0  # of the upper spine beyond it, forward
    side: Arrays = 0.0  # of the spine, towards the main side
    twist: Arrays = 0.0  # of the chest, towards the main side
    nod: Arrays = 5.0
    look: Arrays = 0.0  # of the head, towards the main side
    tilt: Arrays = 0.0  # of the pelvis, main side down
    hip_m: Arrays = 2.0  # thigh, forward
    hip_o: Arrays = 2.0
    spread_m: Arrays = 4.0  # thigh, outward
    spread_o: Arrays = 4.0
    knee_m: Arrays = 4.0  # >= 0
    knee_o: Arrays = 4.0
    swing_m: Arrays = 3.0  # upper arm, forward
    swing_o: Arrays = 3.0
    lift_m: Arrays = 8.0  # upper arm, outward
    lift_o: Arrays = 8.0
    roll_m: Arrays = 15.0  # upper arm about its axis, inward
    roll_o: Arrays = 15.0
    elbow_m: Arrays = 15.0  # >= 0
    elbow_o: Arrays = 15.0
    turn: Arrays = 0.0  # of the whole body, beyond its slow drift
    speed: Arrays = 0.0  # mm/s along the heading


class Draws(NamedTuple):
    """The draws of a sequence beside the time at which they are read."""

    values: Arrays  # [NUM_MOTION_DRAWS]
    time: Arrays  # [...] seconds
    wander: Arrays  # [_FREEDOMS, ...] in [0, 1], one slow curve per freedom
    xp: ModuleType

    def level(self, low: float | int, high: float | int, freedom: int) -> Arrays:
        """A constant of the sequence in [low, high]."""
        return low + (high - low) * self.values[_COMMON_DRAWS + _DRAWS_PER_FREEDOM * freedom]

    def vary(self, low: float | int, high: float | int, freedom: int) -> Arrays:
        """A slow wander inside [low, high]: half of it constant over the sequence, half in time."""
        return low + (high - low) * self.wander[freedom]

    def phase(self, slow: float | int, fast: float | int) -> Arrays:
        """The angle (radians) of a cycle whose frequency (Hz) lies in [slow, fast]."""
        return 2 * np.pi * ((slow + (fast - slow) * self.values[3]) * self.time + self.values[4])


def motion_draws(seed: int | Array, sequence: int | Array) -> Float[Array, " draws"]:
    """Uniform draws in [0, 1) of one sequence; the same bits on every processor (threefry)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 7), sequence)
    return jax.random.uniform(key, (NUM_MOTION_DRAWS,))


def _walking(d: Draws) -> Angles:
    xp, phase = d.xp, d.phase(0.6, 1.05)
    stride, swing = d.level(18, 34, 0), d.level(10, 38, 1)

    def knee(angle: Arrays) -> Arrays:  # bent in mid swing, nearly straight on the ground
        return 6 + 56 * (0.5 + 0.5 * xp.cos(angle + 0.5)) ** 2

    return Angles(
        lean=d.vary(0, 10, 2), twist=-7 * xp.sin(phase), look=d.vary(-30, 30, 3), tilt=3 * xp.cos(phase),
        hip_m=6 + stride * xp.sin(phase), hip_o=6 - stride * xp.sin(phase),
        knee_m=knee(phase), knee_o=knee(phase + np.pi), spread_m=2.0, spread_o=2.0,
        swing_m=3 - swing * xp.sin(phase), swing_o=3 + swing * xp.sin(phase),
        elbow_m=d.vary(10, 60, 4) - 8 * xp.sin(phase), elbow_o=d.vary(10, 60, 4) + 8 * xp.sin(phase),
        speed=stride * d.level(26, 30, 5),
    )  # fmt: skip


def _sitting(d: Draws) -> Angles:
    knees, gesture = d.vary(60, 105, 0), d.vary(0, 1, 1)
    return Angles(
        lean=d.vary(-12, 28, 2), curl=d.vary(2, 18, 2), twist=d.vary(-20, 20, 3), look=d.vary(-40, 40, 4),
        nod=10.0,
        hip_m=84.0, hip_o=84.0, spread_m=d.vary(3, 24, 5), spread_o=d.vary(3, 24, 5),
        knee_m=knees, knee_o=d.vary(78, 105, 6),
        swing_m=25 + 30 * gesture, swing_o=d.vary(12, 42, 7), lift_m=8 + 20 * gesture, lift_o=10.0,
        roll_m=25.0, roll_o=25.0, elbow_m=45 + 75 * gesture, elbow_o=d.vary(35, 75, 8),
    )  # fmt: skip


def _reaching(d: Draws) -> Angles:
    stretch = d.vary(0, 1, 0)
    return Angles(
        lean=2 + 22 * stretch, curl=2 + 8 * stretch, twist=-25 * stretch + d.vary(-12, 12, 1),
        side=d.vary(-10, 10, 2),
        look=d.vary(-15, 35, 3), hip_m=4 + 24 * stretch, knee_m=6 + 26 * stretch, hip_o=-2 - 14 * stretch,
        knee_o=8.0,
        swing_m=d.vary(45, 150, 4), lift_m=d.vary(-5, 60, 3), roll_m=10.0, elbow_m=55 - 48 * stretch,
        swing_o=d.vary(-25, 15, 5), lift_o=d.vary(8, 30, 6), elbow_o=d.vary(8, 50, 7),
    )  # fmt: skip


def _bending(d: Draws) -> Angles:
    depth, reach = d.vary(0, 1, 0), d.vary(-25, 35, 1)
    return Angles(
        lean=25 + 42 * depth, curl=12 + 22 * depth, twist=d.vary(-25, 25, 2), side=d.vary(-8, 8, 3),
        nod=-12.0,
        look=d.vary(-25, 25, 4), hip_m=4 + d.vary(0, 45, 5), hip_o=4 + d.vary(0, 45, 5),
        knee_m=6 + d.vary(0, 75, 5), knee_o=6 + d.vary(0, 75, 5), spread_m=9.0, spread_o=9.0,
        swing_m=37 + 60 * depth + reach, swing_o=37 + 60 * depth + d.vary(-25, 35, 6), lift_m=6.0, lift_o=6.0,
        elbow_m=d.vary(5, 55, 7), elbow_o=d.vary(5, 55, 8),
    )  # fmt: skip


def _arms_raised(d: Draws) -> Angles:
    both, apart = d.vary(85, 168, 0), d.vary(-16, 16, 1)
    return Angles(
        lean=d.vary(-8, 6, 2), side=d.vary(-14, 14, 3), look=d.vary(-25, 25, 4), nod=-6.0,
        spread_m=d.level(3, 16, 5), spread_o=d.level(3, 16, 5), knee_m=d.vary(3, 20, 6), knee_o=d.vary(3,
        20, 6),
        hip_m=d.vary(2, 11, 6), hip_o=d.vary(2, 11, 6),
        lift_m=both + apart, lift_o=both - apart, swing_m=d.vary(-5, 40, 7), swing_o=d.vary(-5, 40, 7),
        roll_m=-80.0, roll_o=-80.0, elbow_m=d.vary(4, 85, 8), elbow_o=d.vary(4, 85, 8),
    )  # fmt: skip


def _kicking(d: Draws) -> Angles:
    xp, phase = d.xp, d.phase(0.45, 0.8)
    high, wide = d.level(40, 85, 0), d.vary(12, 60, 1)
    kick = 0.5 + 0.5 * xp.sin(phase)  # 0 = drawn back, 1 = in the air
    return Angles(
        lean=8 - 20 * kick, twist=14 - 28 * kick, look=d.vary(-12, 12, 2), nod=12.0,
        hip_m=-26 + (26 + high) * kick, knee_m=12 + 85 * (0.5 + 0.5 * xp.cos(phase + 2.4)) ** 2,
        spread_m=d.vary(2, 22, 3), hip_o=4.0, knee_o=d.vary(6, 26, 4),
        swing_m=12 - 55 * kick, swing_o=-30 + 80 * kick, lift_m=wide, lift_o=wide, elbow_m=d.vary(15, 60, 5),
        elbow_o=d.vary(15, 60, 6),
    )  # fmt: skip


def _phoning(d: Draws) -> Angles:
    belly = d.vary(0, 1, 0)  # the free hand: hanging, or across the belly
    shift = d.vary(-1, 1, 1)
    return Angles(
        lean=d.vary(-4, 10, 2), side=3 + d.vary(-6, 8, 3), twist=d.vary(-18, 18, 4), look=d.vary(-30, 10,
        5), nod=10.0,
        tilt=5 * shift, hip_m=3 + 8 * (1 + shift), knee_m=4 + 14 * (1 + shift), hip_o=3 + 8 * (1 - shift),
        knee_o=4 + 14 * (1 - shift), spread_m=5.0, spread_o=5.0,
        swing_m=d.vary(40, 70, 6), lift_m=d.vary(20, 45, 7), roll_m=25.0, elbow_m=d.vary(132, 146, 8),
        swing_o=3 + 22 * belly, lift_o=10.0, roll_o=15 + 45 * belly, elbow_o=14 + 78 * belly,
    )  # fmt: skip


def _turning(d: Draws) -> Angles:
    xp, phase = d.xp, d.phase(0.18, 0.34)
    round_ = xp.sin(phase)
    step = 0.5 + 0.5 * xp.sin(3 * phase + 1.0)
    return Angles(
        lean=d.vary(2, 14, 0), twist=d.level(22, 42, 1) * round_, look=d.level(20, 45,
        2) * xp.sin(phase + 0.5),
        hip_m=4 + 20 * step, knee_m=8 + 34 * step, hip_o=24 - 20 * step, knee_o=42 - 34 * step,
        spread_m=8.0, spread_o=8.0, swing_m=22 + d.vary(-10, 24, 3), swing_o=22 + d.vary(-10, 24, 4),
        lift_m=d.vary(25, 62, 5), lift_o=d.vary(25, 62, 6), roll_m=20.0, roll_o=20.0,
        elbow_m=d.vary(55, 110, 7), elbow_o=d.vary(55, 110, 8), turn=75 * round_,
    )  # fmt: skip


_ANGLES: dict[str, Callable[[Draws], Angles]] = {
    "walking": _walking, "sitting": _sitting, "reaching": _reaching, "bending": _bending,
    "arms_raised": _arms_raised, "kicking": _kicking, "phoning": _phoning, "turning": _turning,
}  # fmt: skip


def _settled(values: Any, xp: ModuleType) -> Any:
    """The same values, worked out once: XLA would repeat a chain of rotations for every joint on it."""
    return values if xp is np else jax.lax.optimization_barrier(values)


def _wander(draws: Arrays, time: Arrays, xp: ModuleType) -> Arrays:
    """One slow curve in [0, 1] per freedom, `[_FREEDOMS, ...]`: two sines about the sequence's level."""
    level, tempo, first, second = (
        draws[_COMMON_DRAWS:].reshape(_FREEDOMS, _DRAWS_PER_FREEDOM, *(1,) * time.ndim).swapaxes(0, 1)
    )
    angle = 2 * np.pi * time[None] * (0.12 + 0.28 * tempo)
    wave = 0.7 * xp.sin(angle + 2 * np.pi * first) + 0.3 * xp.sin(2.3 * angle + 2 * np.pi * second)
    return 0.25 + 0.5 * level + 0.25 * wave


def angles(action: int | Array, draws: Arrays, time: Arrays, xp: ModuleType) -> Angles:
    """The joint angles (each `[...]`, degrees) of `ACTIONS[action]` at `time` (`[...]` seconds); `action`
    may be traced."""
    d = Draws(draws, time, _settled(_wander(draws, time, xp), xp), xp)
    zero = xp.zeros_like(time)
    per_action = [xp.stack([zero + value for value in _ANGLES[name](d)]) for name in ACTIONS]
    return Angles(*xp.stack(per_action)[action])


def _rotation(axis: int, degrees: Arrays, xp: ModuleType) -> Arrays:
    """Rotation `[..., 3, 3]` by `degrees` (`[...]`) about one coordinate axis."""
    c, s = xp.cos(degrees * (np.pi / 180)), xp.sin(degrees * (np.pi / 180))
    zero, one = xp.zeros_like(c), xp.ones_like(c)
    rows = {
        0: ((one, zero, zero), (zero, c, -s), (zero, s, c)),
        1: ((c, zero, s), (zero, one, zero), (-s, zero, c)),
        2: ((c, -s, zero), (s, c, zero), (zero, zero, one)),
    }[axis]
    return xp.stack([xp.stack(row, axis=-1) for row in rows], axis=-2)


def _compose(first: Arrays, *others: Arrays) -> Arrays:
    """Product of rotations `[..., 3, 3]`, written out so that no processor rounds it to a lower precision."""
    for other in others:
        first = (first[..., :, :, None] * other[..., None, :, :]).sum(-2)
    return first


def pose(action: int | Array, draws: Arrays, time: Arrays, person: Person, xp: ModuleType) -> Body:
    """Poses one person.

    Args:
      action: index into `ACTIONS`; may be traced.
      draws: `[NUM_MOTION_DRAWS]` uniforms of the sequence.
      time: `[...]` seconds.
      person: one person (scalars), of the same namespace.
      xp: numpy or jax.numpy.

    Returns:
      The body in the world frame, millimetres, leading axes as in `time`; its lowest foot stands on the
      floor.
    """
    a = _settled(angles(action, draws, time, xp), xp)
    left_is_main = draws[0] < 0.5
    main = xp.where(left_is_main, 1.0, -1.0)  # +1: towards the left
    main = main.astype(time.dtype)

    def sided(of_main: Arrays, of_other: Arrays, side: int) -> Arrays:
        return xp.where(left_is_main == (side == 0), of_main, of_other)

    def rx(degrees: Arrays) -> Arrays:
        return _rotation(0, degrees, xp)

    def ry(degrees: Arrays) -> Arrays:
        return _rotation(1, degrees, xp)

    def rz(degrees: Arrays) -> Arrays:
        return _rotation(2, degrees, xp)

    # Heading: anywhere on the circle, drifting slowly; a walker follows the circle that its drift and speed
    # make.
    walks = a.speed > 0
    drift = xp.where(walks, 40 + 30 * draws[2], 24 * (draws[2] - 0.5))
    heading = 360 * draws[1] + main * (drift * time + a.turn)
    place = xp.where(
        walks, a.speed / (main * xp.where(walks, drift, 1.0) * (np.pi / 180)), xp.zeros_like(time)
    )
    radians = heading * (np.pi / 180)
    centre_x, centre_y = 1200 * (draws[5] - 0.5), 1200 * (draws[6] - 0.5)
    zero = xp.zeros_like(time)
    hip = xp.stack([centre_x + place * xp.sin(radians), centre_y - place * xp.cos(radians), zero], axis=-1)

    base = rz(heading)
    pelvis = _compose(base, rx(-main * a.tilt))
    loin = _compose(base, ry(a.lean), rx(-main * 0.5 * a.side), rz(main * 0.4 * a.twist))
    chest = _compose(base, ry(a.lean + a.curl), rx(-main * a.side), rz(main * a.twist))
    throat = _compose(chest, ry(8 + 0.4 * a.nod))
    head = _compose(chest, rz(main * a.look), ry(a.nod))

    pelvis, loin, chest, throat, head = _settled((pelvis, loin, chest, throat, head), xp)
    spine = hip + along(loin, 0.0, 0.0, person.loin)
    thorax = spine + along(chest, 0.0, 0.0, person.rib)
    nose = thorax + along(throat, 0.25 * person.neck, 0.0, 0.97 * person.neck)
    top = nose + along(head, 0.0, 0.0, person.skull)

    limbs = []
    for side, sign in ((0, 1.0), (1, -1.0)):
        thigh = _compose(
            pelvis, ry(-sided(a.hip_m, a.hip_o, side)), rx(sign * sided(a.spread_m, a.spread_o, side))
        )
        knee_angle = sided(a.knee_m, a.knee_o, side)
        shin = _compose(thigh, ry(knee_angle))
        hip_joint = hip + along(pelvis, 0.0, sign * person.hip, 0.0)
        knee = hip_joint + along(thigh, 0.0, 0.0, -person.thigh)
        ankle = knee + along(shin, 0.0, 0.0, -person.shin)
        # The sole follows the shin only partly: it stays near the floor when the knee bends.
        sole = _compose(base, ry(0.35 * (knee_angle - sided(a.hip_m, a.hip_o, side))), rz(sign * 8 + zero))
        heel, toe = foot(ankle, sole, person)

        arm = _compose(
            chest,
            ry(-sided(a.swing_m, a.swing_o, side)),
            rx(sign * sided(a.lift_m, a.lift_o, side)),
            rz(-sign * sided(a.roll_m, a.roll_o, side)),
        )
        fore = _compose(arm, ry(-sided(a.elbow_m, a.elbow_o, side)))
        shoulder = thorax + along(chest, 0.0, sign * person.shoulder, -person.shoulder_drop)
        elbow = shoulder + along(arm, 0.0, 0.0, -person.upper_arm)
        wrist = elbow + along(fore, 0.0, 0.0, -person.forearm)
        fingers, thumb = hand(wrist, fore, person)
        limbs.append((hip_joint, knee, ankle, shoulder, elbow, wrist, fingers, thumb, heel, toe))

    left, right = limbs
    joints = xp.stack(
        [hip, right[0], right[1], right[2], left[0], left[1], left[2], spine, thorax, nose, top,
         left[3], left[4], left[5], right[3], right[4], right[5]],
        axis=-2,
    )  # fmt: skip
    hands, thumbs, heels, toes = (xp.stack([left[i], right[i]], axis=-2) for i in (6, 7, 8, 9))
    soles = xp.minimum(heels[..., 2] - 46.0, toes[..., 2] - 38.0)
    floor = xp.stack([zero, zero, xp.min(soles, axis=-1)], axis=-1)
    joints, hands, thumbs, heels, toes = (
        p - floor[..., None, :] for p in (joints, hands, thumbs, heels, toes)
    )
    # The pelvis is the exact midpoint of the hip joints, whatever was rounded on the way.
    middle = 0.5 * (joints[..., 1:2, :] + joints[..., 4:5, :])
    joints = xp.concatenate([middle, joints[..., 1:, :]], axis=-2)
    sits = action == ACTIONS.index("sitting")
    under = joints[..., 0, :] - along(base, 0.0, 0.0, 85.0 * person.belly)
    radius = xp.where(sits, 190.0 + zero, zero).astype(time.dtype)
    seat = xp.concatenate([under, radius[..., None]], axis=-1)
    return Body(joints, hands, thumbs, heels, toes, loin, chest, head, seat)
