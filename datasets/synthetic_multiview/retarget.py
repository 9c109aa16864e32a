"""A captured motion on a synthetic person: directions and turns are the file's, lengths the person's.

World frames are z up, as in `motion`. A file does not say how a joint's own axes lie in its part of the body (skeletons
rest in different poses), so those of head, hands and feet are learned from the clip: on average they lie as the
neighbouring bones do. Nor do skeletons agree where the neck has its root: the collar bones, which begin there, lie on
average as on the person, and move as in the file.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from datasets.synthetic_multiview import anatomy
from datasets.synthetic_multiview.bvh import Placed
from datasets.synthetic_multiview.joint_names import Roles
from mcss_jax import skeleton
from mcss_jax.errors import UserError

REACH_MM = 1500.0
"""How far from the middle of the rig a person goes; further on, they move as on a treadmill."""

_INDEX = {name: i for i, name in enumerate(skeleton.JOINTS)}
# As on every person of `anatomy`: where the Spine lies between Hip and Thorax, and the left shoulder's direction from
# the Thorax (forward, left, up).
_SPINE_SHARE = 0.132 / (0.132 + 0.145)
_LEFT_COLLAR = np.array([0.0, 0.095, -0.018])
# Beside the bend of elbows and knees: enough to know the hinge of a limb that stays straight throughout.
_STRAIGHT = 0.1
# Single frames may dip below the floor.
_FLOOR_QUANTILE = 0.05


class Moves(NamedTuple):
    """A motion without lengths. Axes are columns forward, left, up; sides are left, then right."""

    bones: Float[
        np.ndarray, "i 17 3"
    ]  # unit directions from the parent to each joint of `skeleton`; the Hip has none
    pelvis: Float[np.ndarray, "i 3 3"]
    chest: Float[np.ndarray, "i 3 3"]
    head: Float[np.ndarray, "i 3 3"]
    hands: Float[np.ndarray, "i 2 3 3"]
    feet: Float[np.ndarray, "i 2 3 3"]
    place: Float[np.ndarray, "i 2"]  # of the Hip; unit: the length of leg and back
    air: Float[np.ndarray, " i"]  # from the floor to the lowest joint, same unit


def up_axis(placed: Placed, roles: Roles) -> int:
    """The file's axis, 1 (y) or 2 (z), along which head and feet are farther apart over the whole clip."""
    head, left, right = (placed.position[:, roles.joint[role]] for role in ("Head", "LFoot", "RFoot"))
    apart = np.abs((head - 0.5 * (left + right)).mean(0))
    return 1 if apart[1] >= apart[2] else 2


def upright(placed: Placed, up: int, heading: float) -> Placed:
    """The same in a world whose z is up, turned about it by `heading` degrees; `up` is the file's axis, 1 or 2."""
    c, s = np.cos(np.radians(heading)), np.sin(np.radians(heading))
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    if up == 1:
        turn = turn @ np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    return Placed(placed.position @ turn.T, turn @ placed.rotation)


def moves(placed: Placed, roles: Roles) -> Moves:
    """What the person of a file does; `placed` is upright.

    Raises UserError, in one sentence without the file's name, where a bone has no direction.
    """
    own = {role: placed.rotation[:, joint] for role, joint in roles.joint.items()}
    joints = _joints(placed, roles)
    bones = joints - joints[:, list(skeleton.PARENTS)]
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = _unit(bones)
        direction = {name: unit[:, i] for name, i in _INDEX.items()}
        pelvis = _frame(direction["Spine"], direction["LHip"])
        chest = _frame(direction["Thorax"], joints[:, _INDEX["LShoulder"]] - joints[:, _INDEX["RShoulder"]])
        head = _carried(own["Head"], chest[..., 2], chest[..., 1])
        hands, feet = [], []
        for side in "LR":
            thigh, shin = direction[f"{side}Knee"], direction[f"{side}Foot"]
            arm, fore = direction[f"{side}Elbow"], direction[f"{side}Wrist"]
            # Knees bend backwards and elbows forwards, both about an axis that points to the left.
            knee = np.cross(thigh, shin) + _STRAIGHT * np.cross(pelvis[..., 0], shin)
            elbow = np.cross(fore, arm) + _STRAIGHT * np.cross(chest[..., 0], fore)
            feet.append(_carried(own[f"{side}Foot"], -shin, knee))
            hands.append(_carried(own[f"{side}Wrist"], -fore, elbow))
            unit[:, _INDEX[f"{side}Shoulder"]] = _collar(direction[f"{side}Shoulder"], chest, side)
    # A file has no bone for these two.
    unit[:, _INDEX["Hip"]], unit[:, _INDEX["Head"]] = 0.0, head[..., 2]
    size = np.linalg.norm(bones, axis=-1).mean(0)
    legs = sum(size[_INDEX[f"{side}{part}"]] for side in "LR" for part in ("Knee", "Foot"))
    stature = 0.5 * legs + size[_INDEX["Spine"]] + size[_INDEX["Thorax"]]
    lowest = placed.position[:, roles.body, 2].min(1)
    moves = Moves(
        bones=unit,
        pelvis=pelvis,
        chest=chest,
        head=head,
        hands=np.stack(hands, axis=1),
        feet=np.stack(feet, axis=1),
        place=joints[:, _INDEX["Hip"], :2] / stature,
        air=np.maximum(0.0, lowest - np.quantile(lowest, _FLOOR_QUANTILE)) / stature,
    )
    if not all(np.isfinite(field).all() for field in moves):
        raise UserError(
            "leaves a bone without direction: two of the joints in use coincide, or hips or shoulders lie along the "
            "back; say with --joint_map which joints to use"
        )
    return moves


