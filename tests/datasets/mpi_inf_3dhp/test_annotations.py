"""`annot.mat` and `annot_data.mat`: joints by name, frames by `frames`, and every refusal."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from datasets.mpi_inf_3dhp import annotations, joints
from mcss_jax import skeleton
from mcss_jax.errors import UserError
from tests.distributions import mpi_inf_3dhp as distribution
from tests.refusals import refused

WHAT = distribution.Distribution(frames=9, test_frames=8)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("training") / "annot.mat"
    distribution.write_annotation(path, WHAT, "S1/Seq1")
    return path


@pytest.fixture(scope="module")
def test_sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("test") / "annot_data.mat"
    distribution.write_test_annotation(path, WHAT, "TS1")
    return path


def test_joint_lists_are_the_published_ones() -> None:
    """docs/data_formats.md#mpi-inf-3dhp-joints; both ways lead to the same names."""
    assert joints.FROM_ANNOTATED == [4, 23, 24, 25, 18, 19, 20, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16]
    assert joints.FROM_TEST_SET == [14, 8, 9, 10, 11, 12, 13, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4]
    relevant = [7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6]
    assert [joints.ANNOTATED[k] for k in relevant] == list(joints.TEST_SET)
    assert len(joints.ANNOTATED) == len(set(joints.ANNOTATED)) == 28


def test_sides_and_parents_agree_with_the_skeleton() -> None:
    for k, name in enumerate(joints.SKELETON):
        assert (name[:2] == "l_") == (k in skeleton.LEFT) and (name[:2] == "r_") == (k in skeleton.RIGHT)
    names = dict(zip(skeleton.JOINTS, joints.SKELETON, strict=True))
    assert (names["Hip"], names["LKnee"], names["RWrist"]) == ("pelvis", "l_knee", "r_wrist")


def test_training_is_read_by_camera_and_joint(training: Path) -> None:
    read = annotations.read_training(training, "it", (8, 0, 13), 99)
    assert read.annot3.shape == (3, 9, 17, 3)  # nine frames: the arrays have twelve rows
    for v, number in enumerate((8, 0, 13)):
        true = distribution.annotated(WHAT, "S1/Seq1", number, 9)
        for field in true:
            for k, name in enumerate(joints.SKELETON):
                np.testing.assert_array_equal(
                    getattr(read, field)[v, :, k], true[field][:, joints.ANNOTATED.index(name)]
                )
    np.testing.assert_array_equal(read.pose("annot3"), read.annot3)
    np.testing.assert_array_equal(read.pose("univ_annot3"), read.univ_annot3)


def test_no_more_frames_than_the_videos_have(training: Path, tmp_path: Path) -> None:
    """`frames` as long as the arrays, which hold three rows without meaning."""
    whole = annotations.read_training(training, "it", (0,), 99)
    assert whole.left_out == 0
    long = changed(training, tmp_path / "annot.mat", frames=np.arange(12)[:, None])
    read = annotations.read_training(long, "it", (0,), 9)
    np.testing.assert_array_equal(read.annot3, whole.annot3)
    assert read.left_out == 3
    assert annotations.read_training(long, "it", (0,), 12).annot3.shape == (1, 12, 17, 3)
    # Arrays need hold no more than is read of them.
    assert (
        annotations.read_training(
            changed(training, tmp_path / "b.mat", frames=np.zeros((50, 1))), "it", (0,), 12
        ).left_out
        == 38
    )


def test_test_set_is_read_by_joint(test_sequence: Path) -> None:
    read = annotations.read_test(test_sequence, "it")
    true = distribution.annotated(WHAT, "TS1", 0, 8)
    for field in true:
        for k, name in enumerate(joints.SKELETON):
            np.testing.assert_array_equal(
                getattr(read, field)[0, :, k], true[field][:, joints.ANNOTATED.index(name)]
            )
    assert read.valid_frame.tolist() == [distribution.counts(frame) for frame in range(8)]
    assert read.activity[:3] == ["Standing/Walking", "Exercising", "Sitting"]
    assert read.activity[6:] == ["Miscellaneous", "Standing/Walking"]


def changed(path: Path, target: Path, **fields: Any) -> Path:
    """A copy of a v5 file with other fields; None leaves one out."""
    content = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("_")}
    content |= fields
    scipy.io.savemat(target, {key: value for key, value in content.items() if value is not None})
    return target


