"""Crops against direct decoding: the right frames, the right boxes, and every way in which pictures fall short."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from datasets.distributions import cropping, takes
from datasets.footage import boxes, video
from datasets.tuples import records
from tests.datasets import videos
from tests.distributions import small
from tests.refusals import refused

FRAMES = 40
FRAME = np.arange(0, FRAMES, 3)
FILM, BOX = small.film(FRAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    videos.write(folder / "whole.avi", FILM, small.RATE)
    videos.write(folder / "short.avi", FILM[:20], small.RATE)
    videos.write(folder / "still.avi", np.repeat(FILM[:1], FRAMES, 0), small.RATE)
    stamps = np.arange(FRAMES) / small.RATE + (np.arange(FRAMES) > 25) * 0.2
    videos.write(folder / "gap.mp4", FILM, small.RATE, stamps=stamps.tolist())
    (folder / "empty.avi").touch()
    for k, picture in enumerate(FILM):
        data = records.encode_jpeg(np.repeat(picture[..., None], 3, -1), quality=95)
        (folder / f"{k:06d}.jpg").write_bytes(data)
    (folder / "bad.jpg").write_bytes(b"no picture")
    return folder


def view(*pictures: Path, box: np.ndarray | None = BOX[FRAME], **options: int) -> takes.View:
    return takes.View(
        camera="left",
        pictures=pictures,
        intrinsics=np.eye(3),
        extrinsics=np.eye(3, 4),
        distortion=np.zeros(5),
        pose=np.zeros((len(FRAME) if box is None else len(box), 17, 3)),
        box=box,
        box_source="static" if box is None else "mask",
        **{"frames": FRAMES, **options},
    )


def cut(
    cropped_view: takes.View, tmp_path: Path, size: int = 32, frame: np.ndarray = FRAME
) -> tuple[cropping.Crops, list[bytes], int]:
    """The crops, the files written one after another, and how many frames were decoded."""
    decoded: list[int] = []
    with (tmp_path / "out").open("wb") as out:
        crops = cropping.cut(cropped_view, frame, float(small.RATE), size, 0.1, out, decoded.append)
    data, files, at = (tmp_path / "out").read_bytes(), [], 0
    for length in crops.length:
        files.append(data[at : at + length])
        at += length
    assert at == len(data) and sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    return crops, files, sum(decoded)


def test_known_boxes_give_exactly_the_kept_frames(folder: Path, tmp_path: Path) -> None:
    crops, files, decoded = cut(view(folder / "whole.avi"), tmp_path)
    assert decoded == FRAMES and crops.source == "mask" and crops.notes == ()
    np.testing.assert_array_equal(crops.box, boxes.square(BOX[FRAME], 0.1))
    whole = [picture for _, picture in video.frames(folder / "whole.avi")]
    for k, data in enumerate(files):
        assert data == records.encode_jpeg(boxes.crop_resize(whole[FRAME[k]], crops.box[k], 32))


def test_a_person_out_of_sight_gives_no_picture(folder: Path, tmp_path: Path) -> None:
    box = BOX[FRAME].copy()
    box[2] = np.nan
    crops, files, _ = cut(view(folder / "whole.avi", box=box), tmp_path)
    assert files[2] == b"" and np.isnan(crops.box[2]).all()
    assert all(files[:2]) and all(files[3:]) and np.isfinite(crops.box[3:]).all()


def test_decoding_ends_with_the_last_pose(folder: Path, tmp_path: Path) -> None:
    """Videos may be longer, by a thousand frames."""
    frame = np.array([0, 9])
    cropped_view = view(folder / "whole.avi", frames=10, box=BOX[frame])
    _, files, decoded = cut(cropped_view, tmp_path, frame=frame)
    assert decoded == 10 and all(files)


@pytest.mark.parametrize("kind", ["video", "pictures"])
def test_the_finder_holds_the_person(folder: Path, tmp_path: Path, kind: str) -> None:
    pictures = [folder / "whole.avi"] if kind == "video" else [folder / f"{k:06d}.jpg" for k in range(FRAMES)]
    crops, files, decoded = cut(view(*pictures, box=None), tmp_path)
    assert decoded == FRAMES and crops.source == "static" and crops.notes == () and all(files)
    inside = (crops.box[:, :2] <= BOX[FRAME, :2] + 1) & (crops.box[:, 2:] >= BOX[FRAME, 2:] - 1)
    assert inside.mean() > 0.9
    side = crops.box[:, 2] - crops.box[:, 0]
    np.testing.assert_allclose(side, crops.box[:, 3] - crops.box[:, 1])
    assert (side < 1.5 * 44 * 1.2).all(), "a box of the person, not of the picture"
    whole = np.stack([np.repeat(picture[..., None], 3, -1) for picture in FILM])
    for k, data in enumerate(files):
        want = boxes.crop_resize(whole[FRAME[k]], crops.box[k], 32).astype(int)
        assert np.abs(records.decode_jpeg(data).astype(int) - want).mean() < 8


def test_nothing_moves(folder: Path, tmp_path: Path) -> None:
    crops, files, _ = cut(view(folder / "still.avi", box=None), tmp_path)
    assert crops.source == "frame" and all(files)
    assert "nothing moves, the whole picture is used" in crops.notes[0]


def test_a_missing_view_gives_nothing(tmp_path: Path) -> None:
    crops, files, decoded = cut(view(), tmp_path)
    assert decoded == 0 and not any(files) and np.isnan(crops.box).all()
    assert crops.notes == ("camera left: there are no pictures; the view is invalid",)
    assert cut(dataclasses.replace(view(), camera=""), tmp_path)[0].notes == ()


@pytest.mark.parametrize("box", [None, BOX[FRAME]])
def test_too_short(folder: Path, tmp_path: Path, box: np.ndarray | None) -> None:
    cropped_view = view(folder / "short.avi", box=box)
    with refused("short.avi", "20 frames", "40 poses", "download it again"):
        cut(cropped_view, tmp_path)
    crops, files, _ = cut(dataclasses.replace(cropped_view, short_by=20), tmp_path)
    assert [bool(data) for data in files] == [k < 20 for k in FRAME]
    np.testing.assert_array_equal(np.isfinite(crops.box).all(1), FRAME < 20)
    assert crops.notes[-1].startswith("short.avi: 20 of 40 frames could be read, which is a known defect")
    few = [folder / f"{k:06d}.jpg" for k in range(17)]
    with refused(f"{folder}:", "17 frames", "40 poses") as caught:
        cut(view(*few, box=box), tmp_path)
    assert str(caught.value).startswith(str(folder))


@pytest.mark.parametrize("box", [None, BOX[FRAME]])
def test_unreadable(folder: Path, tmp_path: Path, box: np.ndarray | None) -> None:
    cropped_view = view(folder / "empty.avi", box=box)
    with refused("empty.avi", "empty"):
        cut(cropped_view, tmp_path)
    crops, files, _ = cut(dataclasses.replace(cropped_view, short_by=FRAMES), tmp_path)
    assert not any(files) and crops.notes[0].startswith("empty.avi: 0 of 40 frames could be read")


def test_a_picture_that_is_none(folder: Path, tmp_path: Path) -> None:
    several = [folder / "bad.jpg" if k == 3 else folder / f"{k:06d}.jpg" for k in range(FRAMES)]
    for box in (None, BOX[FRAME]):
        with refused("bad.jpg", "JPEG", "truncated or damaged"):
            cut(view(*several, box=box), tmp_path)


def test_a_gap_in_the_clock_is_told(folder: Path, tmp_path: Path) -> None:
    crops, _, _ = cut(view(folder / "gap.mp4"), tmp_path)
    assert "gap.mp4: its clock and its frame count part by 5.0 frames" in crops.notes[0]


def test_a_reduced_picture_is_cropped_where_the_box_is(tmp_path: Path) -> None:
    """Also where its sides are no multiples of the reduction: 1003 / 8 is 125.4, the decoder gives 126."""
    side, frame = 1003, np.arange(1)
    picture = np.full((side, side, 3), 60, np.uint8)
    picture[900:, :] = 220
    (tmp_path / "0.jpg").write_bytes(records.encode_jpeg(picture, quality=95))
    cropped_view = view(
        tmp_path / "0.jpg", tmp_path / "0.jpg", box=np.array([[0.0, 0, side, side]]), frames=1
    )
    out = tmp_path / "made"
    out.mkdir()
    _, files, _ = cut(cropped_view, out, size=100, frame=frame)
    rows = records.decode_jpeg(files[0])[:, 40:60].mean((1, 2))
    k = int(np.argmax(rows > 140))
    edge = k - 0.5 + (140 - rows[k - 1]) / (rows[k] - rows[k - 1])
    x0, x1 = boxes.square(np.array([0.0, 0, side, side]), 0.1)[[1, 3]]
    assert abs(x0 + edge / 100 * (x1 - x0) - 900) < 2


def test_what_a_decoder_makes_of_damage_is_left_out(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "whole.avi").read_bytes()
    at = len(whole) // 2
    (tmp_path / "hole.avi").write_bytes(whole[:at] + bytes(300) + whole[at + 300 :])
    decoded = list(video.decoded(tmp_path / "hole.avi"))
    damaged = {index for index, _, picture in decoded if picture.is_corrupt}
    assert damaged, "this file shows what it is about"
    cropped_view = view(tmp_path / "hole.avi", box=np.tile(BOX[:1], (len(decoded), 1)), frames=len(decoded))
    out = tmp_path / "made"
    out.mkdir()
    crops, files, _ = cut(cropped_view, out, frame=np.arange(len(decoded)))
    assert {k for k, data in enumerate(files) if not data} == damaged
    assert any(f"{len(damaged)} frames are damaged" in note for note in crops.notes)
