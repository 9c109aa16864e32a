"""`camera.calibration`: the cameras of one training sequence, as text (docs/data_formats.md)."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mcss_jax.errors import UserError

HEADER = "Skeletool Camera Calibration File"
# A rotation printed with seven digits is orthonormal to about 1e-6.
ORTHONORMAL = 1e-3
# Values after each keyword of a camera's seven lines.
FIELDS = {"name": 1, "sensor": 2, "size": 2, "animated": 1, "intrinsic": 16, "extrinsic": 16, "radial": 1}


@dataclasses.dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
      size: width and height of its pictures, pixels.
      intrinsics: pixels.
      extrinsics: world to camera, [R | t], millimetres; the world's y points up.
    """

    size: tuple[int, int]
    intrinsics: Float[np.ndarray, "3 3"]
    extrinsics: Float[np.ndarray, "3 4"]


def read_calibration(text: str, name: str) -> dict[int, Camera]:
    """The cameras in `text`, by number. Spacing, blank lines and trailing blanks do not matter.

    Args:
      name: of the file, for messages.

    Raises:
      UserError: another first line, a camera without one of its seven lines, values that are missing or no
        numbers, a camera twice, lens distortion or a moving camera (neither occurs in the distribution), a
        rotation that is none.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or not " ".join(lines[0]).startswith(HEADER):
        first_line = " ".join(lines[0])[:60] if lines else "nothing"
        raise UserError(f"{name}: begins with {first_line!r}; {HEADER!r} was expected")
    cameras: dict[int, Camera] = {}
    body = lines[1:]
    for first in range(0, len(body), len(FIELDS)):
        number, camera = _camera(body[first : first + len(FIELDS)], name)
        if number in cameras:
            raise UserError(f"{name}: camera {number} is there twice")
        cameras[number] = camera
    return cameras


def _camera(lines: list[list[str]], name: str) -> tuple[int, Camera]:
    keywords = [line[0] for line in lines]
    if keywords != list(FIELDS):
        raise UserError(
            f"{name}: a camera's lines begin with {', '.join(keywords)}; {', '.join(FIELDS)} were expected"
        )
    values = {line[0]: _numbers(line, name) for line in lines}
    number = int(values["name"][0])
    if values["animated"].any() or values["radial"].any():
        raise UserError(
            f"{name}: camera {number} moves or has lens distortion "
            f"(animated {values['animated'][0]:g}, radial {values['radial'][0]:g}); 0 and 0 were expected"
        )
    intrinsics = values["intrinsic"].reshape(4, 4)[:3, :3]
    extrinsics = values["extrinsic"].reshape(4, 4)[:3]
    rotation = extrinsics[:, :3]
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > ORTHONORMAL or np.linalg.det(rotation) < 0:
        raise UserError(f"{name}: the extrinsic matrix of camera {number} does not begin with a rotation")
    width, height = values["size"]
    return number, Camera((int(width), int(height)), intrinsics, extrinsics)


def _numbers(line: list[str], name: str) -> Float[np.ndarray, " k"]:
    keyword, *words = line
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.zeros(0)
    if len(values) != FIELDS[keyword] or not np.isfinite(values).all():
        raise UserError(
            f"{name}: the line {' '.join(line)[:80]!r} should hold {FIELDS[keyword]} number(s) after {keyword!r}"
        )
    return values