def cells(count: int, shape: tuple[int, ...]) -> np.ndarray:
    cell = np.empty((count, 1), object)
    for k in range(count):
        cell[k, 0] = np.zeros(shape)
    return cell


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"univ_annot3": None}, ("it:", "`univ_annot3`")),
        ({"frames": None}, ("it:", "no field `frames`")),
        ({"frames": np.zeros((0, 1))}, ("it:", "`frames` is empty")),
        (
            {"annot2": cells(13, (9, 56))},
            ("it:", "`annot2`", "13 entries", "object", "14 cells"),
        ),
        ({"annot2": np.zeros((14, 1))}, ("it:", "`annot2`", "14 entries", "float64")),
        (
            {"annot3": cells(14, (8, 84))},
            ("it:", "`annot3`, camera 0", "(8, 84)", "(9 or more, 84)"),
        ),
        ({"annot3": cells(14, (9, 56))}, ("it:", "`annot3`, camera 0", "(9, 56)")),
        ({"annot3": cells(14, (9, 28, 3))}, ("`annot3`", "(9, 28, 3)")),
    ],
)
def test_training_refusals(
    training: Path, tmp_path: Path, fields: dict[str, Any], facts: tuple[str, ...]
) -> None:
    with refused(*facts):
        annotations.read_training(changed(training, tmp_path / "annot.mat", **fields), "it", (0,), 99)


def test_training_cut_short_anywhere(training: Path, tmp_path: Path) -> None:
    """A file that ends early is refused in one sentence, or holds all that is asked for."""
    whole = training.read_bytes()
    path = tmp_path / "annot.mat"
    sentences = 0
    for length in [0, 1, 60, 127, 128, 130, 200, *range(1000, len(whole), len(whole) // 40)]:
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="^it: (is not a readable MATLAB v5 file|has no field)") as caught:
            annotations.read_training(path, "it", (0,), 99)
        sentences += "\n" not in str(caught.value)
    assert sentences > 40
    path.write_bytes(b"PK" + bytes(500))
    with refused("it:"):
        annotations.read_training(path, "it", (0,), 99)


def test_the_other_matlab_version_is_named(training: Path, test_sequence: Path) -> None:
    with refused("it:", "MATLAB v7.3 (HDF5)", "v5"):
        annotations.read_training(test_sequence, "it", (0,), 99)
    with refused("it:", "not a MATLAB v7.3 (HDF5) file"):
        annotations.read_test(training, "it")


def copied(path: Path, target: Path, **fields: Any) -> Path:
    """A copy of an HDF5 file with other fields; None leaves one out."""
    with h5py.File(path) as source, h5py.File(target, "w") as out:
        for key in source:
            value = fields.get(key, source[key][()])
            if value is not None:
                out[key] = value
    return target


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"annot3": None}, ("it:", "`annot3`")),
        ({"valid_frame": None}, ("it:", "`valid_frame`")),
        (
            {"annot2": np.zeros((2, 17, 1, 8))},
            ("it:", "`annot2`", "(2, 17, 1, 8)", "(frames, 1, 17, 2)"),
        ),
        ({"univ_annot3": np.zeros((7, 1, 17, 3))}, ("it:", "`univ_annot3`", "(7, 1, 17, 3)")),
        ({"valid_frame": np.ones((7, 1))}, ("it:", "`valid_frame`", "7 entries", "8")),
        (
            {"activity_annotation": np.ones((1, 9))},
            ("it:", "`activity_annotation`", "9 entries", "8"),
        ),
        (
            {"activity_annotation": np.full((8, 1), 8.0)},
            ("it:", "frame 0", "activity", "1 to 7"),
        ),
        ({"activity_annotation": np.full((8, 1), np.nan)}, ("it:", "frame 0", "activity")),
    ],
)
def test_test_set_refusals(
    test_sequence: Path, tmp_path: Path, fields: dict[str, Any], facts: tuple[str, ...]
) -> None:
    with refused(*facts):
        annotations.read_test(copied(test_sequence, tmp_path / "a.mat", **fields), "it")


def test_activity_may_be_absent_where_the_frame_does_not_count(test_sequence: Path, tmp_path: Path) -> None:
    activity = np.array([[0.0 if not distribution.counts(k) else 1.0] for k in range(8)])
    read = annotations.read_test(
        copied(test_sequence, tmp_path / "a.mat", activity_annotation=activity), "it"
    )
    assert read.activity[1:3] == ["Standing/Walking", ""]


def test_test_set_cut_short(test_sequence: Path, tmp_path: Path) -> None:
    whole = test_sequence.read_bytes()
    path = tmp_path / "a.mat"
    for length in range(1000, len(whole) - 1, len(whole) // 20):
        path.write_bytes(whole[:length])
        with refused("it:", "cannot be read", "download it again"):
            annotations.read_test(path, "it")
