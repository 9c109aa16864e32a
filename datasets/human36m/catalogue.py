"""What a source holds of Human3.6M, told by file names and `metadata.xml`: takes, and what is missing.

docs/data_formats.md, Human3.6M.
"""

import dataclasses
from collections.abc import Sequence

from datasets.distributions import originals
from datasets.distributions.originals import File
from datasets.distributions.takes import BoxSource, Inventory, Missing
from datasets.human36m import metadata as h36m
from datasets.human36m.files import METADATA, Kind, Place, is_unused, sort_files
from datasets.human36m.take import Human36mTake, kept_frames, role
from mcss_jax.errors import UserError

SPLITS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
COLUMN = {Kind.POSES: "poses", Kind.MONO: "mono poses", Kind.MASKS: "masks"}
ARCHIVE_NUMBER = {"S1": 1, "S5": 6, "S6": 7, "S7": 2, "S8": 3, "S9": 4, "S11": 5}
"""`N` of a subject's `SubjectSpecific_N.tgz` on the download site (1.1)."""

# Known defects (1.8), by subject, action id and sub-action id.
OFFSET = "annotation offset against the image"
DAMAGED = {("S9", 5, 2): OFFSET, ("S9", 10, 2): OFFSET, ("S9", 13, 1): OFFSET}
"""karfly/learnable-triangulation-pytorch, mvn/datasets/human36m.py, `with_damaged_actions`; MHFormer issue 92."""
UNREADABLE = {("S11", 2, 2): "54138969"}
"""Camera whose video is empty or corrupt in most downloads: 3d-pose-baseline issue 34, h36m-fetch issue 3."""


def take_inventory(files: Sequence[File], step: int, boxes: BoxSource) -> Inventory:
    """Plans the takes of Human3.6M that `files` hold.

    Args:
        files: of the source.
        step: every `step`-th frame is kept.
        boxes: where person boxes come from.

    Raises:
        UserError: there is no `metadata.xml`, or it is malformed; boxes are to come from masks, and some are not there.
    """
    sorted_files = sort_files(files)
    if not sorted_files.metadata:
        raise UserError(
            f"there is no {METADATA} in the source: it comes with the owners' code, Release v1.1 or v1.2 "
            "(code-v1.2.zip) on Human3.6M's download site, not with the data; put it, or the archive, into the source"
        )
    metadata = h36m.parse(originals.read_bytes(sorted_files.metadata[0]), sorted_files.metadata[0].path)
    plan = [
        _Expected(split, subject, sequence, metadata.cameras, sorted_files.places)
        for split, subjects in SPLITS.items()
        for subject in subjects
        for sequence in sorted(metadata.sequences[subject], key=lambda s: (s.action, s.subaction))
    ]
    usable = [expected for expected in plan if expected.is_usable]
    if boxes == "mask":
        _require_masks(usable)
    expected_places = {place for expected in plan for place in expected.places()}
    unexpected = [
        file.path
        for place, file in sorted_files.places.items()
        if place not in expected_places and not is_unused(place)
    ]
    return Inventory(
        takes=tuple(_take(expected, metadata, step, boxes) for expected in usable),
        counts=_table(plan),
        missing=tuple(missing for expected in plan for missing in _missing(expected)),
        defects=tuple(sentence for expected in usable for sentence in _defects(expected)),
        unexpected=tuple(sorted([*sorted_files.unexpected, *unexpected])),
        warnings=sorted_files.warnings,
    )


@dataclasses.dataclass(frozen=True)
class _Expected:
    """One take that `metadata.xml` lists, and the files that are there, of all takes."""

    split: str
    subject: str
    sequence: h36m.Sequence
    cameras: tuple[str, ...]
    there: dict[Place, File]

    @property
    def key(self) -> tuple[str, int, int]:
        return self.subject, self.sequence.action, self.sequence.subaction

    @property
    def file(self) -> str:
        """What its files are called, and the official ids, which the names do not tell."""
        return f"file {self.sequence.prefix}, id {self.sequence.action}.{self.sequence.subaction}"

    @property
    def is_usable(self) -> bool:
        """With its poses and at least one video."""
        videos = self.places(Kind.VIDEO)
        return self.places(Kind.POSES)[0] in self.there and any(place in self.there for place in videos)

    def places(self, *kinds: Kind) -> list[Place]:
        """Of its files, of all kinds or some."""
        return [
            Place(kind, self.subject, self.sequence.prefix, camera)
            for kind in kinds or Kind
            for camera in (("",) if kind is Kind.POSES else self.cameras)
        ]

    def may_lack(self, place: Place) -> bool:
        """Whether a video is known to be damaged in most downloads."""
        return place.kind is Kind.VIDEO and UNREADABLE.get(self.key) == place.camera


