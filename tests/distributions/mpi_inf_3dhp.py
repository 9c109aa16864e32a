"""A miniature of MPI-INF-3DHP's distribution: true to its formats, with invented cameras, people and movements.

In every picture the frame's number is drawn on the body (`drawn_number` reads it back from a crop) and
coloured discs mark some joints (`marker`). Pixels are counted at their edges: the middle of the first is 0.5.
"""

import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import scipy.io
import simplejpeg
from PIL import Image, ImageDraw

from datasets.mpi_inf_3dhp import defects
from datasets.mpi_inf_3dhp.joints import ANNOTATED, TEST_SET
from tests.datasets import videos

CAMERAS = 14
ZIPS = {
    "vnect_cameras.zip": (0, 1, 2, 4, 5, 6, 7, 8),
    "other_angled_cameras.zip": (3, 9, 10),
    "ceiling_cameras.zip": (11, 12, 13),
}
# Colour by joint of `mcss_jax.skeleton.JOINTS`, radius in pixels.
MARKERS = {"Head": (255, 40, 40), "LWrist": (40, 255, 40), "RFoot": (60, 60, 255)}
MARKED = {"Head": "head_top", "LWrist": "l_wrist", "RFoot": "r_ankle"}
RADIUS = 4.0
# Joints of both legs that `bent` moves, and how far (millimetres).
BENT, BENT_BY = ("knee", "ankle"), (40.0, 0.0, -60.0)
# The number's bits lie in a square of 3 x 3 cells about the spine.
CELL, BITS = 8, 9

# Left-hand joints and those in the middle of a person who stands with arms spread, millimetres: left, up, ahead.
_BODY = {
    "pelvis": (0, 950, 0), "spine": (0, 1060, 0), "spine2": (0, 1150, 0), "spine3": (0, 1280, 0),
    "spine4": (0, 1400, 0), "neck": (0, 1500, 10), "head": (0, 1590, 30), "head_top": (0, 1780, 30),
    "l_clavicle": (60, 1470, 0), "l_shoulder": (190, 1450, 0), "l_elbow": (420, 1400, 60),
    "l_wrist": (600, 1500, 130), "l_hand": (660, 1540, 150), "l_hip": (110, 950, 0), "l_knee": (150, 520, 60),
    "l_ankle": (190, 90, 0), "l_foot": (200, 40, 90), "l_toe": (205, 20, 170),
}  # fmt: skip
_LIMBS = (
    ("head_top", "neck"), ("neck", "pelvis"),
    *((f"{side}_{a}", f"{side}_{b}") for side in "lr" for a, b in
      (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "toe"))),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What to write. Takes are named `S1/Seq1`, test sequences `TS1`.

    Attributes:
      sequences, tests: those that there are.
      cameras: whose videos there are; annotation and calibration always hold all fourteen.
      frames: length of the training videos and of the field `frames`.
      test_frames: of a test sequence's annotation.
      size: of the pictures, pixels; TS5 and TS6 are wider.
      layout: videos loose, in their zips, or as folders of JPEG files.
      fast: sequences of 50 frames per second; the others have 25.
      surplus: rows of the annotation arrays beyond `frames`, without meaning.
      lacking: frames that the videos of a sequence, or one of them, lack at their end.
      exchanged: first and last frame between which left and right are exchanged.
      spare_pictures: of a test sequence, beyond its annotations.
      bent: sequences whose knees and ankles of `univ_annot3` are not those of `annot3`.
      close_up: cameras with so long a lens that joints lie outside the picture.
    """

    sequences: tuple[str, ...] = ("S1/Seq1", "S1/Seq2", "S2/Seq1", "S7/Seq1")
    tests: tuple[str, ...] = ("TS1",)
    cameras: tuple[int, ...] = (0, 2, 4, 7, 8)
    frames: int = 20
    test_frames: int = 12
    size: int = 200
    layout: Literal["loose", "zipped", "pictures"] = "loose"
    fast: tuple[str, ...] = ("S1/Seq2", "S3/Seq1", "S3/Seq2", "S5/Seq1", "S5/Seq2")
    surplus: int = 3
    lacking: dict[str | tuple[str, int], int] = dataclasses.field(default_factory=dict)
    exchanged: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    spare_pictures: dict[str, int] = dataclasses.field(default_factory=dict)
    bent: tuple[str, ...] = ()
    close_up: tuple[int, ...] = ()

    def rate(self, take: str) -> int:
        """Frames per second."""
        return 50 if take in self.fast else 25

    def picture_size(self, take: str) -> tuple[int, int]:
        """Width and height."""
        return (self.size * 8 // 5, self.size) if take in ("TS5", "TS6") else (self.size, self.size)


def defective(**changes: object) -> Distribution:
    """Every defect of docs/data_formats.md#mpi-inf-3dhp-known-defects, in miniature."""
    return dataclasses.replace(
        Distribution(
            sequences=("S3/Seq1", "S4/Seq2", "S6/Seq2"),
            tests=("TS3", "TS4", "TS6"),
            lacking={"S3/Seq1": 1, ("S6/Seq2", 2): 12},
            exchanged={"S4/Seq2": (6, 13)},
            spare_pictures={"TS3": 1, "TS4": 2},
            bent=("TS6",),
        ),
        **changes,  # type: ignore[arg-type]
    )


