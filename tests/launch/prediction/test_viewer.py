"""The viewer's page of cameras that begin late, end early or lose the person: what is said, and how a view opens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from launch.prediction import model as predict_model
from launch.prediction import predict, thumbnails, viewer
from launch.prediction.frames import Frame
from launch.prediction.pictures import Opened
from launch.prediction.predict import Predict
from launch.prediction.thumbnails import Thumbnails
from mcss_jax import skeleton
from mcss_jax.storage import model
from tests.datasets import videos
from tests.launch import browser
from tests.mcss_jax import steps

RATE = 25
FRAMES = {"whole": 32, "late": 8, "lost": 32}
LATE = 0.4  # seconds after the others


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a scene: `whole` sees it all, `late` begins late and ends early, `lost` has one box, for its first frame."""
    folder = tmp_path_factory.mktemp("scene")
    rows = ["camera,frame,x0,y0,x1,y1"]
    cameras = []
    for name, count in FRAMES.items():
        times = np.arange(count) / RATE
        videos.write(folder / f"{name}.mp4", videos.scene(times, np.full((count, 2), 60.0), (96, 96)), RATE)
        rows += [f"{name},{n},49,28,71,92" for n in range(1 if name == "lost" else count)]
        offset = LATE if name == "late" else 0.0
        cameras.append(f'[[session.camera]]\nfile="{name}.mp4"\noffset={offset}\n')
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    (folder / "manifest.toml").write_text(f'[[session]]\nname="scene"\nboxes="boxes.csv"\n{"".join(cameras)}')
    with steps.two_blocks(), pytest.MonkeyPatch.context() as patch:
        opened = predict_model.Opened(model.of_state(steps.make_state(), steps.SIZE), "nobody trained it")
        patch.setattr(predict_model, "open_model", lambda workdir, step: opened)
        predict.predict(Predict(source=str(folder), output=str(folder / "out"), batch=16))
        yield folder / "out" / "viewer.html"


def content_of(page: Path) -> dict[str, Any]:
    match = re.search(r'type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.S)
    assert match is not None
    return dict(json.loads(match.group(1)))


def test_a_camera_without_a_picture_is_not_one_without_a_person(page: Path) -> None:
    content = content_of(page)
    assert content["cameras"] == list(FRAMES) and len(content["instants"]) == 32
    begins, ends = round(LATE * RATE), round(LATE * RATE) + FRAMES["late"]
    for n, instant in enumerate(content["instants"]):
        whole, late, lost = instant["views"]
        assert whole["label"] == f"frame {n}"
        assert late["label"] == (f"frame {n - begins}" if begins <= n < ends else "no picture")
        # A box holds for a second.
        assert lost["label"] == (f"frame {n}" if n <= RATE else "nobody was found")
        assert [set(view) == {"label"} for view in (late, lost)] == [not begins <= n < ends, n > RATE]


def kept(stride: int, *numbers: int) -> Thumbnails:
    small = Thumbnails(1, 8)
    small.stride, small.kept = stride, {n: (n, b"picture") for n in numbers}
    return small


def test_something_is_always_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only odd instants are there, and too many; and a short video beside one whose pictures were thinned."""
    monkeypatch.setattr(viewer, "MOST", 3)
    assert viewer.shown_instants([kept(1, 1, 3, 5, 7)]) == ([1], 2)
    assert viewer.shown_instants([kept(4), kept(1, 5, 6)]) == ([5], 4)
    assert viewer.shown_instants([kept(1, 2, 4, 5, 6)]) == ([2, 4, 6], 2)


def test_a_picture_is_kept_of_somebody_who_is_hardly_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """In no n-th instant of a long video; and where all that were kept are odd when every other one must go."""

    def offer(small: Thumbnails, *numbers: int) -> None:
        for n in numbers:
            small.offer(Frame(n, float(n), np.zeros(4), Opened(np.zeros((8, 8, 3), np.uint8))))

    monkeypatch.setattr(thumbnails, "MOST", 2)
    rare = Thumbnails(1, 8, expected=8)
    offer(rare, 6, 5, 7, 9, 10)
    assert rare.stride == 4 and sorted(rare.kept) == [5, 6]
    assert viewer.shown_instants([rare]) == ([5], 4)
    offer(rare, 12)
    assert viewer.shown_instants([rare]) == ([12], 4)
    odd = Thumbnails(1, 8)
    offer(odd, 1, 3, 5, 7, 9, 11)
    assert odd.stride == 2 and list(odd.kept) == [1]


@pytest.mark.browser
def test_a_view_opens_as_its_camera_sees_it(page: Path, tmp_path: Path) -> None:
    content = content_of(page)
    with browser.opened(tmp_path) as chromium:
        chromium.open(page)
        captions = "[...document.querySelectorAll('.view figcaption')].map(x => x.textContent)"
        assert chromium.value(captions) == ["whole: frame 0", "late: no picture", "lost: frame 0"]
        # The bar that stays at the bottom hides neither the choice nor the drawing.
        chromium.shape(1200, height=800)
        edge = "document.querySelector('%s').getBoundingClientRect()"
        bottom, top = edge % "#shown" + ".bottom", edge % ".controls" + ".top"
        assert chromium.value(f"{top} - {bottom}") > 0
        assert chromium.value(f"{top} - {edge % '.solid'}.bottom") >= 0
        absent = "[...document.querySelectorAll('.view')].map(x => x.classList.contains('absent'))"
        assert chromium.value(absent) == [False, True, False]
        assert chromium.value("turn") == {"yaw": 0.5, "pitch": 0.25}
        assert chromium.value("others.map(x => x[0].parentNode.style.display)") == ["", "none", ""]
        chromium.value("(slider.value = 31, slider.dispatchEvent(new Event('input')), 0)")
        assert chromium.value(captions) == ["whole: frame 31", "late: no picture", "lost: nobody was found"]
        # Not turned: what is drawn over the picture, at another scale.
        choose = "(shown.value = '%s', shown.dispatchEvent(new Event('change')), main.style.display)"
        assert chromium.value(choose % 0) == ""
        drawn = np.asarray(chromium.value("mainBones.map(l => ['x1','y1'].map(k => +l.getAttribute(k)))"))
        pose = np.reshape(content["instants"][31]["views"][0]["inCamera"], (17, 3))
        flat = pose[[parent for parent, _ in skeleton.BONES], :2]
        scale = (drawn * flat).sum() / (flat**2).sum()
        assert scale > 0
        np.testing.assert_allclose(drawn, scale * flat, atol=0.1)
        back = "(turnBy(1, 1), solid.dispatchEvent(new Event('dblclick')), turn)"
        assert chromium.value(back) == {"yaw": 0, "pitch": 0}
        assert chromium.value(choose % 2) == "none"
        chromium.value(choose % "body")
        assert chromium.value(back) == {"yaw": 0.5, "pitch": 0.25}
        assert chromium.complaints() == []
