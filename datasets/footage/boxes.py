"""Person boxes: read from a CSV file, filled in over time; the square crop they make; the finder's front
door.

Boxes are (x0, y0, x1, y1) in pixels of the original frame, at pixel edges: x1 - x0 is the width.
"""

import csv
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from datasets.footage.static_camera import Boxes, PersonBoxes, find_static
from mcss_jax.crop import crop_resize
from mcss_jax.errors import UserError

__all__ = ["PersonBoxes", "Track", "crop_resize", "find_static", "interpolate", "read_csv", "square"]


class Track(NamedTuple):
    """Boxes of one person in one camera. frame: index from 0, ascending; box: one per frame."""

    frame: Int[np.ndarray, " k"]
    box: Float[np.ndarray, "k 4"]


JOINT_MARGIN = 0.1
# No frame or pixel has a number beyond this one.
LARGEST = 2.0**31

CAMERA, FRAME = ("camera", "file", "file_name", "image"), ("frame", "frame_index", "image_id")
CORNERS = {
    ("x0", "y0", "x1", "y1"): "corners",
    ("x", "y", "w", "h"): "sizes",
    ("x", "y", "width", "height"): "sizes",
    ("bb_left", "bb_top", "bb_width", "bb_height"): "mot",
}
EXTRA = ("id", "track_id", "score", "confidence", "conf", "class", "category_id", "visibility", "vis", "z")
MOT = ("frame", "id", "bb_left", "bb_top", "bb_width", "bb_height", "conf", "x", "y", "z")
ACCEPTED = (
    f"accepted are one of {'/'.join(FRAME)}, four of "
    + " or ".join(",".join(names) for names in CORNERS)
    + f", and optionally one of {'/'.join(CAMERA)} and {', '.join(EXTRA)}; or MOT without a header "
    f"({','.join(MOT)})"
)