def _take(expected: _Expected, metadata: h36m.Metadata, step: int, boxes: BoxSource) -> Human36mTake:
    subject, sequence = expected.subject, expected.sequence
    kinds = [kind for kind in Kind if kind is not Kind.MASKS or boxes in ("auto", "mask")]
    files: dict[str, tuple[File, ...]] = {
        role(place.kind, place.camera): (expected.there[place],)
        for place in expected.places(*kinds)
        if place in expected.there
    }
    videos = sum(place in expected.there for place in expected.places(Kind.VIDEO))
    return Human36mTake(
        split=expected.split,
        subject=subject,
        action=metadata.action_names[sequence.action],
        subaction=str(sequence.subaction),
        group=int(subject.removeprefix("S")),
        name=f"{subject} {sequence.action}.{sequence.subaction} {sequence.prefix}",
        files=files,
        source_frames=sequence.poses * videos,
        kept_frames=len(kept_frames(sequence.poses, expected.split, step)),
        defect=f"{expected.file}: {DAMAGED[expected.key]}" if expected.key in DAMAGED else "",
        cameras=tuple(metadata.camera(subject, camera) for camera in expected.cameras),
        poses=sequence.poses,
        step=step,
        boxes=boxes,
        unreadable=tuple(place.camera for place in expected.places() if expected.may_lack(place)),
    )


def _missing(expected: _Expected) -> list[Missing]:
    number = ARCHIVE_NUMBER[expected.subject]
    title = {Kind.POSES: "Poses, D3 Positions", Kind.VIDEO: "Videos"}
    return [
        Missing(
            place.name, f"{title[place.kind]}: SubjectSpecific_{number}.tgz holds those of {expected.subject}"
        )
        for place in expected.places(Kind.POSES, Kind.VIDEO)
        if place not in expected.there and not expected.may_lack(place)
    ]


def _defects(expected: _Expected) -> list[str]:
    sentences = []
    if expected.key in DAMAGED:
        sentences.append(
            f"{expected.subject}, {expected.file}: {DAMAGED[expected.key]}; it is stored and flagged, evaluations can "
            "leave it out"
        )
    for place in expected.places(Kind.VIDEO):
        if expected.may_lack(place):
            sentences.append(
                f"{place.name}: empty or corrupt in most downloads; "
                + ("where it cannot be read" if place in expected.there else "it is not there, and")
                + " that view is invalid, the other cameras are used"
            )
    return sentences


def _require_masks(usable: Sequence[_Expected]) -> None:
    lacking = [
        mask.name
        for expected in usable
        for video, mask in zip(expected.places(Kind.VIDEO), expected.places(Kind.MASKS), strict=True)
        if video in expected.there and mask not in expected.there
    ]
    if lacking:
        raise UserError(
            f"{len(lacking)} files of person masks are not there (the first is {lacking[0]}), but boxes are to come "
            "from masks; download Segments BBoxes MAT, or take boxes=auto"
        )


def _table(plan: Sequence[_Expected]) -> dict[tuple[str, str], tuple[int, int]]:
    """(files there, files expected) by subject and kind of file, videos by camera."""
    table: dict[tuple[str, str], tuple[int, int]] = {}
    for expected in plan:
        for place in expected.places():
            column = place.camera if place.kind is Kind.VIDEO else COLUMN[place.kind]
            present, listed = table.get((expected.subject, column), (0, 0))
            table[expected.subject, column] = present + (place in expected.there), listed + 1
    return table
