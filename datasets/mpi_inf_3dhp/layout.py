"""Which of a source's files is what: told by their paths alone (docs/data_formats.md, MPI-INF-3DHP)."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence

from datasets.distributions.originals import File
from mcss_jax.errors import UserError

SUBJECTS = tuple(f"S{k}" for k in range(1, 9))
SEQUENCES = ("Seq1", "Seq2")
TESTS = tuple(f"TS{k}" for k in range(1, 7))

# The innermost folder of a take counts: archives and users add others around it.
_TAKE = re.compile(r"(?:.*/)?(S[1-8]/Seq[12]|TS[1-6])/(.+)")
_VIDEO = re.compile(r"imageSequence/(?:.*/)?video_(\d|1[0-3])\.avi")
_PICTURE = re.compile(r"imageSequence/(?:.*/)?video_(\d|1[0-3])/(?:img|frame)_(\d+)\.jpg")
_TEST_PICTURE = re.compile(r"imageSequence/(?:.*/)?img_(\d+)\.jpg")
# Silhouettes, the owners' evaluation and what comes with their download script.
_UNUSED = re.compile(
    r"(?:.*/)?(?:(?:FGmasks|ChairMasks|test_util|util)/.+|README[^/]*|LICEN[CS]E[^/]*|[^/]+\.(?:sh|ig))",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files by take (`S1/Seq1`, `TS1`).

    Attributes:
      annotation, calibration: by take.
      pictures: by take and camera (of a test sequence 0): one video, or the pictures of all frames in order.
      unexpected: paths that belong to nothing known.
      warnings: sentences about files that are there several times and differ.
    """

    annotation: dict[str, File]
    calibration: dict[str, File]
    pictures: dict[tuple[str, int], tuple[File, ...]]
    unexpected: tuple[str, ...]
    warnings: tuple[str, ...]


def read_layout(files: Sequence[File]) -> Layout:
    """Sorts `files`. A video is preferred to pictures of its frames, a loose file to one in an archive.

    Raises:
      UserError: numbered pictures of which some are missing, or that do not count from 1.
    """
    single: dict[tuple[str, str], list[File]] = defaultdict(list)
    numbered: dict[tuple[str, int], dict[str, list[tuple[int, File]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    unexpected = []
    for file in files:
        match = _TAKE.fullmatch(file.path)
        if _UNUSED.fullmatch(file.path):
            continue
        take, rest = match.groups() if match else ("", file.path)
        role = _role(take, rest)
        folder = file.path.rpartition("/")[0]
        if role is not None:
            single[take, role].append(file)
        elif take in TESTS and (picture := _TEST_PICTURE.fullmatch(rest)):
            numbered[take, 0][folder].append((int(picture[1]), file))
        elif take and take not in TESTS and (picture := _PICTURE.fullmatch(rest)):
            numbered[take, int(picture[1])][folder].append((int(picture[2]), file))
        else:
            unexpected.append(file.path)

    warnings: list[str] = []
    chosen = {place: _preferred(place, candidates, warnings) for place, candidates in sorted(single.items())}
    pictures = {place: _in_order(*_preferred_folder(folders)) for place, folders in sorted(numbered.items())}
    videos = {(take, int(role)): (file,) for (take, role), file in chosen.items() if role.isdigit()}
    return Layout(
        annotation={take: file for (take, role), file in chosen.items() if role == "annotation"},
        calibration={take: file for (take, role), file in chosen.items() if role == "calibration"},
        pictures={**pictures, **videos},
        unexpected=tuple(unexpected),
        warnings=tuple(warnings),
    )


def _role(take: str, rest: str) -> str | None:
    """What the file at `rest` in a take's folder is: `annotation`, `calibration`, or a video's camera."""
    if take in TESTS:
        return "annotation" if rest == "annot_data.mat" else None
    if take and rest in ("annot.mat", "camera.calibration"):
        return "annotation" if rest == "annot.mat" else "calibration"
    video = _VIDEO.fullmatch(rest) if take else None
    return video[1] if video else None


def _preferred(place: tuple[str, str], candidates: list[File], warnings: list[str]) -> File:
    first = min(candidates, key=lambda file: (file.archive != "", file.path))
    other = next((file for file in candidates if file.size != first.size), None)
    if other is not None:
        warnings.append(
            f"{place[0]}: {first.path} ({first.size} bytes) is used; {other.path} has {other.size} bytes"
        )
    return first


def _preferred_folder(folders: dict[str, list[tuple[int, File]]]) -> tuple[str, list[tuple[int, File]]]:
    """Of several folders with the same pictures the fullest; of equals the loose one."""
    return min(folders.items(), key=lambda item: (-len(item[1]), item[1][0][1].archive != "", item[0]))


def _in_order(folder: str, numbered: list[tuple[int, File]]) -> tuple[File, ...]:
    """The pictures by number. Number 1 is frame 0."""
    numbered = sorted(numbered)
    for expected, (number, _) in enumerate(numbered, 1):
        if number != expected:
            raise UserError(
                f"{folder}: the picture with number {expected} was expected, number {number} was found "
                f"({numbered[-1][0]} is the last); pictures count from 1 without gaps: extract or copy them again"
            )
    return tuple(file for _, file in numbered)
