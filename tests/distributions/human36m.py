"""Writes a miniature Human3.6M, true to format and wholly invented (`human36m_scene`)."""

import dataclasses
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import cdflib.cdfwrite
import h5py
import numpy as np

from mcss_jax import geometry
from tests.datasets import videos
from tests.distributions import human36m_scene as scene

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
POSE_SUBJECTS = ("S1", "S5", "S6", "S7", "S8", "S9", "S11")
ARCHIVE_NUMBER = {"S1": 1, "S5": 6, "S6": 7, "S7": 2, "S8": 3, "S9": 4, "S11": 5}
ACTIONS = (
    "Miscellaneous", "Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting",
    "SittingDown", "Smoking", "TakingPhoto", "Waiting", "Walking", "WalkingDog", "WalkingTogether",
)  # fmt: skip
# Names that the rule "sub-action 1 is `X 1`, sub-action 2 is `X`" does not give.
ODD_NAMES = {
    ("S5", 2, 2): "Directions 2", ("S5", 3, 1): "Discussion 2", ("S5", 3, 2): "Discussion 3",
    ("S9", 10, 1): "SittingDown", ("S9", 10, 2): "SittingDown 1", ("S6", 13, 1): "Waiting 3",
    ("S11", 6, 1): "Phoning 3", ("S11", 6, 2): "Phoning 2", ("S1", 9, 2): "Sitting 2",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What to write; the takes are those of `metadata.xml`, so nothing is missing unless it is taken away.

    Attributes:
      subjects: with poses; S2, who has videos but no poses, is always there.
      takes: action and sub-action ids.
      frames: poses of a subject's first take; the next one has two more.
      spare: by subject, action and sub-action: how many frames more its videos hold than it has poses (one
        otherwise); cameras 2 and 3 hold two more still.
      unreadable: subject, action, sub-action and camera of videos of 0 bytes.
      damaged: of videos with a hole in their middle.
      cut_short: how many frames there are, of those said of a video; the file is well-formed.
      size: of the videos, pixels; cameras 1 and 4 have two rows more.
      tall: subjects of whom cameras 2 and 3 have them too; `metadata.xml` says so of S4, S7 and S10 always.
      codec: of the videos, `mpeg4` or `h264`.
      mono: write `D3_Positions_mono`.
      flat: write `D2_Positions`, which nobody reads.
      masks: write `ground_truth_bb`.
      layout: `extracted` folders; `fetch`, those of h36m-fetch; `archives` as the website names them;
        `nested`: a subject's archives in one zip.
    """

    subjects: tuple[str, ...] = ("S1", "S5", "S9")
    takes: tuple[tuple[int, int], ...] = ((9, 1), (10, 2))
    frames: int = 12
    spare: Mapping[tuple[str, int, int], int] = dataclasses.field(default_factory=dict)
    unreadable: tuple[tuple[str, int, int, str], ...] = (("S11", 2, 2, CAMERAS[0]),)
    damaged: tuple[tuple[str, int, int, str], ...] = ()
    cut_short: Mapping[tuple[str, int, int, str], int] = dataclasses.field(default_factory=dict)
    size: int = 240
    tall: tuple[str, ...] = ()
    codec: str = "mpeg4"
    mono: bool = False
    flat: bool = False
    masks: bool = False
    layout: Literal["extracted", "fetch", "archives", "nested"] = "extracted"

    def count(self, action: int, subaction: int) -> int:
        """How many poses a take has."""
        return self.frames + 2 * self.takes.index((action, subaction))

    def video_frames(self, subject: str, action: int, subaction: int) -> list[int]:
        """How many frames each camera's video has."""
        count = self.count(action, subaction) + self.spare.get((subject, action, subaction), 1)
        return [count, count + 2, count + 2, count]

    def prefix(self, subject: str, action: int, subaction: int) -> str:
        """How a take's files are called."""
        name = ACTIONS[action - 1].replace("WalkingTogether", "WalkTogether")
        if subject != "S1":
            name = name.replace("WalkingDog", "WalkDog").replace("TakingPhoto", "Photo")
        odd = ODD_NAMES.get((subject, action, subaction))
        return odd or (f"{name} 1" if subaction == 1 else name)


def write(folder: Path, distribution: Distribution) -> None:
    """Writes the distribution into `folder`, which may be there already."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary)
        for subject in distribution.subjects:
            for action, subaction in distribution.takes:
                _write_take(made / subject, distribution, subject, action, subaction)
        _write_unused(made, distribution)
        (made / "metadata.xml").write_text(metadata_xml(distribution))
        _LAYOUTS[distribution.layout](made, folder)


# -------- layouts: from S<M>/... and metadata.xml as they are unpacked, to how they lie on users' disks


def _extracted(made: Path, folder: Path) -> None:
    shutil.copytree(made, folder, dirs_exist_ok=True)


def _fetch(made: Path, folder: Path) -> None:
    """As h36m-fetch unpacks."""
    shutil.copy(made / "metadata.xml", folder)
    for files in _categories(made):
        subject, category = files.relative_to(made).parts[0], files.name
        name = f"Poses_{category}" if "_Positions" in category else category
        shutil.copytree(files, folder / "extracted" / subject / name)


def _archives(made: Path, folder: Path) -> None:
    """As the website names them; `metadata.xml` in the archive of the owners' code."""
    for files in _categories(made):
        subject, title = files.relative_to(made).parts[0], files.name
        number = ARCHIVE_NUMBER.get(subject, 8)
        title = f"Poses{title}" if "_Positions" in title else title
        _tgz(folder / f"{title}SubjectSpecific_{number}.tgz", made, files)
    with zipfile.ZipFile(folder / "code-v1.2.zip", "w") as archive:
        archive.write(made / "metadata.xml", "Release-v1.2/metadata.xml")
        archive.writestr("Release-v1.2/H36M/readme.m", "% code")


def _nested(made: Path, folder: Path) -> None:
    """A zip for each subject, `s1/Videos.tgz` in it."""
    shutil.copy(made / "metadata.xml", folder)
    with tempfile.TemporaryDirectory() as temporary:
        for subject in sorted(path for path in made.iterdir() if path.is_dir()):
            with zipfile.ZipFile(folder / f"{subject.name.lower()}.zip", "w") as archive:
                for files in _categories(made):
                    if subject in files.parents:
                        inner = Path(temporary) / f"{subject.name}{files.name}.tgz"
                        _tgz(inner, made, files)
                        archive.write(inner, f"{subject.name.lower()}/{files.name}.tgz")


_LAYOUTS = {"extracted": _extracted, "fetch": _fetch, "archives": _archives, "nested": _nested}


def _categories(made: Path) -> list[Path]:
    """The folders that hold files: one archive each."""
    return sorted({file.parent for file in made.rglob("*") if file.is_file() and file.parent != made})


def _tgz(path: Path, made: Path, files: Path) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(files, str(files.relative_to(made)))


# -------- files


def write_cdf(path: Path, values: np.ndarray, variable: str = "Pose") -> None:
    """Writes (F, k) or (F, joints, d) values as the variable (1, F, k) of a CDF 3 file, in place of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values.reshape(len(values), -1)
    with cdflib.cdfwrite.CDF(path, cdf_spec={"Majority": "row_major"}, delete=True) as file:
        file.write_var(
            {
                "Variable": variable, "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True,
                "Dim_Sizes": list(values.shape),
            },
            var_data=values.astype(np.float32)[None],
        )  # fmt: skip


def mask_boxes(subject: str, camera: int, size: int, count: int) -> np.ndarray:
    """int[count, 4]: the filled rectangles, about the joints; x1 and y1 exclusive."""
    joints = scene.pixels(subject, camera, size, scene.poses(subject, count)[:, scene.JOINTS17])
    return np.concatenate([np.floor(joints.min(1)) - 4, np.ceil(joints.max(1)) + 4], axis=1).astype(int)


def write_masks(path: Path, boxes: np.ndarray, size: tuple[int, int]) -> None:
    """Writes rectangles as `Masks`, a column of references to pictures stored (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_dataset("Masks", (len(boxes), 1), dtype=h5py.ref_dtype)
        for n, (x0, y0, x1, y1) in enumerate(boxes):
            mask = np.zeros(size, np.uint8)
            mask[x0:x1, y0:y1] = 1
            references[n, 0] = file.create_dataset(f"#refs#/{n}", data=mask, compression="gzip").ref


def _write_take(folder: Path, distribution: Distribution, subject: str, action: int, subaction: int) -> None:
    prefix = distribution.prefix(subject, action, subaction)
    count = distribution.count(action, subaction)
    world = scene.poses(subject, count)
    features = folder / "MyPoseFeatures"
    write_cdf(features / "D3_Positions" / f"{prefix}.cdf", world)
    (folder / "Videos").mkdir(exist_ok=True)
    for c, (camera, frames) in enumerate(
        zip(CAMERAS, distribution.video_frames(subject, action, subaction), strict=True)
    ):
        video, key = folder / "Videos" / f"{prefix}.{camera}.mp4", (subject, action, subaction, camera)
        size = scene.picture_size(c, distribution.size, subject in distribution.tall)
        if key in distribution.unreadable:
            video.touch()
        else:
            film = scene.film(subject, c, distribution.size, size, distribution.cut_short.get(key, frames))
            videos.write(video, film, rate=50, codec=distribution.codec)
        if key in distribution.damaged:
            _make_hole(video)
        if distribution.mono:
            seen = np.asarray(geometry.to_camera(world, scene.extrinsics(subject, c)))
            write_cdf(features / "D3_Positions_mono" / f"{prefix}.{camera}.cdf", seen)
        if distribution.flat:
            write_cdf(
                features / "D2_Positions" / f"{prefix}.{camera}.cdf",
                scene.pixels(subject, c, distribution.size, world),
            )
        if distribution.masks:
            write_masks(
                folder / "MySegmentsMat" / "ground_truth_bb" / f"{prefix}.{camera}.mat",
                mask_boxes(subject, c, distribution.size, frames),
                size,
            )


def _make_hole(video: Path) -> None:
    """Zeros in place of the middle third; the table of contents, at the end, stays whole."""
    content = bytearray(video.read_bytes())
    hole = slice(len(content) // 3, 2 * len(content) // 3)
    content[hole] = bytes(hole.stop - hole.start)
    video.write_bytes(content)


def _write_unused(folder: Path, distribution: Distribution) -> None:
    """Files that belong to Human3.6M without being needed: a subject without poses, a miscellaneous take."""
    for subject, name in (("S2", "Walking"), (distribution.subjects[0], "_ALL 1")):
        file = folder / subject / "Videos" / f"{name}.{CAMERAS[0]}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"not read")


def metadata_xml(distribution: Distribution) -> str:
    """`metadata.xml` in the owners' node shapes."""
    takes = [(1, 1), (1, 2), *distribution.takes]
    # S1, S5 and so on that are not written have empty cells; the people without poses are listed.
    subjects = {
        f"S{s}": f"S{s}" in distribution.subjects or f"S{s}" not in POSE_SUBJECTS for s in range(1, 12)
    }

    def name(subject: str, action: int, subaction: int) -> str:
        if action == 1:
            return "_ALL 1" if subaction == 1 else "_ALL"
        return distribution.prefix(subject, action, subaction) if subjects[subject] else ""

    def sizes(subject: str) -> str:
        tall, size = distribution.size + 2, distribution.size
        heights = [tall] * 4 if subject in ("S4", "S7", "S10") else [tall, size, size, tall]
        return "[" + ";".join(f"{height} {size}" for height in heights) + "]"

    def counts(subject: str, action: int, subaction: int) -> str:
        if action == 1:
            return "[9 9 9 9 36]"
        frames = distribution.video_frames(subject, action, subaction)
        samples = 4 * distribution.count(action, subaction) + (action + subaction) % 4
        return "[" + " ".join(map(str, [*frames, samples])) + "]"

    mapping = [
        ["Action", "subaction", *subjects],
        *([str(a), str(b), *(name(subject, a, b) for subject in subjects)] for a, b in takes),
        ["", "", *(f"person {subject}" for subject in subjects)],
        ["", "", *map(sizes, subjects)],
    ]
    frames = [["", *(counts(subject, a, b) for a, b in takes)] for subject in subjects]
    w0 = [scene.placement(subject, c) for c in range(4) for subject in subjects]
    w0 += [scene.lens(c, distribution.size) for c in range(4)]
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            "<a>",
            _table("mapping", mapping),
            "<toffiles/>",
            _table("frames", frames),
            "<skel_angles/><skel_pos/>",
            "<train_subjects>[1 7 8 9 11]</train_subjects><val_subjects>[5 6]</val_subjects>",
            "<test_subjects>[2 3 4 10]</test_subjects>",
            f"<w0>[{' '.join(repr(float(number)) for number in np.concatenate(w0))}]</w0>",
            f"<dbcameras><index2id>{_items(CAMERAS)}</index2id><projectionParams/></dbcameras>",
            f"<actionnames>{_items(ACTIONS)}</actionnames>",
            "<subject_measurements/>",
            "</a>",
        ]
    )


def _items(texts: tuple[str, ...]) -> str:
    return "".join(f"<item>{text}</item>" for text in texts)


def _table(node: str, rows: list[list[str]]) -> str:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<{node}>\n" + "\n".join(lines) + f"\n</{node}>"
