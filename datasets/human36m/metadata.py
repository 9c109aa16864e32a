"""Human3.6M's own `metadata.xml`: which file is which action, how long it is, and the cameras.

The file comes with the owners' code, not with the data, and may not be passed on; every user reads their own
(docs/data_formats.md#human36m-metadataxml).
"""

import dataclasses
import math
import re
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float

from mcss_jax.errors import UserError

SUBJECTS = tuple(f"S{number}" for number in range(1, 12))
READ = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
"""Who has poses. What the tables say of the others is passed over unread: nothing vouches for it."""
MISCELLANEOUS = 1  # the action of the _ALL takes, which are passed over too
CAMERAS = 4
PLACEMENT, LENS = 6, 9  # numbers of a camera: angles and centre; focal lengths, principal point, distortion
POSES_PER_SAMPLE = 4  # motion capture runs at 200 Hz, poses and videos at 50


@dataclasses.dataclass(frozen=True)
class Camera:
    """One camera as one subject was filmed. The numbers stay as they were read, so that they compare exactly.

    Attributes:
      name: the camera's id.
      placement: three angles a, b, g (radians) and the camera's centre in the world (millimetres).
      lens: fx, fy, cx, cy (pixels), k1, k2, k3, p1, p2 of Human3.6M's own model.
    """

    name: str
    placement: tuple[float, ...]
    lens: tuple[float, ...]

    @property
    def extrinsics(self) -> Float[np.ndarray, "3 4"]:
        """World to camera, [R | -R C] with R = Rx(a) Ry(b) Rz(g), millimetres."""
        a, b, g = self.placement[:3]
        rotation = _about(0, a) @ _about(1, b) @ _about(2, g)
        centre = np.array(self.placement[3:])
        return np.column_stack([rotation, -rotation @ centre])

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """Camera matrix, pixels."""
        fx, fy, cx, cy = self.lens[:4]
        return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])

    @property
    def distortion(self) -> Float[np.ndarray, "5"]:
        """k1, k2, k3, p1, p2, as `mcss_jax.geometry.project` takes them."""
        return np.array(self.lens[4:])


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One take of one subject.

    Attributes:
      action, subaction: ids; the prefix does not tell them.
      prefix: its files are called `<prefix>.cdf`, `<prefix>.<camera>.mp4`.
      poses: how many poses there are, a quarter of the motion capture samples.
      video_frames: how many frames each camera's video holds.
    """

    action: int
    subaction: int
    prefix: str
    poses: int
    video_frames: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What `metadata.xml` says.

    Attributes:
      action_names: by action id.
      cameras: ids by index.
      sequences: the takes of each subject of `READ` in the order of the file, by subject (`S1`).
      placements: by camera and subject, angles and centre (`Camera.placement`).
      lenses: by camera (`Camera.lens`).
    """

    action_names: dict[int, str]
    cameras: tuple[str, ...]
    sequences: dict[str, tuple[Sequence, ...]]
    placements: Float[np.ndarray, "4 11 6"]
    lenses: Float[np.ndarray, "4 9"]

    def camera(self, subject: str, name: str) -> Camera:
        """The camera `name` as it filmed `subject`. Raises UserError for an unknown one of either."""
        if subject not in SUBJECTS or name not in self.cameras:
            raise UserError(
                f"metadata.xml has no camera {name!r} for subject {subject!r}; it has {', '.join(self.cameras)} "
                f"for {SUBJECTS[0]} to {SUBJECTS[-1]}"
            )
        c, s = self.cameras.index(name), SUBJECTS.index(subject)
        return Camera(name, tuple(self.placements[c, s].tolist()), tuple(self.lenses[c].tolist()))


def parse(data: bytes, name: str = "metadata.xml") -> Metadata:
    """Reads the content of `metadata.xml`; `name` is what error messages call it.

    Raises:
        UserError: not XML, a document type (which could make a small file huge), or nodes of another shape.
    """
    builder = _NoDocumentType()
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=builder))
    except (
        ElementTree.ParseError,
        ValueError,
        LookupError,
    ) as error:  # the latter two: an encoding that is not read
        raise UserError(
            f"{name} is not readable XML ({error}); unpack it from the code bundle again"
        ) from error
    except _DocumentType as error:
        raise UserError(
            f"{name} declares a document type, which Human3.6M's does not; it is refused"
        ) from error
    try:
        action_names = {k: _text(node) for k, node in enumerate(_child(root, "actionnames"), 1)}
        cameras = tuple(_text(node) for node in _child(root, "dbcameras/index2id"))
        if len(set(cameras)) != CAMERAS:
            raise _Malformed(f"dbcameras/index2id lists {len(cameras)} cameras", f"{CAMERAS} different ids")
        numbers = _numbers(_child(root, "w0"), "w0", CAMERAS * (len(SUBJECTS) * PLACEMENT + LENS))
        split = CAMERAS * len(SUBJECTS) * PLACEMENT
        return Metadata(
            action_names=action_names,
            cameras=cameras,
            sequences=_sequences(_child(root, "mapping"), _child(root, "frames"), action_names),
            placements=numbers[:split].reshape(CAMERAS, len(SUBJECTS), PLACEMENT),
            lenses=numbers[split:].reshape(CAMERAS, LENS),
        )
    except _Malformed as error:
        raise UserError(f"{name}: {error}") from error


