"""BVH motion files: a strict reader, and the world positions of their joints (forward kinematics).

A file is a tree of joints (HIERARCHY) and a table of numbers (MOTION), one row a frame. A joint lies at its OFFSET from
its parent and turns its children; rotations are degrees, applied in the order in which the joint's channels are listed.
Lengths have whatever unit the file's writer used.
"""

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from mcss_jax.errors import UserError

_AXES = "xyz"
_CHANNELS = tuple(f"{axis}{kind}" for kind in ("position", "rotation") for axis in _AXES)


class Joint(NamedTuple):
    """A node of the tree; an `End Site` is one without channels, called `X end` after its parent."""

    name: str
    parent: int  # -1: the root
    offset: tuple[float, float, float]
    channels: tuple[str, ...]  # `xposition` .. `zrotation`, in the file's order


@dataclasses.dataclass(frozen=True)
class Clip:
    """One file: joints, parents before children; the channels of all joints, frame by frame; seconds a frame."""

    joints: tuple[Joint, ...]
    values: Float[np.ndarray, "f c"]
    frame_time: float


class Placed(NamedTuple):
    """Joints in the file's world: where they are (the file's unit) and how their own axes are turned."""

    position: Float[np.ndarray, "f j 3"]
    rotation: Float[np.ndarray, "f j 3 3"]


def parse(data: bytes) -> Clip:
    """Reads a BVH file.

    Raises UserError, in one sentence without the file's name, for what is no BVH, an unknown channel, a joint without
    parent, and a table that is empty or not as long as announced.
    """
    text = data.decode("utf-8-sig", errors="replace")
    if text.split(maxsplit=1)[:1] != ["HIERARCHY"]:
        raise UserError("is no BVH file: it does not begin with HIERARCHY")
    hierarchy, *motion = re.split(r"^\s*MOTION\s*$", text, maxsplit=1, flags=re.MULTILINE)
    if not motion:
        raise UserError("has no frames: the line MOTION is missing")
    joints = _joints(hierarchy)
    head = re.match(r"\s*Frames:\s*(\d{1,18})\s+Frame Time:\s*(\S+)", motion[0], flags=re.IGNORECASE)
    if head is None:
        raise UserError("is no BVH file: MOTION is not followed by 'Frames:' and 'Frame Time:'")
    frames, frame_time = int(head[1]), _number(head[2])
    if not frame_time > 0:
        raise UserError(f"has a frame time of {head[2]}; seconds above 0 were expected")
    if not frames:
        raise UserError("has no frames")
    try:
        values = np.array(motion[0][head.end() :].split(), np.float64)
    except ValueError as error:
        raise UserError(f"has something else than numbers in its frames ({error})") from None
    channels = sum(len(joint.channels) for joint in joints)
    if values.size != frames * channels:
        raise UserError(
            f"is truncated or damaged: it announces {frames} frames of {channels} numbers, {frames * channels} in all, "
            f"and holds {values.size}"
        )
    values = values.reshape(frames, channels)
    if not np.isfinite(values).all():
        raise UserError(f"has a number that is not finite in frame {np.argmin(np.isfinite(values).all(1))}")
    return Clip(joints, values, frame_time)


def _joints(hierarchy: str) -> tuple[Joint, ...]:
    words = iter(hierarchy.split()[1:])
    joints: list[Joint] = []
    branch: list[int] = []  # from the root to the joint whose braces are open
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            name = " ".join(iter(lambda: _next(words), "{"))
            parent = branch[-1] if branch else -1
            if word == "ROOT" and joints:
                raise UserError(f"holds a second skeleton, {name!r}; one a file was expected")
            if word != "ROOT" and not branch:
                raise UserError(f"has a joint without parent, {name!r}")
            branch.append(len(joints))
            name = f"{joints[parent].name} end" if word == "End" else name
            joints.append(Joint(name, parent, (0.0, 0.0, 0.0), ()))
        elif word == "OFFSET" and branch:
            x, y, z = (_number(_next(words)) for _ in range(3))
            joints[branch[-1]] = joints[branch[-1]]._replace(offset=(x, y, z))
        elif word == "CHANNELS" and branch:
            joint = joints[branch[-1]]
            channels = tuple(_next(words).lower() for _ in range(int(_number(_next(words)))))
            unknown = [channel for channel in channels if channel not in _CHANNELS]
            if unknown or len(set(channels)) != len(channels):
                raise UserError(
                    f"has channels {' '.join(channels)} at {joint.name!r}; some of {' '.join(_CHANNELS)}, each once, "
                    "were expected"
                )
            joints[branch[-1]] = joint._replace(channels=channels)
        elif word == "}" and branch:
            branch.pop()
        else:
            raise UserError(f"is no BVH file: {word!r} was not expected in its HIERARCHY")
    if branch or not joints:
        raise UserError("is truncated: its HIERARCHY ends before its skeleton does")
    return tuple(joints)


def _next(words: Iterator[str]) -> str:
    word = next(words, None)
    if word is None:
        raise UserError("is truncated: its HIERARCHY ends before its skeleton does")
    return word


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"has {word!r} where a number was expected")
    return value


def forward_kinematics(joints: tuple[Joint, ...], values: Float[np.ndarray, "f c"]) -> Placed:
    """Places every joint in every frame; `values` are rows of a `Clip`.

    A position channel replaces the offset on its axis: writers that give other joints than the root position channels
    store the whole way from the parent there, beside an offset that is the same or zero.
    """
    frames = len(values)
    position = np.zeros((frames, len(joints), 3))
    rotation = np.zeros((frames, len(joints), 3, 3))
    column = 0
    for j, joint in enumerate(joints):
        own = dict(zip(joint.channels, values[:, column : column + len(joint.channels)].T, strict=True))
        column += len(joint.channels)
        way = np.stack(
            [own.get(f"{axis}position", np.full(frames, joint.offset[i])) for i, axis in enumerate(_AXES)],
            axis=-1,
        )
        turn = _rotation(own, frames)
        if joint.parent < 0:
            position[:, j], rotation[:, j] = way, turn
        else:
            parent = rotation[:, joint.parent]
            position[:, j] = position[:, joint.parent] + (parent @ way[..., None])[..., 0]
            rotation[:, j] = parent @ turn
    return Placed(position, rotation)


def _rotation(channels: dict[str, Float[np.ndarray, " f"]], frames: int) -> Float[np.ndarray, "f 3 3"]:
    """The product of a joint's rotations in the order of its channels."""
    turns = {name[0].upper(): angles for name, angles in channels.items() if name.endswith("rotation")}
    if not turns:
        return np.broadcast_to(np.eye(3), (frames, 3, 3))
    return Rotation.from_euler("".join(turns), np.stack([*turns.values()], -1), degrees=True).as_matrix()
