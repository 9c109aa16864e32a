"""What launch.predict takes for pictures, videos and scenes, and what it says of everything else."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from launch.prediction.sources import open_scene
from tests.datasets import videos
from tests.refusals import refused


def picture(path: Path) -> Path:
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(path)
    return path


def film(path: Path, rate: int = 25) -> Path:
    return videos.write(path, np.full((4, 32, 48), 90, np.uint8), rate=rate)


def test_one_picture_and_a_folder_of_them(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", ".c.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not a picture")
    scene = open_scene(tmp_path)
    assert [f.name for f in scene.cameras[0].files] == ["a.JPG", "b.png"] and scene.name == tmp_path.name
    assert (scene.cameras[0].frames, scene.cameras[0].boxes, scene.cameras[0].is_video) == (2, "whole", False)
    assert open_scene(tmp_path / "b.png").cameras[0].files == (tmp_path / "b.png",)


def test_one_video(tmp_path: Path) -> None:
    film(tmp_path / "jump.mp4")
    for source in (tmp_path, tmp_path / "jump.mp4"):
        (camera,) = open_scene(source).cameras
        assert (camera.name, camera.boxes, camera.rate, camera.frames) == ("jump", "static", 25.0, 4)
    assert open_scene(tmp_path, "whole").cameras[0].boxes == "whole"


def test_a_folder_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "jump.mp4")
    monkeypatch.chdir(tmp_path)
    assert open_scene(".").name == tmp_path.name


def test_a_scene_and_its_boxes(tmp_path: Path) -> None:
    film(tmp_path / "left.mp4")
    film(tmp_path / "right.mp4", rate=50)
    (tmp_path / "boxes.csv").write_text("camera,frame,x0,y0,x1,y1\nleft,0,1,2,3,4\nright.mp4,1,5,6,7,8\n")
    scene = open_scene(tmp_path)
    assert [camera.rate for camera in scene.cameras] == [25, 50] and scene.notes == ()
    np.testing.assert_array_equal(scene.cameras[1].boxes.box, [[5, 6, 7, 8]])
    assert {camera.boxes for camera in open_scene(tmp_path, "static").cameras} == {"static"}
    manifest = tmp_path / "manifest.toml"
    cameras = '[[session.camera]]\nfile="left.mp4"\n[[session.camera]]\nfile="right.mp4"\noffset=-0.5\n'
    manifest.write_text(f'[[session]]\nname="jump"\n{cameras}')
    for source in (tmp_path, manifest):
        scene = open_scene(source)
        assert scene.name == "jump" and [camera.offset for camera in scene.cameras] == [0, -0.5]
    manifest.write_text(f'[[session]]\nname="a"\n{cameras}[[session]]\nname="b"\n{cameras}')
    with refused("2 scenes", "a, b"):
        open_scene(manifest)


def test_a_camera_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    film(tmp_path / "left.mp4")
    (tmp_path / "right.mp4").write_bytes(b"no video" * 100)
    scene = open_scene(tmp_path)
    assert [camera.name for camera in scene.cameras] == ["left"]
    assert len(scene.notes) == 1 and "right.mp4: is not a readable video" in scene.notes[0]
    (tmp_path / "left.mp4").write_bytes(b"")
    with refused("left.mp4", "empty", "right.mp4", "not a readable video"):
        open_scene(tmp_path)


def test_boxes_of_pictures_by_name_or_number(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    csv = tmp_path / "mine.csv"
    csv.write_text("file,frame,x0,y0,x1,y1\nc.png,0,1,1,5,5\na,0,2,2,6,6\n")
    track = open_scene(tmp_path, str(csv)).cameras[0].boxes
    np.testing.assert_array_equal(track.frame, [0, 2])
    np.testing.assert_array_equal(track.box, [[2, 2, 6, 6], [1, 1, 5, 5]])
    csv.write_text("frame,x,y,w,h\n1,2,2,3,3\n")
    np.testing.assert_array_equal(open_scene(tmp_path, str(csv)).cameras[0].boxes.box, [[2, 2, 5, 5]])
    csv.write_text("frame,x,y,w,h\n3,2,2,3,3\n")
    with refused("picture 3", "there are 3, from 0"):
        open_scene(tmp_path, str(csv))
    csv.write_text("file,frame,x0,y0,x1,y1\nd.png,0,1,1,5,5\n")
    with refused("d.png", "3 pictures"):
        open_scene(tmp_path, str(csv))
    picture(tmp_path / "a.jpg")
    csv.write_text("file,frame,x0,y0,x1,y1\nb,0,1,1,5,5\na,0,1,1,5,5\n")
    with refused("a.jpg or a.png", "whole name"):
        open_scene(tmp_path, str(csv))
    csv.write_text("file,frame,x0,y0,x1,y1\na.png,0,1,1,5,5\na.jpg,0,2,2,5,5\n")
    np.testing.assert_array_equal(open_scene(tmp_path, str(csv)).cameras[0].boxes.box[:, 0], [2, 1])
    with refused("--boxes=static", "pictures", "--boxes=whole"):
        open_scene(tmp_path, "static")
    with refused("statik", "no such file", "CSV"):
        open_scene(tmp_path, "statik")


def test_boxes_beside_pictures_are_taken(tmp_path: Path) -> None:
    """As beside videos; numbers count all the pictures there, whichever of them are asked for."""
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    (tmp_path / "boxes.csv").write_text("file,frame,x0,y0,x1,y1\nc.png,0,1,1,5,5\nb,0,2,2,6,6\n")
    track = open_scene(tmp_path).cameras[0].boxes
    np.testing.assert_array_equal(track.frame, [1, 2])
    np.testing.assert_array_equal(track.box, [[2, 2, 6, 6], [1, 1, 5, 5]])
    assert open_scene(tmp_path, "whole").cameras[0].boxes == "whole"
    (tmp_path / "boxes.csv").write_text("frame,x0,y0,x1,y1\n1,2,2,6,6\n2,1,1,5,5\n")
    for name, frame, box in (("c.png", [0], [[1, 1, 5, 5]]), ("a.png", [], np.zeros((0, 4)))):
        track = open_scene(tmp_path / name).cameras[0].boxes
        np.testing.assert_array_equal(track.frame, frame)
        np.testing.assert_array_equal(track.box, box)
    (tmp_path / "boxes.csv").write_text("camera,frame,x0,y0,x1,y1\nleft,0,1,2,3,4\n")
    with refused("left", "3 pictures", "--boxes"):
        open_scene(tmp_path / "a.png")


def test_names_that_no_result_could_carry(tmp_path: Path) -> None:
    with refused("--boxes", r"caf\xe9.csv"):
        open_scene(tmp_path, "caf\udce9.csv")
    for name in (b"caf\xe9.png", b"na\xefve.png", "日本.png".encode()):
        picture(tmp_path / "x.png").rename(tmp_path / os.fsdecode(name))
    with refused("--source", r"caf\xe9.png", "1 more", "UTF-8", "rename it"):
        open_scene(tmp_path)
    with refused("--source", r"caf\xe9.png"):
        open_scene(tmp_path / "caf\udce9.png")
    assert open_scene(tmp_path / "日本.png").name == "日本"
    for name in ("left.mp4", "right.mp4"):
        film(tmp_path / name)
    for name in ("a/b", "", "a\\u0000"):
        cameras = (
            f'[[session.camera]]\nfile="left.mp4"\nname="{name}"\n[[session.camera]]\nfile="right.mp4"\n'
        )
        (tmp_path / "manifest.toml").write_text(f'[[session]]\nname="jump"\n{cameras}')
        with refused("camera named", "overlay_NAME.mp4", "/", "NUL"):
            open_scene(tmp_path / "manifest.toml")
    # Neither leads out of the folder, as what is written is overlay_NAME.mp4.
    for name in ("..", ".hidden"):
        cameras = (
            f'[[session.camera]]\nfile="left.mp4"\nname="{name}"\n[[session.camera]]\nfile="right.mp4"\n'
        )
        (tmp_path / "manifest.toml").write_text(f'[[session]]\nname="jump"\n{cameras}')
        assert [c.name for c in open_scene(tmp_path / "manifest.toml").cameras] == [name, "right"]


def test_boxes_of_other_videos_are_refused(tmp_path: Path) -> None:
    path, csv = film(tmp_path / "jump.mp4"), tmp_path / "mine.csv"
    csv.write_text("frame,x0,y0,x1,y1\n0,1,1,5,5\n")
    np.testing.assert_array_equal(open_scene(path, str(csv)).cameras[0].boxes.frame, [0])
    csv.write_text("camera,frame,x0,y0,x1,y1\njump,0,1,1,5,5\nrun,0,1,1,5,5\n")
    with refused("boxes for jump, run", "those of jump"):
        open_scene(path, str(csv))
    film(tmp_path / "run.mp4")
    csv.write_text("frame,x0,y0,x1,y1\n0,1,1,5,5\n")
    with refused("no named camera", "those of jump, run"):
        open_scene(tmp_path, str(csv))


def test_one_video_of_a_scene_takes_its_own_boxes(tmp_path: Path) -> None:
    csv = tmp_path / "boxes.csv"
    csv.write_text("camera,frame,x0,y0,x1,y1\njump,0,1,1,5,5\nrun,0,2,2,6,6\n")
    for source in (film(tmp_path / "jump.mp4"), tmp_path):
        np.testing.assert_array_equal(open_scene(source).cameras[0].boxes.box, [[1, 1, 5, 5]])
    with refused("boxes for jump, run", "those of walk"):
        open_scene(film(tmp_path / "walk.mp4"))


def test_who_is_left_out_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("frame,id,x0,y0,x1,y1\n0,1,1,1,5,5\n0,2,1,1,9,9\n")
    (note,) = open_scene(film(tmp_path / "jump.mp4")).notes
    assert note.endswith("boxes.csv: 2 people are listed; id 2 is taken, who covers the largest area.")


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with refused("none:", "no such file or folder", "a picture"):
        open_scene(tmp_path / "none")
    (tmp_path / "song.mp3").write_bytes(b"la")
    with refused("song.mp3", ".jpg"):
        open_scene(tmp_path / "song.mp3")
    (tmp_path / "inner").mkdir()
    with refused("no pictures", "no videos", ".jpg"):
        open_scene(tmp_path)
    picture(tmp_path / "a.png")
    film(tmp_path / "b.mp4")
    with refused("a.png", "b.mp4", "one kind"):
        open_scene(tmp_path)