class _Malformed(Exception):
    """A node of another shape: what was found, what was expected."""

    def __init__(self, content: str, expected: str) -> None:
        super().__init__(f"{content}; Human3.6M's own has {expected}")


class _DocumentType(Exception):
    """The file declares a document type."""


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise _DocumentType


def _sequences(
    mapping: ElementTree.Element, frames: ElementTree.Element, action_names: dict[int, str]
) -> dict[str, tuple[Sequence, ...]]:
    """Joins the two tables: column k of `frames` belongs to row k of `mapping`.

    Strict about what is used: the takes of `READ`.
    """
    header, *rows = [[_text(cell) for cell in row] for row in mapping] if len(mapping) else [[]]
    if tuple(header[2:]) != SUBJECTS:
        raise _Malformed(
            f"the first row of mapping names {' '.join(header[2:]) or 'nobody'}", "S1 to S11 after two ids"
        )
    takes = rows[:-2]  # below them: nicknames of the subjects, and picture sizes
    if len(frames) != len(SUBJECTS):
        raise _Malformed(f"frames has {len(frames)} rows", "one for each of 11 subjects")
    sequences: dict[str, list[Sequence]] = {subject: [] for subject in READ}
    for k, row in enumerate(takes, 1):
        if row[:1] == [str(MISCELLANEOUS)]:
            continue
        if len(row) != len(header) or not (row[0].isdecimal() and row[1].isdecimal()):
            raise _Malformed(f"row {k} of mapping reads {' | '.join(row)!r}", "two ids and 11 file names")
        if int(row[0]) not in action_names:
            raise _Malformed(f"row {k} of mapping names action {row[0]}", "an action that actionnames lists")
        for subject, counts, prefix in zip(SUBJECTS, frames, row[2:], strict=True):
            if subject not in READ:
                continue
            if len(counts) != len(takes) + 1:
                raise _Malformed(
                    f"frames has {len(counts)} cells for {subject}",
                    f"one for each of {len(takes) + 1} rows of mapping",
                )
            if not prefix:  # not filmed
                continue
            if not re.fullmatch(r"[\w-]+( [\w-]+)*", prefix, re.ASCII):
                raise _Malformed(f"row {k} of mapping names a file {prefix!r}", "letters, digits and spaces")
            if prefix in {sequence.prefix for sequence in sequences[subject]}:
                raise _Malformed(f"mapping names {prefix!r} twice for {subject}", "a name for each take")
            numbers = _numbers(counts[k], f"frames of {subject} {prefix!r}", CAMERAS + 1).astype(int).tolist()
            sequences[subject].append(
                Sequence(
                    int(row[0]), int(row[1]), prefix, numbers[-1] // POSES_PER_SAMPLE, tuple(numbers[:-1])
                )
            )
    return {subject: tuple(listed) for subject, listed in sequences.items()}


def _child(root: ElementTree.Element, path: str) -> ElementTree.Element:
    node = root.find(path)
    if node is None:
        raise _Malformed(f"there is no node {path}", "one")
    return node


def _text(node: ElementTree.Element) -> str:
    return (node.text or "").strip()


def _numbers(node: ElementTree.Element, what: str, count: int) -> Float[np.ndarray, " count"]:
    """The finite numbers of a text `[ ... ]`."""
    text = _text(node)
    try:
        values = [float(word) for word in text[1:-1].split()] if text[:1] + text[-1:] == "[]" else []
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise _Malformed(f"{what} reads {text[:60]!r}", f"{count} numbers in brackets")
    return np.array(values)


def _about(axis: int, angle: float) -> Float[np.ndarray, "3 3"]:
    """Right-handed rotation about a coordinate axis."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[[i, j], [i, j]] = math.cos(angle)
    rotation[j, i] = math.sin(angle)
    rotation[i, j] = -rotation[j, i]
    return rotation