def known_defects(what: Distribution) -> tuple[defects.Defect, ...]:
    """The table of known defects with the stretches that the miniature has exchanged."""
    return tuple(
        dataclasses.replace(defect, exchanged=what.exchanged[defect.take]) if defect.exchanged else defect
        for defect in defects.DEFECTS
    )


def write(folder: Path, what: Distribution = Distribution()) -> None:
    """Writes a distribution into `folder` (which is made): `S1/Seq1/...`, `mpi_inf_3dhp_test_set/TS1/...`."""
    for take in what.sequences:
        target = folder / take
        (target / "imageSequence").mkdir(parents=True)
        (target / "camera.calibration").write_text(calibration(what, take))
        write_annotation(target / "annot.mat", what, take)
        for camera in what.cameras:
            count = what.frames - what.lacking.get((take, camera), what.lacking.get(take, 0))
            pictures = [picture(what, take, camera, frame) for frame in range(count)]
            _write_pictures(target / "imageSequence", what, take, camera, pictures)
    for take in what.tests:
        target = folder / "mpi_inf_3dhp_test_set" / take
        (target / "imageSequence").mkdir(parents=True)
        write_test_annotation(target / "annot_data.mat", what, take)
        for frame in range(what.test_frames + what.spare_pictures.get(take, 0)):
            _write_jpeg(target / "imageSequence" / f"img_{frame + 1:06d}.jpg", picture(what, take, 0, frame))


# -------- people and cameras


def world_pose(take: str, frame: float) -> np.ndarray:
    """[28, 3] in the order of `annot.mat`, millimetres, y up: turns and waves, about 20 mm from frame to frame."""
    seed = sum(map(ord, take))
    sides = {name: np.array(place, float) for name, place in _BODY.items()}
    sides |= {f"r{name[1:]}": place * [-1, 1, 1] for name, place in sides.items() if name.startswith("l_")}
    joints = np.stack([sides[name] for name in ANNOTATED])
    lift = 25.0 * np.sin(0.35 * frame + seed)
    for side, sign in (("l", 1), ("r", -1)):
        for joint, share in (("elbow", 0.5), ("wrist", 1.0), ("hand", 1.1)):
            joints[ANNOTATED.index(f"{side}_{joint}"), 1] += sign * share * 4 * lift
    angle = seed + 0.03 * frame
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return joints @ turn.T + [60 * np.sin(0.1 * frame + seed), 0, 60 * np.cos(0.08 * frame + seed)]


