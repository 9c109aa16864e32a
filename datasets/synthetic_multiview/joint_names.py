"""Which joint of a motion file is which joint of a person: by the names that the common families of skeletons use.

Understood are those of MotionBuilder and the CMU archive (`LeftUpLeg`), Mixamo (`mixamorig:LeftUpLeg`), LaFAN1, Bandai
Namco (`UpperLeg_L`), Xsens and Perception Neuron (`LeftHip`, `LeftKnee`), Biped (`Bip01 L Thigh`), Unreal (`thigh_l`),
Blender (`thigh.L`), SMPL (`L_Hip`), Acclaim (`lfemur`) and Poser (`lThigh`). A user's own map comes before them.
"""

import os.path
import re
from pathlib import Path
from typing import NamedTuple

from datasets.synthetic_multiview.bvh import Joint
from mcss_jax.errors import UserError

# The first name that fits counts: where there is a LeftArm, LeftShoulder is the collar bone.
_SIDED = {
    "Hip": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "Knee": ("lowleg", "lowerleg", "shin", "calf", "tibia", "knee", "leg"),
    "Foot": ("ankle", "foot"),
    "Shoulder": ("uparm", "upperarm", "humerus", "shldr", "arm", "shoulder"),
    "Elbow": ("forearm", "lowarm", "lowerarm", "radius", "elbow"),
    "Wrist": ("wrist", "hand"),
}
_MIDDLE = {
    "Thorax": ("lowerneck", "neck", "neck0", "neck1"),
    "Head": ("head",),
}
_KEYS = {role: [("", key) for key in keys] for role, keys in _MIDDLE.items()} | {
    f"{side}{role}": [(side, key) for key in keys] for side in "RL" for role, keys in _SIDED.items()
}
_SIDES = {"left": "L", "l": "L", "right": "R", "r": "R"}

ROLES = (*_KEYS, "Spine")
"""What has to be found, as `skeleton.JOINTS` has it; `Thorax` is the root of the neck, `Head` what turns the head."""


class Roles(NamedTuple):
    """Indices of joints."""

    joint: dict[str, int]  # of every role but Spine
    hips: int  # what carries both legs
    back: tuple[int, ...]  # the joints that may be the Spine, from below
    body: tuple[int, ...]  # the joints of the person, without props and what the person hangs on


def read_map(file: str | Path) -> dict[str, str]:
    """A user's own map: lines `Role = JointName`; `#` begins a comment.

    Raises UserError for a file that is not there, and for a line that is none of this.
    """
    if not Path(file).is_file():
        raise UserError(f"there is no joint map {file}")
    joint_map: dict[str, str] = {}
    for number, line in enumerate(Path(file).read_bytes().decode(errors="replace").splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        role, equals, name = (part.strip() for part in line.partition("="))
        if not (equals and name) or role not in ROLES or role in joint_map:
            raise UserError(
                f"{file}, line {number}: {line!r}; 'Role = JointName' was expected, each role once, the roles being "
                f"{', '.join(ROLES)}"
            )
        joint_map[role] = name
    return joint_map


def find_roles(joints: tuple[Joint, ...], own: dict[str, str]) -> Roles:
    """The joints of all roles; `own` is a user's map, by role.

    Raises UserError, in one sentence without the file's name, for roles that no joint or more than one has, and for
    mapped names that are not there.
    """
    names = [joint.name for joint in joints]
    keys = _keys(joints)
    index_of: dict[str, int] = {}
    for role in ROLES:
        if role in own:
            fitting = [i for i, name in enumerate(names) if name == own[role]]
            if not fitting:
                raise UserError(f"has no joint {own[role]!r}, the joint map's {role}; {_list(joints)}")
        else:
            fitting = next((fit for key in _KEYS.get(role, ()) if (fit := _where(keys, key))), [])
        if len(fitting) > 1:
            raise UserError(
                f"has several joints for {role}: {', '.join(names[i] for i in fitting)}; name one in a joint map "
                "(--joint_map)"
            )
        if fitting:
            index_of[role] = fitting[0]
    missing = [role for role in _KEYS if role not in index_of]
    back: tuple[int, ...] = ()
    if not missing:
        hips = _meeting(joints, index_of["LHip"], index_of["RHip"])
        back = (index_of.pop("Spine"),) if "Spine" in index_of else _between(joints, hips, index_of["Thorax"])
    if not back:
        raise UserError(
            f"has no joint for {', '.join(missing or ['Spine'])}; {_list(joints)}; name them in a joint map "
            "(--joint_map)"
        )
    root = _meeting(joints, hips, index_of["Thorax"])
    body = tuple(i for i in range(len(joints)) if root in _ancestors(joints, i))
    return Roles(index_of, hips, back, body)


def _list(joints: tuple[Joint, ...]) -> str:
    return f"its joints are {', '.join(joint.name for joint in joints if joint.channels)}"


def _where(keys: list[tuple[str, str]], searched: tuple[str, str]) -> list[int]:
    return [i for i, key in enumerate(keys) if key == searched]


def _keys(joints: tuple[Joint, ...]) -> list[tuple[str, str]]:
    """Side (`L`, `R` or none) and bare name of every joint; those of end sites are empty."""
    words = [_words(joint.name) if joint.channels else [] for joint in joints]
    # What all names begin with is an exporter's prefix; the root may have a name of another kind.
    prefix = len(os.path.commonprefix([word for word in words[1:] if word]))
    return [_key(word[prefix:]) for word in words]


def _words(name: str) -> list[str]:
    """`mixamorig:LeftUpLeg` -> left, up, leg; `thigh_l` -> thigh, l; `neck_01` -> neck, 1."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.rpartition(":")[2])
    return [str(int(word)) if word.isdigit() else word.lower() for word in words]


def _key(words: list[str]) -> tuple[str, str]:
    sides = [word for word in words if word in _SIDES]
    if sides:
        words = list(words)
        words.remove(sides[0])
        return _SIDES[sides[0]], "".join(words)
    name = "".join(words)
    # Written in one word: lfemur, leftarm.
    for prefix, side in _SIDES.items():
        if any(name == prefix + key for keys in _SIDED.values() for key in keys):
            return side, name.removeprefix(prefix)
    return "", name


def _ancestors(joints: tuple[Joint, ...], joint: int) -> list[int]:
    """From the joint itself up to the root."""
    line = [joint]
    while joints[line[-1]].parent >= 0:
        line.append(joints[line[-1]].parent)
    return line


def _meeting(joints: tuple[Joint, ...], first: int, second: int) -> int:
    """The lowest joint that is above both."""
    above = _ancestors(joints, second)
    return next(joint for joint in _ancestors(joints, first) if joint in above)


def _between(joints: tuple[Joint, ...], hips: int, thorax: int) -> tuple[int, ...]:
    """The joints on the way up from the hips to the root of the neck, both left out."""
    line = _ancestors(joints, thorax)
    return tuple(reversed(line[1 : line.index(hips)])) if hips in line else ()
