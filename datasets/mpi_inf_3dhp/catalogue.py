"""What a source holds of MPI-INF-3DHP, and what is missing, planned from file names."""

from collections.abc import Sequence

from datasets.distributions.originals import File
from datasets.distributions.takes import Inventory, Missing, Take
from datasets.mpi_inf_3dhp import defects
from datasets.mpi_inf_3dhp.footage import Options
from datasets.mpi_inf_3dhp.layout import SEQUENCES, SUBJECTS, TESTS, Layout, read_layout
from datasets.mpi_inf_3dhp.multi_view import MultiViewTake, frame_rate, step
from datasets.mpi_inf_3dhp.single_view import SingleViewTake

# annot.mat holds, uncompressed, 14 cameras of 28 joints in float64 for every frame: 2, 3 and 3 numbers each.
ANNOTATION_BYTES_PER_FRAME = 14 * 28 * (2 + 3 + 3) * 8
TEST_GROUP = 100  # its sequences' groups come after all those of the training sequences

_ARCHIVES = {
    **dict.fromkeys((0, 1, 2, 4, 5, 6, 7, 8), "vnect_cameras.zip"),
    **dict.fromkeys((3, 9, 10), "other_angled_cameras.zip"),
    **dict.fromkeys((11, 12, 13), "ceiling_cameras.zip"),
}

_ANNOTATION_HINT = "annotations: annot.mat of the sequence"
_CALIBRATION_HINT = "cameras: camera.calibration of the sequence"
_VIDEO_HINT = (
    "videos: imageSequence/{archive} of the sequence, packed or not, or the JPEG files of all frames in "
    "imageSequence/video_0/ and so on"
)


def take_inventory(files: Sequence[File], options: Options) -> Inventory:
    """Sorts the files and plans the takes: `train`, then `retrieval`, then `test`.

    A sequence without annotation, calibration or any picture is no take; a single missing video leaves its
    view empty. Raises UserError for numbered pictures with gaps (`layout.read_layout`).
    """
    layout = read_layout(files)
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    missing: list[Missing] = []
    takes: list[Take] = []
    for subject in SUBJECTS:
        for sequence in SEQUENCES:
            _count_training(layout, subject, sequence, options, counts, missing)
            take = _training_take(layout, subject, sequence, options)
            takes += [take] if take else []
    for subject in TESTS:
        _count_test(layout, subject, counts, missing)
        take = _test_take(layout, subject, options)
        takes += [take] if take else []
    order = ("train", "retrieval", "test")
    return Inventory(
        takes=tuple(sorted(takes, key=lambda take: order.index(take.split))),
        counts=counts,
        missing=tuple(missing),
        defects=tuple(
            f"{defect.take or 'any sequence'} {defect.text} (source: {defect.source})"
            for defect in defects.DEFECTS
            if any(defect in defects.of_take(take, options.annotation) for take in layout.annotation)
        ),
        unexpected=layout.unexpected,
        warnings=layout.warnings,
    )


def _count_training(
    layout: Layout,
    subject: str,
    sequence: str,
    options: Options,
    counts: dict[tuple[str, str], tuple[int, int]],
    missing: list[Missing],
) -> None:
    """Adds what there is of a training sequence. Hints name no sequence or camera: equal ones are printed once."""
    take = f"{subject}/{sequence}"
    files = [
        ("annotation", "annot.mat", take in layout.annotation, _ANNOTATION_HINT),
        ("calibration", "camera.calibration", take in layout.calibration, _CALIBRATION_HINT),
    ]
    for k in options.cameras:
        hint = _VIDEO_HINT.format(archive=_ARCHIVES[k])
        files.append((f"camera {k}", f"video_{k}.avi", (take, k) in layout.pictures, hint))
    for column, name, there, hint in files:
        present, expected = counts.get((subject, column), (0, 0))
        counts[subject, column] = (present + there, expected + 1)
        if not there:
            missing.append(Missing(f"{take}/{name}", hint))


def _count_test(
    layout: Layout,
    subject: str,
    counts: dict[tuple[str, str], tuple[int, int]],
    missing: list[Missing],
) -> None:
    for column, name, there, what in (
        ("annotation", "annot_data.mat", subject in layout.annotation, "annotations: annot_data.mat"),
        ("images", "images", (subject, 0) in layout.pictures, "pictures: imageSequence/img_*.jpg"),
    ):
        counts[subject, column] = (int(there), 1)
        if not there:
            missing.append(Missing(f"{subject}/{name}", f"{what} of mpi_inf_3dhp_test_set.zip"))


def _training_take(layout: Layout, subject: str, sequence: str, options: Options) -> Take | None:
    place = f"{subject}/{sequence}"
    annotation, calibration = layout.annotation.get(place), layout.calibration.get(place)
    pictures = {str(k): layout.pictures[place, k] for k in options.cameras if (place, k) in layout.pictures}
    if annotation is None or calibration is None or not pictures:
        return None
    frames = max(1, annotation.size // ANNOTATION_BYTES_PER_FRAME)
    spacing = step(frame_rate(place), options.native)
    return MultiViewTake(
        split="retrieval" if subject in options.retrieval_subjects else "train",
        subject=subject,
        action=sequence,
        subaction="",
        # Clothes change between the sequences of a subject.
        group=len(SEQUENCES) * SUBJECTS.index(subject) + SEQUENCES.index(sequence),
        name=f"{subject} {sequence}",
        files={"annotation": (annotation,), "calibration": (calibration,), **pictures},
        source_frames=frames * len(pictures),
        kept_frames=-(-frames // spacing),
        defect=_lasting_defect(place, options),
        place=place,
        options=options,
    )


def _test_take(layout: Layout, subject: str, options: Options) -> Take | None:
    annotation, images = layout.annotation.get(subject), layout.pictures.get((subject, 0))
    if annotation is None or images is None:
        return None
    return SingleViewTake(
        split="test",
        subject=subject,
        action=subject,
        subaction="",
        group=TEST_GROUP + TESTS.index(subject) + 1,
        name=subject,
        files={"annotation": (annotation,), "images": images},
        source_frames=len(images),
        kept_frames=len(images),
        defect=_lasting_defect(subject, options),
        options=options,
    )


def _lasting_defect(place: str, options: Options) -> str:
    return "; ".join(d.text for d in defects.of_take(place, options.annotation) if d.stays)
