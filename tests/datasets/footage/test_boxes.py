"""Person boxes: the CSV layouts, the finder on constructed films, squares and crops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.footage import boxes
from tests.datasets import videos
from tests.refusals import refused

OWN = "camera,frame,x0,y0,x1,y1\nleft,0,10,20,50,120\nleft,2,12,20,52,120\nright,0,1,2,3,4\n"
COCO = (
    "image_id,file_name,x,y,w,h,score\n0,left,10,20,40,100,0.9\n2,left,12,20,40,100,0.8\n0,right,1,2,2,2,1\n"
)
MOT = "frame,id,bb_left,bb_top,bb_width,bb_height,conf,x,y,z\n" + "".join(
    f"{row},-1,-1,-1\n" for row in ("1,1,10,20,40,100,1", "3,1,12,20,40,100,1")
)


def given_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "boxes.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "text", [OWN, COCO, MOT, MOT.split("\n", 1)[1], OWN.upper(), OWN.replace("camera", "file")]
)
def test_layouts_agree(tmp_path: Path, text: str) -> None:
    tracks = boxes.read_csv(given_file(tmp_path, text))
    assert len(tracks) in (1, 2)
    track = next(iter(tracks.values()))
    np.testing.assert_array_equal(track.frame, [0, 2])
    np.testing.assert_array_equal(track.box, [[10, 20, 50, 120], [12, 20, 52, 120]])


def test_rows_of_zero_confidence_are_absent_and_the_larger_box_of_a_frame_wins(tmp_path: Path) -> None:
    text = "frame,x,y,w,h,conf\n0,0,0,9,9,0\n-1,0,0,0,0,0\n1,0,0,5,5,0.5\n1,0,0,6,6,0.4\n"
    track = boxes.read_csv(given_file(tmp_path, text))[""]
    np.testing.assert_array_equal(track.frame, [1])
    np.testing.assert_array_equal(track.box, [[0, 0, 6, 6]])


def test_of_several_people_the_largest_is_taken_with_a_warning(tmp_path: Path) -> None:
    path = given_file(tmp_path, "1,7,0,0,5,5\n1,8,0,0,50,50\n2,7,0,0,5,5\n")
    with pytest.warns(UserWarning, match=r"2 people are listed; id 8 is taken"):
        track = boxes.read_csv(path)[""]
    np.testing.assert_array_equal(track.box, [[0, 0, 50, 50]])


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (
            "frame,x0,y0,x1,y1,colour\n0,1,2,3,4,red\n",
            ("columns frame,x0,y0,x1,y1,colour", "accepted"),
        ),
        ("frame,x0,y0,x1\n0,1,2,3\n", ("columns frame,x0,y0,x1", "accepted")),
        ("x0,y0,x1,y1\n0,1,2,3\n", ("not understood", "accepted")),
        ("frame,x0,y0,x1,y1,x0\n0,1,2,3,4,5\n", ("not understood", "accepted")),
        ("frame,x0,y0,x1,y1\n0,1,2,three,4\n", ("row 2", "'0,1,2,three,4'", "5 values")),
        ("frame,x0,y0,x1,y1\n0,1,2,3\n", ("row 2", "'0,1,2,3'", "5 values")),
        ("frame,x0,y0,x1,y1\n0,1,2,nan,4\n", ("row 2", "2147483648", "frame, x0, y0, x1, y1")),
        (
            "frame,x0,y0,x1,y1\n0,-3e9,2,3,4\n",
            ("row 2", "'0,-3e9,2,3,4'", "numbers below 2147483648"),
        ),
        ("frame,x0,y0,x1,y1\n1e30,1,2,3,4\n", ("row 2", "2147483648", "frame")),
        (
            "frame,x0,y0,x1,y1\n0.5,1,2,3,4\n",
            ("row 2", "'0.5,1,2,3,4'", "whole number from 0", "frame"),
        ),
        ("image_id,x,y,w,h\n-5,1,2,3,4\n", ("row 2", "whole number from 0", "image_id")),
        (
            "0,1,10,20,40,100,1\n",
            ("row 1", "'0,1,10,20,40,100,1'", "whole number from 1", "frame"),
        ),
        (
            "frame,x0,y0,x1,y1\n" + "1" * 140_000,
            ("CSV", "UTF-8", "131072"),
        ),
        ("frame,x0,y0,x1,y1\n0,3,2,3,4\n", ("row 2", "without area")),
        ("frame,x,y,w,h\n0,3,2,-3,4\n", ("row 2", "without area")),
        ("frame,x0,y0,x1,y1\n", ("no box",)),
        ("frame,x,y,w,h,conf\n0,0,0,9,9,0\n", ("no box",)),
        ("\n \n", ("empty", "accepted")),
    ],
)
def test_bad_files_are_told_in_one_sentence(tmp_path: Path, text: str, facts: tuple[str, ...]) -> None:
    with refused(*facts) as caught:
        boxes.read_csv(given_file(tmp_path, text))
    assert "boxes.csv" in str(caught.value)


@pytest.mark.parametrize(
    "content", [OWN.replace("left", "d\u00f6ner").encode("latin-1"), b"\0\0\0\x20ftypisom\xff\xfe"]
)
def test_other_kinds_of_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "moves.mp4").write_bytes(content)
    with refused("moves.mp4", "CSV", "UTF-8", "accepted"):
        boxes.read_csv(tmp_path / "moves.mp4")


def test_missing_file() -> None:
    with refused("nowhere.csv", "CSV"):
        boxes.read_csv("nowhere.csv")


def test_interpolation_fills_gaps_and_does_not_extrapolate_far() -> None:
    known = np.array([[0.0, 0, 10, 10], [10, 20, 30, 40]])
    times = np.array([-2.0, -0.5, 0.0, 0.5, 1.0, 2.0, 2.01])
    filled = boxes.interpolate(np.array([1.0, 0.0]), known[::-1], times, limit=1.0)
    np.testing.assert_array_equal(np.isfinite(filled[:, 0]), [False, True, True, True, True, True, False])
    np.testing.assert_allclose(filled[[1, 2, 3, 4]], [known[0], known[0], known.mean(0), known[1]])
    assert np.isnan(boxes.interpolate(np.zeros(0), np.zeros((0, 4)), times)).all()


def test_a_long_gap_between_known_boxes_stays_unknown_in_its_middle() -> None:
    known = np.array([[0.0, 0, 10, 10], [10, 20, 30, 40]])
    filled = boxes.interpolate(np.array([0.0, 10.0]), known, np.array([0.9, 5.0, 9.1]), limit=1.0)
    np.testing.assert_array_equal(np.isfinite(filled[:, 0]), [True, False, True])


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1, 500), st.floats(1, 500), st.floats(0, 1))
def test_square_keeps_the_centre_and_holds_the_box(
    x: float, y: float, w: float, h: float, margin: float
) -> None:
    box = np.array([x, y, x + w, y + h])
    x0, y0, x1, y1 = boxes.square(box, margin)
    assert x1 - x0 == pytest.approx(y1 - y0) == pytest.approx(max(w, h) * (1 + 2 * margin))
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], [x + w / 2, y + h / 2], atol=1e-6)
    assert x0 <= box[0] + 1e-6 and y1 >= box[3] - 1e-6


def test_crop_is_exact_where_nothing_is_resized_and_black_outside() -> None:
    image = np.random.default_rng(0).integers(1, 255, (40, 60, 3), np.uint8)
    np.testing.assert_array_equal(
        boxes.crop_resize(image, np.array([10.0, 5, 30, 25]), 20), image[5:25, 10:30]
    )
    corner = boxes.crop_resize(image, np.array([-8.0, -8, 8, 8]), 16)
    np.testing.assert_array_equal(corner[8:, 8:], image[:8, :8])
    assert not corner[:8].any() and not corner[:, :8].any()
    assert not boxes.crop_resize(image, np.array([100.0, 100, 120, 120]), 8).any()


def test_crop_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    small = boxes.crop_resize(stripes, np.array([0.0, 0, 64, 64]), 8)
    np.testing.assert_allclose(
        small.astype(float), 127.5, atol=20
    )  # nearest or bilinear sampling gives 0 or 255


def test_crop_follows_fractions_of_a_pixel() -> None:
    image = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    here, there = (boxes.crop_resize(image, np.array([x, 10.0, x + 32, 42.0]), 16) for x in (10.0, 10.5))
    assert np.median(there.astype(int) - here) == 2  # half a pixel of a slope of 4 per pixel


@pytest.mark.parametrize("box", [[0.0, 0, 0, 5], [0.0, 0, 5, float("nan")], [5.0, 0, 1, 5]])
def test_crop_of_nothing_is_refused(box: list[float]) -> None:
    with refused("has no area"):
        boxes.crop_resize(np.zeros((8, 8, 3), np.uint8), np.array(box), 4)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    inner = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None).prod(-1)
    return inner / ((a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - inner)


def truth(centre: np.ndarray, body: tuple[int, int] = (22, 64)) -> np.ndarray:
    half = np.array(body) / 2
    return np.concatenate([centre - half, centre + half], 1)


def covered(box: np.ndarray, inner: np.ndarray) -> float:
    """Least share of the true box inside the found one, over time."""
    size = np.clip(np.minimum(box[:, 2:], inner[:, 2:]) - np.maximum(box[:, :2], inner[:, :2]), 0, None).prod(
        -1
    )
    return float((size / (inner[:, 2:] - inner[:, :2]).prod(-1)).min())


TIMES = np.arange(80) / 10
WALK = np.stack([80 + 55 * np.sin(2 * np.pi * TIMES / 8), 60 + 3 * np.sin(9 * TIMES)], 1)


@pytest.mark.parametrize("noise", [1.0, 6.0])
def test_walking_person_is_followed(noise: float) -> None:
    film = videos.scene(TIMES, WALK, noise=noise)
    person = boxes.find_static(film, TIMES, TIMES, (2.0, 2.0))
    assert person.method == "silhouette" and person.confidence > 0.6
    assert covered(person.box / 2, truth(WALK)) > 0.9
    assert iou(person.box / 2, truth(WALK)).mean() > 0.5


def with_bystander(film: np.ndarray, sway: float) -> np.ndarray:
    """A larger second person on the right who stands still but for a small sway."""
    still = np.tile([140.0, 62.0], (len(film), 1))
    still[:, 0] += sway * np.sin(5 * np.arange(len(film)))
    other = videos.scene(TIMES, still, body=(30, 90), noise=0.0)
    y, x = np.mgrid[: film.shape[1], : film.shape[2]]
    film = film.copy()
    for n, (cx, cy) in enumerate(still):
        inside = ((x + 0.5 - cx) / 15) ** 2 + ((y + 0.5 - cy) / 45) ** 2 <= 1
        film[n][inside] = other[n][inside]
    return film


def test_bystander_is_left_out() -> None:
    walk = WALK * [0.6, 1.0]  # x from 15 to 81
    person = boxes.find_static(with_bystander(videos.scene(TIMES, walk), 0.4), TIMES, TIMES)
    assert covered(person.box, truth(walk)) > 0.9
    assert person.box[:, 2].max() < 118  # the bystander begins at 125


@pytest.mark.parametrize("sway", [0.2, 0.4])
def test_person_on_the_spot_gets_the_whole_body(sway: float) -> None:
    """Sways by part of a pixel and lifts one arm: the background holds the person, the difference only the
    arm.
    """
    centre = np.stack([80 + sway * np.sin(3 * TIMES), 64 + 0.6 * sway * np.sin(2 * TIMES)], 1)
    film = videos.scene(TIMES, centre, body=(26, 90), plain=True)
    for n, time in enumerate(TIMES):
        lift = int(20 * (1 + np.sin(4 * time)) / 2)
        film[n, 40 - lift : 48 - lift, 90:108] = 35
    person = boxes.find_static(film, TIMES, TIMES)
    assert person.method == "activity"
    assert covered(person.box, truth(centre, (26, 90))) > 0.85
    assert (person.box[:, 2] > 105).all()
    assert (person.box[:, 2:] - person.box[:, :2]).max() < 120


def test_person_on_the_spot_for_long_is_found_block_by_block() -> None:
    times = np.arange(110) / 5  # 22 s
    centre = np.stack([80 + 1.2 * np.sin(3 * times), np.full(110, 60.0)], 1)
    person = boxes.find_static(videos.scene(times, centre), times, times)
    assert covered(person.box, truth(centre)) > 0.85
    assert iou(person.box, truth(centre)).mean() > 0.5


def test_exposure_changes_are_not_a_person() -> None:
    film = videos.scene(TIMES, WALK).astype(float) + 12 * np.sin(TIMES)[:, None, None]
    person = boxes.find_static(np.clip(film, 0, 255).astype(np.uint8), TIMES, TIMES)
    assert covered(person.box, truth(WALK)) > 0.9 and iou(person.box, truth(WALK)).mean() > 0.5


def test_absent_person_is_bridged_and_costs_confidence() -> None:
    away = WALK.copy()
    away[20:40] = [-200, -200]
    person = boxes.find_static(videos.scene(TIMES, away), TIMES, TIMES)
    whole = boxes.find_static(videos.scene(TIMES, WALK), TIMES, TIMES)
    assert person.confidence < whole.confidence
    assert np.isfinite(person.box).all()


def test_empty_room_gives_the_whole_picture_without_confidence() -> None:
    film = videos.scene(TIMES[:20], np.full((20, 2), -500.0), noise=3.0)
    person = boxes.find_static(film, TIMES[:20], TIMES[:20], (3.0, 3.0))
    assert (person.method, person.confidence) == ("frame", 0.0)
    np.testing.assert_array_equal(person.box, np.tile([0, 0, 480, 360], (20, 1)))
    one = boxes.find_static(film[:1], TIMES[:1], TIMES[:3])
    assert one.method == "frame" and one.box.shape == (3, 4)


def test_empty_film_is_refused() -> None:
    with refused("no picture"):
        boxes.find_static(np.zeros((0, 8, 8), np.uint8), np.zeros(0), np.zeros(3))


def test_real_footage_holds_every_triangulated_marker_in_its_crop(shared: Path) -> None:
    import tomllib

    from scipy.spatial.transform import Rotation

    clip = shared / "data" / "four_camera_clip"
    cameras = tomllib.loads((clip / "Pose2Sim_cameras.toml").read_text())
    rows = [
        line.split("\t")
        for line in (clip / "Pose2Sim_markers.trc").read_text().splitlines()[5:]
        if line.strip()
    ]
    marks = np.array([[float(cell) for cell in row[2:65]] for row in rows]).reshape(-1, 21, 3)[..., [2, 0, 1]]
    for number in (2,):  # VP9 with sound, a second person in the background
        camera = cameras[f"cam_0{number}"]
        seen = marks @ Rotation.from_rotvec(camera["rotation"]).as_matrix().T + np.array(
            camera["translation"]
        )
        pixels = (seen / seen[..., 2:]) @ np.array(camera["matrix"]).T
        look = videos.survey(clip / f"cam0{number}.mp4")
        person = boxes.find_static(look.film, look.times[look.film_index], look.times, look.scale)
        crop = boxes.square(person.box)[: len(marks), None]
        inside = ((pixels[..., :2] >= crop[..., :2]) & (pixels[..., :2] <= crop[..., 2:])).all(-1)
        assert inside.mean() > 0.99 and person.confidence > 0.8
        # The person fills a good part of it.
        tall = pixels[..., 1].max(1) - pixels[..., 1].min(1)
        assert (tall / (crop[:, 0, 3] - crop[:, 0, 1])).mean() > 0.5


def test_crop_matches_pillow_on_the_whole_picture() -> None:
    image = np.random.default_rng(1).integers(0, 255, (50, 50, 3), np.uint8)
    slow = np.asarray(Image.fromarray(image).resize((20, 20), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(boxes.crop_resize(image, np.array([0.0, 0, 50, 50]), 20), slow)
