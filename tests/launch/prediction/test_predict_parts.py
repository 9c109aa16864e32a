"""The parts of launch.predict between the frames and the files: placing, thumbnails, fusing, batches."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from datasets.footage import boxes, video
from launch.prediction import camera_views, instants, overlay, thumbnails, viewer
from launch.prediction import notes as predict_notes
from launch.prediction.camera_views import Views
from launch.prediction.frames import NOBODY, Frame
from launch.prediction.pictures import Opened
from launch.prediction.sources import Camera
from launch.prediction.thumbnails import Thumbnails
from mcss_jax.storage.model import Output
from tests.mcss_jax.steps import poses


def frame(index: int, time: float = math.nan, square: np.ndarray | None = None) -> Frame:
    picture = Opened(np.full((12, 16, 3), index % 256, np.uint8))
    return Frame(index, time, np.array([2.0, 0, 14, 12]) if square is None else square, picture)


def output(n: int, seed: int = 0) -> Output:
    rng = np.random.default_rng(seed)
    canonical = rng.normal(0, 200, (n, 17, 3)).astype(np.float32)
    embedding = rng.normal(size=(n, 8)).astype(np.float32)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    return Output(embedding, canonical, np.tile(np.eye(3, dtype=np.float32), (n, 1, 1)), canonical)


def views(times: list[float], seed: int = 0) -> Views:
    n = len(times)
    return Views(
        np.arange(n), np.array(times), np.zeros((n, 4)), np.ones((n, 2), int), np.zeros((n, 17, 2)), output(n, seed)
    )  # fmt: skip


# -------- where a skeleton is drawn


def test_the_box_about_the_placed_skeleton_is_the_persons() -> None:
    pose = poses(np.random.default_rng(1), 5)
    square = np.array([[10.0 * i, 20, 10 * i + 60, 80] for i in range(5)])
    joints = overlay.place(pose, square, 0.25)
    squares = boxes.square(boxes.around_joints(joints), 0.25)
    np.testing.assert_allclose(squares, square, atol=1e-9)
    # One scale for both axes, nothing turned.
    flat = pose[..., :2].astype(float)
    for of_pose, of_joints in zip(flat, joints, strict=True):
        across, along = (of_pose - of_pose[0]).ravel(), (of_joints - of_joints[0]).ravel()
        scale = (across @ along) / (across @ across)
        np.testing.assert_allclose(along, scale * across, atol=1e-9)
        assert scale > 0


def test_a_pose_without_extent_lies_in_the_centre() -> None:
    joints = overlay.place(np.zeros((1, 17, 3), np.float32), np.array([[0.0, 0, 10, 10]]), 0.1)
    np.testing.assert_array_equal(joints, np.full((1, 17, 2), 5.0))


def test_a_film_is_what_was_drawn(tmp_path: Path) -> None:
    grey = np.full((64, 48, 3), 90, np.uint8)
    joints = np.tile([[40.0, 10.0]], (17, 1))
    joints[7:] = [40, 110]
    drawn = overlay.drawn(grey, (96, 128), joints)
    assert np.array_equal(np.unique(np.nonzero((drawn != grey).any(-1))[1]), [19, 20])
    assert overlay.drawn(grey, (96, 128), None).tolist() == grey.tolist()
    path = tmp_path / "out.mp4"
    with overlay.film(path, 12.5) as film:
        for picture in (grey, drawn, np.full((32, 32, 3), 200, np.uint8)):
            film.add(picture)
    assert video.probe(path).frame_rate == 12.5
    pictures = [picture for _, picture in video.frames(path)]
    assert [picture.shape for picture in pictures] == [(64, 48, 3)] * 3
    assert abs(pictures[0].mean() - 90) < 3 and abs(pictures[2].mean() - 200) < 3
    assert np.abs(pictures[1][30, 20].astype(int) - 90).max() > 60


# -------- what the page shows


def test_thumbnails_thin_as_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST", 10)
    kept = Thumbnails(interval=0.04, long_side=8)
    for index in range(90):
        kept.offer(frame(index, 1.0 + 0.04 * index))
        assert len(kept.kept) <= 20
    assert kept.stride == 8 and list(kept.kept) == list(range(32, 115, 8))
    assert [index for index, _ in kept.kept.values()] == [n - 25 for n in kept.kept]


def test_what_a_page_would_not_show_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "MOST", 10)
    made: list[int] = []
    jpeg = Opened.jpeg
    monkeypatch.setattr(Opened, "jpeg", lambda self, *how: made.append(1) or jpeg(self, *how))
    for expected, stride, kept in ((10, 1, 10), (11, 2, 5), (90, 16, 1), (0, 1, 10)):
        made.clear()
        small = Thumbnails(interval=0.04, long_side=8, expected=expected)
        for index in range(10):
            small.offer(frame(index, 0.04 * index))
        assert (small.stride, len(small.kept), len(made)) == (stride, kept, kept)


def test_the_thumbnail_is_of_the_nearest_frame() -> None:
    kept = Thumbnails(interval=0.1, long_side=8)
    for index, time in enumerate([0.06, 0.09, 0.12, 0.149, 0.31]):
        kept.offer(frame(index, time))
    assert {instant: index for instant, (index, _) in kept.kept.items()} == {1: 1, 3: 4}
    assert instants.nearest_rows(np.array([0.06, 0.09, 0.12, 0.149, 0.31]), 0.1) == {1: 1, 3: 4}
    pictures = Thumbnails(interval=3, long_side=8)
    for index in (0, 3, 6):
        pictures.offer(frame(index))
    assert list(pictures.kept) == [0, 1, 2]


def test_the_page_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    several = [Thumbnails(1, 8), Thumbnails(1, 8)]
    for index in range(40):
        for of_camera in several[: 1 + (index != 8)]:
            of_camera.offer(frame(index, float(index)))
    assert viewer.shown_instants(several) == (list(range(40)), 1)
    several[1].stride = 2  # as if it had been thinned
    assert viewer.shown_instants(several) == (list(range(0, 40, 2)), 2)
    monkeypatch.setattr(viewer, "MOST", 11)
    assert viewer.shown_instants(several) == (list(range(0, 40, 4)), 4)
    size = len(several[0].kept[0][1])
    monkeypatch.setattr(viewer, "MOST_BYTES", 10 * size * 4 / 3)
    assert viewer.shown_instants(several) == (list(range(0, 40, 8)), 8)
    monkeypatch.setattr(viewer, "MOST_BYTES", 1)
    assert viewer.shown_instants(several) == ([0], 64)


# -------- several views of one instant


def test_fused_against_a_loop() -> None:
    several = [views([0.0, 0.1, 0.2], 1), views([0.11, 0.2], 2), views([0.1, 0.4], 3)]
    fused = instants.fuse(several, 0.1)
    np.testing.assert_array_equal(fused.row, [[0, -1, -1], [1, 0, 0], [2, 1, -1], [-1, -1, 1]])
    np.testing.assert_array_equal(fused.number, [0, 1, 2, 4])
    np.testing.assert_allclose(fused.time, [0, 0.1, 0.2, 0.4])
    for t, rows in enumerate(fused.row):
        seen = [(v, row) for v, row in zip(several, rows, strict=True) if row >= 0]
        mean = np.mean([v.out.canonical[row] for v, row in seen], axis=0)
        np.testing.assert_allclose(fused.canonical[t], mean, atol=1e-3)
        total = np.sum([v.out.embedding[row] for v, row in seen], axis=0)
        np.testing.assert_allclose(fused.embedding[t], total / np.linalg.norm(total), atol=1e-6)
        far = [math.dist(v.out.canonical[row][j], mean[j]) for v, row in seen for j in range(17)]
        if len(seen) > 1:
            assert fused.spread[t] == pytest.approx(np.mean(far), rel=1e-5)
        else:
            assert np.isnan(fused.spread[t])


def test_views_that_agree_have_no_spread_and_opposite_ones_no_direction() -> None:
    same = views([0.0], 1)
    assert instants.fuse([same, same], 0.1).spread[0] == 0
    turned = dataclasses.replace(same, out=same.out._replace(embedding=-same.out.embedding))
    np.testing.assert_array_equal(instants.fuse([same, turned], 0.1).embedding, np.zeros((1, 8)))


# -------- batches


class Spy:
    """A model that answers with the mean of each crop, and counts what it was given."""

    image_size = 6

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, crops: np.ndarray) -> Output:
        self.sizes.append(len(crops))
        mean = crops.reshape(len(crops), -1).mean(axis=1, dtype=np.float32)
        return output(len(crops))._replace(embedding=mean[:, None])


def test_batches_and_frames_without_anybody() -> None:
    frames = [frame(i, i / 25, NOBODY if i in (2, 3, 9) else None) for i in range(10)]
    notes: list[str] = []
    spy, small = Spy(), Thumbnails(1 / 25, 8)
    camera = Camera("left", (Path("left.mp4"),), "whole", rate=25)
    views = camera_views.predict(
        spy,
        camera,
        iter(frames),
        margin=0.1,
        batch=4,
        notes=notes,
        thumbnails=small,  # type: ignore[arg-type]
    )
    assert views is not None and views.index.tolist() == [0, 1, 4, 5, 6, 7, 8]
    assert spy.sizes == [2, 4, 4]  # the last is padded: one program less
    np.testing.assert_allclose(views.out.embedding[:, 0], views.index, atol=0.01)
    assert views.size.tolist() == [[16, 12]] * 7 and views.joints.shape == (7, 17, 2)
    assert notes == ["left: nobody was found in frames 2 to 3, 9, which the tables leave out"]
    assert sorted(index for index, _ in small.kept.values()) == views.index.tolist()


def test_nobody_at_all(tmp_path: Path) -> None:
    notes: list[str] = []
    camera = Camera("all", (Path("a.png"), Path("b.png")), "whole", frames=2)
    with overlay.film(tmp_path / "a.mp4", 25) as film:
        views = camera_views.predict(
            Spy(), camera, iter([frame(i, square=NOBODY) for i in range(2)]), margin=0.1, batch=4, notes=notes,
            thumbnails=Thumbnails(1, 8), film=film,  # type: ignore[arg-type]
        )  # fmt: skip
    assert views is None
    assert notes == ["all: nobody was found in a.png to b.png, which the tables leave out"]
    assert len(list(video.frames(tmp_path / "a.mp4"))) == 2


# -------- what is said


def test_the_note_of_empty_frames_is_short() -> None:
    """Neighbours are the frames looked at, whatever lies between; and ten runs are enough."""
    messages: list[str] = []
    camera = Camera("left", (Path("left.mp4"),), "whole", rate=25)
    for numbers, empty in ((range(0, 900, 9), range(9, 27)), (range(400), range(0, 400, 2)), ([0, 4], [0])):
        frames = [frame(i, i / 25, NOBODY if i in empty else None) for i in numbers]
        camera_views.predict(
            Spy(), camera, iter(frames), margin=0.1, batch=400, notes=messages,
            thumbnails=Thumbnails(1, 8),  # type: ignore[arg-type]
        )  # fmt: skip
    assert messages == [
        f"left: nobody was found in {frames}, which the tables leave out"
        for frames in ("frames 9 to 18", "frames 0, 2, 4, 6, 8, 10, 12, 14, 16, 18 and 190 more", "frame 0")
    ]


@pytest.mark.parametrize(
    ("marked", "words"), [([], ""), ([4], "4"), ([0, 1, 2, 5, 7, 8], "0 to 2, 5, 7 to 8")]
)
def test_spans(marked: list[int], words: str) -> None:
    assert predict_notes.spans((i, i in marked) for i in range(10)) == words


def test_counted() -> None:
    texts = [predict_notes.counted(count, "view") for count in (0, 1, 2, 1234)]
    assert texts == ["0 views", "1 view", "2 views", "1,234 views"]
