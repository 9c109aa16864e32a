"""BVH files with invented motion: a skeleton of centimetres that faces +z, its left towards +x, and a writer."""

from pathlib import Path

import numpy as np

from datasets.synthetic_multiview.bvh import Joint

POSITION = ("xposition", "yposition", "zposition")
ROTATION = ("zrotation", "xrotation", "yrotation")

# Name, parent, offset; a T-pose at rest.
_LEG = (("UpLeg", "Hips", (9, -5, 0)), ("Leg", "UpLeg", (0, -42, 0)), ("Foot", "Leg", (0, -41, 0)),
        ("ToeBase", "Foot", (0, -7, 14)))  # fmt: skip
_ARM = (("Shoulder", "Spine1", (4, 18, 0)), ("Arm", "Shoulder", (13, 1, 0)), ("ForeArm", "Arm", (28, 0, 0)),
        ("Hand", "ForeArm", (25, 0, 0)))  # fmt: skip
_BACK = (("Hips", "", (0, 0, 0)), ("Spine", "Hips", (0, 10, -1)), ("Spine1", "Spine", (0, 16, 0)),
         ("Neck", "Spine1", (0, 22, 0)), ("Head", "Neck", (0, 10, 2)))  # fmt: skip
HIP_HEIGHT = 98.0  # with the toes on the floor


def skeleton() -> tuple[Joint, ...]:
    """The joints with the names of MotionBuilder, parents before children, without end sites."""
    rows: list[tuple[str, str, tuple[float, ...]]] = [*_BACK]
    for side, sign in (("Left", 1), ("Right", -1)):
        for name, parent, (x, y, z) in (*_LEG, *_ARM):
            above = parent if parent in ("Hips", "Spine1") else side + parent
            rows.append((side + name, above, (sign * x, y, z)))
    names = [name for name, _, _ in rows]
    return tuple(
        Joint(
            name,
            names.index(parent) if parent else -1,
            tuple(map(float, offset)),
            ROTATION if parent else POSITION + ROTATION,
        )
        for name, parent, offset in rows
    )


def renamed(joints: tuple[Joint, ...], names: dict[str, str]) -> tuple[Joint, ...]:
    return tuple(joint._replace(name=names.get(joint.name, joint.name)) for joint in joints)


def poses(joints: tuple[Joint, ...], frames: int, **angles: object) -> np.ndarray:
    """Channel values `[frames, channels]` of a standing person; `LeftArm_z=...` sets degrees (or `Hips_px` a place)."""
    columns = [(joint.name, channel) for joint in joints for channel in joint.channels]
    values = np.zeros((frames, len(columns)))
    values[:, columns.index((joints[0].name, "yposition"))] = HIP_HEIGHT
    for name, value in angles.items():
        joint, _, axis = name.rpartition("_")
        kind = "position" if axis.startswith("p") else "rotation"
        values[:, columns.index((joint, axis[-1] + kind))] = value
    return values


def moving(joints: tuple[Joint, ...], frames: int, seed: int = 0) -> np.ndarray:
    """Everything swings a little, knees and elbows bend as they can, the person wanders about."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 6, frames)[:, None]
    columns = [(joint.name, channel) for joint in joints for channel in joint.channels]
    speed, phase = rng.uniform(0.5, 2, len(columns)), rng.uniform(0, 6, len(columns))
    values = 12 * np.sin(time * speed + phase)
    for i, (name, channel) in enumerate(columns):
        if channel == "yposition":
            values[:, i] = HIP_HEIGHT
        if channel == "xrotation" and name.endswith("Leg") and "Up" not in name:
            values[:, i] = 30 + 25 * np.sin(time[:, 0] * speed[i])
        if channel == "zrotation" and name.endswith("Arm") and "Fore" not in name:
            values[:, i] += -60 if name.startswith("Left") else 60
        if channel == "yrotation" and name.endswith("ForeArm"):
            values[:, i] = (30 + 25 * np.sin(time[:, 0] * speed[i])) * (-1 if name.startswith("Left") else 1)
    return values


def text(joints: tuple[Joint, ...], values: np.ndarray, frame_time: float = 0.05) -> str:
    """The file's text; leaves get an end site."""
    lines = ["HIERARCHY"]

    def branch(index: int, depth: int) -> None:
        joint, tabs = joints[index], "\t" * depth
        lines.append(f"{tabs}{'JOINT' if depth else 'ROOT'} {joint.name}")
        lines.extend((f"{tabs}{{", f"{tabs}\tOFFSET {' '.join(map(repr, joint.offset))}"))
        spelled = (channel.replace(channel[0], channel[0].upper(), 1) for channel in joint.channels)
        lines.append(f"{tabs}\tCHANNELS {len(joint.channels)} {' '.join(spelled)}")
        children = [i for i, other in enumerate(joints) if other.parent == index]
        for child in children:
            branch(child, depth + 1)
        if not children:
            lines.extend((f"{tabs}\tEnd Site", f"{tabs}\t{{", f"{tabs}\t\tOFFSET 0 5 0", f"{tabs}\t}}"))
        lines.append(f"{tabs}}}")

    branch(0, 0)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {frame_time!r}"]
    # The walk above is depth first; rows follow it.
    lines += [" ".join(map(repr, row)) for row in values[:, _columns(joints)].tolist()]
    return "\n".join(lines) + "\n"


def _columns(joints: tuple[Joint, ...]) -> list[int]:
    """Columns of `values` in the order in which joints are written."""
    first = np.cumsum([0, *(len(joint.channels) for joint in joints)])

    def below(index: int) -> list[int]:
        own = list(range(first[index], first[index + 1]))
        return own + [c for i, other in enumerate(joints) if other.parent == index for c in below(i)]

    return below(0)


def write(file: Path, joints: tuple[Joint, ...], values: np.ndarray, frame_time: float = 0.05) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text(joints, values, frame_time))
    return file