def read_csv(path: str | Path) -> dict[str, Track]:
    """Read person boxes; one track per camera, under "" when the file names no camera.

    Three layouts, told apart by their columns (in any order, capitals ignored):

    - own: `camera` (or `file`; name or file name), `frame`, `x0`, `y0`, `x1`, `y1`; frames count from 0;
    - COCO-like: `frame` (or `image_id`), `x`, `y`, `w`, `h`: corner and size; frames count from 0;
    - MOT: `frame`, `id`, `bb_left`, `bb_top`, `bb_width`, `bb_height`, ..., also without a header, as
      trackers write it; frames count from 1, as that format has it.

    Where several people (`id`) are listed, the one with the largest summed area is taken, with a warning; of
    several boxes for one frame, the largest. Rows of zero confidence count as absent.

    Raises:
        UserError: there is no such file; another kind of file, unknown or missing columns (what was found, what is
            accepted), no rows, a value that is not a number or absurd, a frame that is no count, a box without area.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; a CSV file of person boxes was expected.")
    rows = _rows(path)
    if not rows:
        raise UserError(f"{path}: the file is empty; {ACCEPTED}.")
    header = tuple(cell.lower() for cell in rows[0])
    if all(_is_number(cell) for cell in rows[0]) and 6 <= len(header) <= len(MOT):
        header, first = MOT[: len(header)], 0
    else:
        first = 1
    layout = next((names for names in CORNERS if set(names) <= set(header)), None)
    frame_name = next((name for name in FRAME if name in header), None)
    # x, y, z of a MOT file are world coordinates that nobody fills in.
    accepted = {
        *CAMERA,
        *FRAME,
        *EXTRA,
        *(layout or ()),
        *(MOT if layout and CORNERS[layout] == "mot" else ()),
    }
    if layout is None or frame_name is None or not set(header) <= accepted or len(set(header)) < len(header):
        raise UserError(f"{path}: columns {','.join(rows[0])} are not understood; {ACCEPTED}.")
    tracks: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    camera_name = next((name for name in CAMERA if name in header), None)
    first_frame = 1 if CORNERS[layout] == "mot" else 0
    for line, cells in enumerate(rows[first:], first + 1):
        row = dict(zip(header, cells, strict=False))
        numbers = [row.get(name, "") for name in (frame_name, *layout)]
        if len(cells) != len(header) or not all(_is_number(cell) for cell in numbers):
            raise UserError(
                f"{path}: row {line} reads {','.join(cells)!r}; {len(header)} values were expected, "
                f"with numbers below {LARGEST:.0f} for {', '.join((frame_name, *layout))}."
            )
        if any(
            _is_number(row.get(name, "")) and float(row[name]) == 0.0
            for name in ("conf", "confidence", "score")
        ):
            continue
        frame, a, b, c, d = (float(cell) for cell in numbers)
        if frame < first_frame or not frame.is_integer():
            raise UserError(
                f"{path}: row {line} reads {','.join(cells)!r}; a whole number from {first_frame} was expected for "
                f"{frame_name}."
            )
        if CORNERS[layout] != "corners":
            c, d = a + c, b + d
        if not (c > a and d > b):
            raise UserError(f"{path}: row {line} reads {','.join(cells)!r}, a box without area.")
        index = int(frame) - first_frame
        person = row.get("id", row.get("track_id", ""))
        track = tracks.setdefault(row.get(camera_name or "", ""), {}).setdefault(person, {})
        box = np.array([a, b, c, d])
        if index not in track or _area(box) > _area(track[index]):
            track[index] = box
    if not tracks:
        raise UserError(f"{path}: holds no box (rows: {len(rows) - first}); at least one was expected.")
    return {camera: _largest(path, camera, people) for camera, people in tracks.items()}


def interpolate(
    known_times: Float[np.ndarray, " k"],
    known: Float[np.ndarray, "k 4"],
    times: Float[np.ndarray, " f"],
    limit: float = 1.0,
) -> Boxes:
    """Boxes at `times`, linear between known ones; NaN further than `limit` seconds from every known one."""
    if len(known_times) == 0:
        return np.full((len(times), 4), np.nan)
    order = np.argsort(known_times, kind="stable")
    known_times, known = known_times[order], known[order]
    filled = np.stack([np.interp(times, known_times, side) for side in known.T], axis=1)
    after = np.clip(np.searchsorted(known_times, times), 0, len(known_times) - 1)
    before = np.maximum(after - 1, 0)
    away = np.minimum(np.abs(known_times[after] - times), np.abs(times - known_times[before]))
    filled[away > limit + 1e-9] = np.nan
    return filled


def around_joints(joints: Float[np.ndarray, "*b j 2"]) -> Float[np.ndarray, "*b 4"]:
    """Boxes about joints (pixels), widened by a tenth of the longer side at every side: heads and hands stick out."""
    low, high = joints.min(axis=-2), joints.max(axis=-2)
    margin = JOINT_MARGIN * (high - low).max(axis=-1, keepdims=True)
    return np.concatenate([low - margin, high + margin], axis=-1)


def square(box: Float[np.ndarray, "... 4"], margin: float = 0.1) -> Float[np.ndarray, "... 4"]:
    """The square about a box's centre whose side is the longer one plus `margin` of it at either end."""
    box = np.asarray(box, float)
    centre = (box[..., :2] + box[..., 2:]) / 2
    half = np.max(box[..., 2:] - box[..., :2], axis=-1, keepdims=True) * (0.5 + margin)
    return np.concatenate([centre - half, centre + half], axis=-1)


def _rows(path: Path) -> list[list[str]]:
    """The file's cells, without empty rows."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8: {error}; {ACCEPTED}.") from error
    return [row for row in rows if any(row)]


def _largest(path: Path, camera: str, people: dict[str, dict[int, np.ndarray]]) -> Track:
    best = max(people, key=lambda person: sum(_area(box) for box in people[person].values()))
    if len(people) > 1:
        warnings.warn(
            f"{path}: {len(people)} people are listed{' for ' + camera if camera else ''}; id {best} is "
            "taken, "
            "who covers the largest area.",
            stacklevel=3,
        )
    order = sorted(people[best])
    return Track(np.array(order), np.stack([people[best][n] for n in order]))


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) < LARGEST
    except ValueError:
        return False