def camera(what: Distribution, take: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics [3, 3] and extrinsics [3, 4] of an invented camera; every sequence has others."""
    seed = sum(map(ord, take))
    around = 2 * np.pi * (number + 0.37 * seed) / CAMERAS
    height = (1150.0, 600.0, 2300.0)[number % 3] if number < 11 else 3100.0
    away = 3500.0 + 90 * ((seed * number) % 4)
    place = np.array([away * np.cos(around), height, away * np.sin(around)])
    ahead = np.array([0.0, 900.0, 0.0]) - place
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    width, height_px = what.picture_size(take)
    focal = what.size * (3.0 if number in what.close_up else 1.45) * (1 + 0.01 * (number % 4))
    intrinsics = np.array([[focal, 0, width / 2 + 3.25], [0, 1.01 * focal, height_px / 2 - 2.5], [0, 0, 1]])
    return intrinsics, np.concatenate([rotation, -(rotation @ place)[:, None]], 1)


def annotated(what: Distribution, take: str, number: int, frames: int) -> dict[str, np.ndarray]:
    """True `annot2`, `annot3`, `univ_annot3` [f, 28, k] in one camera."""
    intrinsics, extrinsics = camera(what, take, number)
    world = np.stack([world_pose(take, frame) for frame in range(frames)])
    annot3 = world @ extrinsics[:, :3].T + extrinsics[:, 3]
    pixels = annot3 @ intrinsics.T
    root = annot3[:, ANNOTATED.index("pelvis"), None]
    universal = root + (annot3 - root) * universal_scale(take)
    if take in what.bent:
        universal[:, [ANNOTATED.index(f"{side}_{joint}") for side in "lr" for joint in BENT]] += BENT_BY
    return {"annot2": pixels[..., :2] / pixels[..., 2:], "annot3": annot3, "univ_annot3": universal}


def universal_scale(take: str) -> float:
    """Of `univ_annot3`, one for each sequence."""
    return 0.94 + 0.01 * (sum(map(ord, take)) % 5)


# -------- files of numbers


def calibration(what: Distribution, take: str) -> str:
    """The text of `camera.calibration`, with its uneven spacing."""
    lines = ["Skeletool Camera Calibration File V1.0"]
    width, height = what.picture_size(take)
    for number in range(CAMERAS):
        intrinsics, extrinsics = camera(what, take, number)
        square = [np.eye(4), np.eye(4)]
        square[0][:3, :3], square[1][:3] = intrinsics, extrinsics
        inside, outside = (" ".join(f"{value:.10g}" for value in matrix.ravel()) for matrix in square)
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            f"  size        {width} {height}",
            "  animated    0",
            f"  intrinsic   {inside} ",
            f"  extrinsic   {outside} ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def write_annotation(path: Path, what: Distribution, take: str) -> None:
    """`annot.mat`, MATLAB v5: a 14 x 1 cell for each field."""
    cells = {field: np.empty((CAMERAS, 1), object) for field in ("annot2", "annot3", "univ_annot3")}
    for number in range(CAMERAS):
        for field, values in annotated(what, take, number, what.frames).items():
            if take in what.exchanged:
                first, last = what.exchanged[take]
                values[first : last + 1] = values[first : last + 1, exchanged_order(ANNOTATED)]
            junk = np.full((what.surplus, *values.shape[1:]), 12345.0)
            cells[field][number, 0] = np.concatenate([values, junk]).reshape(len(values) + len(junk), -1)
    scipy.io.savemat(
        path, {**cells, "cameras": np.arange(CAMERAS)[:, None], "frames": np.arange(what.frames)[:, None]}
    )


def exchanged_order(names: tuple[str, ...]) -> list[int]:
    """Indices that exchange the left and right of `names`."""
    other = {"l_": "r_", "r_": "l_"}
    return [names.index(other.get(name[:2], name[:2]) + name[2:]) for name in names]


def counts(frame: int) -> bool:
    """Whether the frame of a test sequence counts."""
    return frame % 3 != 2


def activity_number(frame: int) -> int:
    """The number of its activity, 1 to 7."""
    return frame % 7 + 1


def write_test_annotation(path: Path, what: Distribution, take: str) -> None:
    """`annot_data.mat`, MATLAB v7.3: HDF5 behind a header of 512 bytes."""
    order = [ANNOTATED.index(name) for name in TEST_SET]
    with h5py.File(path, "w", userblock_size=512) as file:
        for field, values in annotated(what, take, 0, what.test_frames).items():
            file[field] = values[:, None, order]
        frames = range(what.test_frames)
        file["valid_frame"] = np.array([[float(counts(frame))] for frame in frames])
        file["activity_annotation"] = np.array([[float(activity_number(frame))] for frame in frames])
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


# -------- pictures


def picture(what: Distribution, take: str, number: int, frame: int) -> np.ndarray:
    """uint8[h, w, 3]: a person before a wall, the frame's number on the body, discs at some joints."""
    width, height = what.picture_size(take)
    intrinsics, extrinsics = camera(what, take, number)
    pixels = (world_pose(take, frame) @ extrinsics[:, :3].T + extrinsics[:, 3]) @ intrinsics.T
    at = dict(zip(ANNOTATED, pixels[:, :2] / pixels[:, 2:], strict=True))
    rng = np.random.default_rng(number)
    wall = rng.integers(120, 160, (height // 8 + 1, width // 8 + 1)).astype(np.uint8)
    image = Image.fromarray(np.repeat(wall.repeat(8, 0).repeat(8, 1)[:height, :width, None], 3, -1))
    draw = ImageDraw.Draw(image)
    for a, b in _LIMBS:
        thick = 34 if b == "pelvis" else 12
        draw.line([tuple(at[a]), tuple(at[b])], fill=(40, 40, 40), width=thick * what.size // 200)
    canvas = np.asarray(image).astype(float)
    for u, v, bit in _cells(at["spine"], frame):
        canvas[max(v, 0) : max(v + CELL, 0), max(u, 0) : max(u + CELL, 0)] = 245 if bit else 10
    y, x = np.mgrid[:height, :width] + 0.5
    for joint, colour in MARKERS.items():
        u, v = at[MARKED[joint]]
        cover = np.clip(0.5 + RADIUS - np.hypot(x - u, y - v), 0, 1)[..., None]
        canvas += cover * (np.array(colour) - canvas)
    return np.clip(canvas.round(), 0, 255).astype(np.uint8)


def _cells(spine: np.ndarray, frame: int) -> Iterator[tuple[int, int, int]]:
    left, top = (round(float(value)) - CELL * 3 // 2 for value in spine)
    for bit in range(BITS):
        yield left + CELL * (bit % 3), top + CELL * (bit // 3), frame >> bit & 1


def drawn_number(crop: np.ndarray, box: np.ndarray, spine: np.ndarray) -> int:
    """The frame's number in a square crop of a picture.

    Args:
      crop: uint8[s, s, 3].
      box: [4], the crop in the picture.
      spine: [2], the joint `Spine` in the picture.
    """
    scale = len(crop) / (box[2] - box[0])
    number = 0
    for bit, (u, v, _) in enumerate(_cells(spine, 0)):
        x, y = (int((value + CELL / 2 - low) * scale) for value, low in ((u, box[0]), (v, box[1])))
        number |= int(crop[y - 1 : y + 2, x - 1 : x + 2].mean() > 128) << bit
    return number


def marker(crop: np.ndarray, box: np.ndarray, joint: str) -> np.ndarray:
    """[2], the middle of the disc at one of `MARKERS` in a square crop, in pixels of the picture."""
    colour = np.array(MARKERS[joint], float)
    strong = crop.astype(float)[..., colour.argmax()] - np.delete(crop, colour.argmax(), -1).max(-1)
    weight = np.clip(strong - 60, 0, None)
    y, x = np.mgrid[: len(crop), : len(crop)] + 0.5
    middle = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
    return box[:2] + middle * (box[2] - box[0]) / len(crop)


def _write_pictures(
    folder: Path, what: Distribution, take: str, number: int, pictures: list[np.ndarray]
) -> None:
    if what.layout == "pictures":
        (folder / f"video_{number}").mkdir()
        for frame, picture in enumerate(pictures):
            _write_jpeg(folder / f"video_{number}" / f"img_{frame + 1:06d}.jpg", picture)
        return
    video = videos.write(folder / f"video_{number}.avi", np.stack(pictures), rate=what.rate(take))
    if what.layout == "zipped":
        name = next(name for name, cameras in ZIPS.items() if number in cameras)
        with zipfile.ZipFile(folder / name, "a") as archive:
            archive.write(video, video.name)
        video.unlink()


def _write_jpeg(path: Path, picture: np.ndarray) -> None:
    path.write_bytes(
        simplejpeg.encode_jpeg(np.ascontiguousarray(picture), quality=95, colorsubsampling="444")
    )