def body(moves: Moves, person: anatomy.Person) -> anatomy.Body:
    """The person who moves so, in millimetres: near the middle of the rig, at their lowest point as far above the floor
    as the file's person at theirs."""
    stature = person.thigh + person.shin + person.loin + person.rib
    at = [np.pad(within_reach(moves.place * stature), ((0, 0), (0, 1)))]
    lengths = _lengths(person)
    for parent, child in skeleton.BONES:
        at.append(at[parent] + lengths[skeleton.JOINTS[child]] * moves.bones[:, child])
    extremities: list[tuple[anatomy.Arrays, ...]] = []
    for i, side in enumerate("LR"):
        hand = anatomy.hand(at[_INDEX[f"{side}Wrist"]], moves.hands[:, i], person)
        foot = anatomy.foot(at[_INDEX[f"{side}Foot"]], moves.feet[:, i], person)
        extremities.append((*hand, *foot))
    hands, thumbs, heels, toes = (np.stack(both, axis=1) for both in zip(*extremities, strict=True))
    nowhere = np.zeros((len(at[0]), 4))
    grounded = anatomy.Body(
        np.stack(at, axis=1), hands, thumbs, heels, toes, moves.pelvis, moves.chest, moves.head, nowhere
    )
    centres, radii = anatomy.outline(anatomy.flesh(grounded, person, np), np)
    rise = np.zeros((len(nowhere), 1, 3))
    rise[:, 0, 2] = moves.air * stature - (centres[..., 2] - radii).min(1)
    lifted = ("joints", "hands", "thumbs", "heels", "toes")
    return grounded._replace(**{name: getattr(grounded, name) + rise for name in lifted})


def within_reach(place: Float[np.ndarray, "i 2"]) -> Float[np.ndarray, "i 2"]:
    """A way through the room about the middle of the rig, millimetres.

    One that leaves the circle of `REACH_MM` goes on at its edge: the floor moves under the person instead.
    """
    middle = 0.5 * (place.min(0) + place.max(0))
    near = np.empty_like(place)
    for i, at in enumerate(place):
        away = at - middle
        distance = np.hypot(*away)
        if distance > REACH_MM:
            middle = middle + away * (1 - REACH_MM / distance)
        near[i] = at - middle
    return near


def _joints(placed: Placed, roles: Roles) -> Float[np.ndarray, "i 17 3"]:
    """The file's joints in the order of `skeleton`; the top of the head, of which files do not tell, is left out."""
    at = {role: placed.position[:, joint] for role, joint in roles.joint.items()}
    # Some joints of a back lie where it begins or ends, and say nothing of how it bends.
    back, low = placed.position[:, roles.back], placed.position[:, roles.hips]
    heights = np.linalg.norm(back - low[:, None], axis=-1).mean(0)
    whole = np.linalg.norm(at["Thorax"] - low, axis=-1).mean()
    at["Hip"] = 0.5 * (at["LHip"] + at["RHip"])
    at["Spine"] = back[:, np.argmin(np.abs(heights - _SPINE_SHARE * whole))]
    at["Neck"] = at["Head"]  # the joint that turns the head is the neck's upper end
    return np.stack([at[name] for name in skeleton.JOINTS], axis=1)


def _lengths(person: anatomy.Person) -> dict[str, anatomy.Arrays]:
    """The length of the bone that ends in each joint of `skeleton`, millimetres."""
    middle = {"Spine": person.loin, "Thorax": person.rib, "Neck": person.neck, "Head": person.skull}
    limbs = {
        "Hip": person.hip,
        "Knee": person.thigh,
        "Foot": person.shin,
        "Shoulder": np.hypot(person.shoulder, person.shoulder_drop),
        "Elbow": person.upper_arm,
        "Wrist": person.forearm,
    }
    return middle | {f"{side}{name}": length for side in "LR" for name, length in limbs.items()}


def _unit(vectors: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _frame(up: Float[np.ndarray, "*b 3"], left: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """Axes whose third column is `up`, and whose second is as near to `left` as that allows."""
    z = _unit(up)
    x = _unit(np.cross(left, z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _carried(
    rotation: Float[np.ndarray, "i 3 3"], up: Float[np.ndarray, "i 3"], left: Float[np.ndarray, "i 3"]
) -> Float[np.ndarray, "i 3 3"]:
    """Axes fixed to a joint that turns by `rotation`, which over the clip lie as `up` and `left` do on average."""
    local_up, local_left = ((rotation * v[:, :, None]).sum(1).mean(0) for v in (up, left))
    return rotation @ _frame(local_up, local_left)


def _collar(
    bone: Float[np.ndarray, "i 3"], chest: Float[np.ndarray, "i 3 3"], side: str
) -> Float[np.ndarray, "i 3"]:
    """The direction to a shoulder: it moves as `bone` about the mean of all people."""
    local = (chest * bone[:, :, None]).sum(1)
    mean = local.mean(0)
    if not np.isfinite(mean).all():  # `moves` says so
        return local
    rest = _LEFT_COLLAR * (1.0, 1.0 if side == "L" else -1.0, 1.0)
    turn, _ = Rotation.align_vectors(rest, mean)
    return (chest @ turn.apply(local)[..., None])[..., 0]
