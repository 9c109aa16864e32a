"""launch.predict on a small trained run: files, page, a browser that shows it, and what is refused."""

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mcss_jax
from datasets.footage import boxes, video
from launch import predict as predict_program
from launch.cli import options
from launch.prediction import model as predict_model
from launch.prediction import predict
from launch.prediction.predict import Predict
from launch.runs import run_folder, settings
from mcss_jax import skeleton
from mcss_jax.storage import checkpoint
from tests.datasets import videos
from tests.launch import browser
from tests.mcss_jax import steps
from tests.refusals import refused

TIMES = np.arange(24) / 25


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a run that nobody trained."""
    folder = tmp_path_factory.mktemp("run")
    config = options.build(
        settings.Train,
        width=8,
        stem="patch8",
        hidden=8,
        embedding_dim=8,
        steps=3,
        workdir=str(folder),
        dataset="noise",
    )
    run_folder.write_text(folder / "config.json", options.to_json(config))
    run_folder.write_text(folder / "card.json", json.dumps({"image_size": steps.SIZE, "dataset": "noise"}))
    with steps.two_blocks():
        with checkpoint.Checkpoints(folder / "checkpoints") as checkpoints:
            checkpoints.save(3, steps.make_state(settings.method_of(config)), {})
        yield folder


@pytest.fixture(scope="module")
def opened(run: Path) -> predict_model.Opened:
    """The run, opened once: that takes seconds."""
    return predict_model.open_model(str(run))


@pytest.fixture
def is_open(opened: predict_model.Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted is predicted by that model, whatever --workdir says."""
    monkeypatch.setattr(predict_model, "open_model", lambda workdir, step: opened)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cameras; the right one, with a name that HTML must not take for its own, has one box for its whole second."""
    folder = tmp_path_factory.mktemp("scene")
    rows = ["camera,frame,x0,y0,x1,y1"]
    for name, slope in (("left", 60), ("right <script>", -60)):
        centre = np.stack([80 + slope * (TIMES - 0.5), np.full(24, 60.0)], axis=1)
        videos.write(folder / f"{name}.mp4", videos.scene(TIMES, centre))
        for n in range(0, 24) if name == "left" else (23,):
            x = centre[n, 0]
            rows.append(f"{name},{n},{x - 11},28,{x + 11},92")
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def written(run: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("predicted") / "scene"
    predict_program.main(
        Predict(workdir=str(run), source=str(recordings), output=str(output), batch=16, video=True)
    )
    return output


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def content_of(page: Path) -> dict[str, Any]:
    match = re.search(
        r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.S
    )
    assert match is not None
    return dict(json.loads(match.group(1)))


def test_what_is_written(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == [
        "README.txt", "instants.csv", "overlay_left.mp4", "overlay_right <script>.mp4", "predictions.csv",
        "predictions.npz", "viewer.html",
    ]  # fmt: skip
    with np.load(written / "predictions.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    readme = (written / "README.txt").read_text("utf-8")
    for name in (*arrays, "file", "time_s", "views", "spread_mm"):
        assert re.search(rf"\b{name}\b", readme), f"{name} is not explained"
    assert arrays["joint_names"].tolist() == list(skeleton.JOINTS)
    assert arrays["camera_names"].tolist() == ["left", "right <script>"]
    assert arrays["frame"].tolist() == [*range(24), *range(24)]
    assert arrays["camera"].tolist() == [0] * 24 + [1] * 24
    np.testing.assert_allclose(arrays["time"], [*TIMES, *TIMES], atol=1e-6)
    turned = np.einsum("nij,nkj->nki", arrays["rotation"], arrays["canonical"])
    np.testing.assert_allclose(arrays["in_camera"], turned, atol=0.05)
    np.testing.assert_allclose(np.linalg.norm(arrays["embedding"], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(
        boxes.square(boxes.around_joints(arrays["overlay"]), 0.1), arrays["square"], atol=1e-6
    )
    rows = rows_of(written / "predictions.csv")
    assert len(rows) == 48 and rows[30]["camera"] == "right <script>" and rows[30]["frame"] == "6"
    assert float(rows[30]["time_s"]) == pytest.approx(0.24) and rows[0]["file"] == "left.mp4"
    assert float(rows[30]["in_camera_LWrist_y_mm"]) == pytest.approx(
        arrays["in_camera"][30, 13, 1], abs=0.051
    )
    assert float(rows[3]["canonical_Head_z_mm"]) == pytest.approx(arrays["canonical"][3, 10, 2], abs=0.051)
    instants = rows_of(written / "instants.csv")
    assert len(instants) == 24 and {row["views"] for row in instants} == {"2"}
    pair = arrays["canonical"][arrays["instant_view"][5]]
    np.testing.assert_allclose(arrays["instant_canonical"][5], pair.mean(axis=0), atol=0.01)
    assert arrays["instant_view"][5].tolist() == [5, 29]
    spread = np.linalg.norm(pair[0] - pair[1], axis=-1).mean() / 2
    assert float(instants[5]["spread_mm"]) == pytest.approx(spread, abs=0.06) and spread > 0


def test_predictions_are_the_networks_on_the_crops(
    opened: predict_model.Opened, written: Path, recordings: Path
) -> None:
    model = opened.model
    with np.load(written / "predictions.npz") as archive:
        square, embedding = archive["square"], archive["embedding"]
    pictures = [picture for _, picture in video.frames(recordings / "left.mp4")]
    crops = [boxes.crop_resize(p, s, model.image_size) for p, s in zip(pictures, square, strict=False)]
    np.testing.assert_allclose(model(np.stack(crops)).embedding, embedding[:24], atol=1e-4)


def test_the_overlay_is_in_the_video(written: Path, recordings: Path) -> None:
    before = np.stack([p for _, p in video.frames(recordings / "left.mp4")]).astype(int)
    after = np.stack([p for _, p in video.frames(written / "overlay_left.mp4")]).astype(int)
    assert after.shape == before.shape
    colourful = np.ptp(after, axis=-1).max(axis=(1, 2))
    assert (colourful > 80).all() and np.ptp(before, axis=-1).max() < 80


def test_the_page_holds_what_was_predicted(written: Path) -> None:
    content = content_of(written / "viewer.html")
    assert content["cameras"] == ["left", "right <script>"] and len(content["instants"]) == 24
    with np.load(written / "predictions.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    view = content["instants"][7]["views"][1]
    np.testing.assert_allclose(view["inCamera"], arrays["in_camera"][31].ravel(), atol=0.51)
    np.testing.assert_allclose(view["joints"], arrays["overlay"][31].ravel(), atol=0.06)
    assert (view["width"], view["height"], view["label"]) == (160, 120, "frame 7")
    np.testing.assert_allclose(
        content["instants"][7]["canonical"], arrays["instant_canonical"][7].ravel(), atol=0.51
    )
    assert content["instants"][7]["spread"] == round(float(arrays["instant_spread"][7]))
    assert content["milliseconds"] == 40
    text = (written / "viewer.html").read_text("utf-8")
    assert "The skeleton over a picture is placed and scaled by" in text
    assert set(re.findall(r"https?://[^\"]*", text)) == {"http://www.w3.org/2000/svg"}


# -------- a browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.opened(tmp_path_factory.mktemp("profile")) as page:
        yield page


_LOADED = "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
_BONES = "[...document.querySelectorAll('%s')].map(l => ['x1','y1','x2','y2'].map(k => +l.getAttribute(k)))"
_MOVE = "(slider.value = %d, slider.dispatchEvent(new Event('input')), said.textContent)"
_DRAG = """(() => {
  solid.setPointerCapture = () => {};
  const at = (type, x) => solid.dispatchEvent(new PointerEvent(type, {clientX: x, clientY: 50, pointerId: 1}));
  at('pointerdown', 10); at('pointermove', 70); at('pointerup', 70); at('pointermove', 200);
  return turn.yaw;
})()"""


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
def test_a_browser_shows_and_moves_it(written: Path, chromium: browser.Page, width: int, scheme: str) -> None:
    chromium.events.clear()
    chromium.shape(width, scheme)
    chromium.open(written / "viewer.html")
    assert chromium.value(_LOADED) == [160, 160]
    over = _BONES % ".view:first-child svg line"
    inside = _BONES % ".solid > g:last-of-type line"
    before = chromium.value(over), chromium.value(inside)
    assert len(before[0]) == len(before[1]) == len(skeleton.BONES)
    said = chromium.value(_MOVE % 20)
    assert re.fullmatch(r"0\.80 s, spread between the views \d+ mm", said)
    after = chromium.value(over), chromium.value(inside)
    assert before[0] != after[0] and before[1] != after[1]
    assert chromium.value(_LOADED) == [160, 160]
    view = content_of(written / "viewer.html")["instants"][20]["views"][0]
    assert chromium.value("document.images[0].src").endswith(view["picture"][-100:])
    np.testing.assert_allclose(after[0][0], view["joints"][:4], atol=0.1)
    at = chromium.value("+document.querySelector('.mark').getAttribute('x1')")
    assert at == pytest.approx(1000 * 20 / 23)
    # The side that is near follows the mouse: to the right the yaw falls (viewer.js, `turned`).
    assert chromium.value(_DRAG) == pytest.approx(0.0)
    turned = chromium.value(inside)
    assert turned != after[1] and chromium.value(over) == after[0]
    # As a camera sees it, not turned: what is drawn over the picture, at another scale.
    chromium.value("(shown.value = '0', turn.yaw = turn.pitch = 0, show(), 0)")
    drawn = np.asarray(chromium.value("(mainBones.map(l => ['x1','y1'].map(k => +l.getAttribute(k))))"))
    in_camera = np.reshape(view["inCamera"], (17, 3))[[p for p, _ in skeleton.BONES], :2]
    scale = (drawn * in_camera).sum() / (in_camera**2).sum()
    np.testing.assert_allclose(drawn, scale * in_camera, atol=0.1)
    assert scale > 0
    chromium.value("(play.click(), new Promise(done => setTimeout(done, 300)))")
    assert chromium.value("(play.click(), +slider.value)") != 20
    assert chromium.value("innerWidth") == width
    assert chromium.value("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert chromium.value("Math.max(...[...document.querySelectorAll('.view img')].map(i => i.width))") > 100
    assert chromium.complaints() == []
    asked = {url for url in chromium.requests() if not url.startswith("data:")}
    assert asked == {(written / "viewer.html").resolve().as_uri()}


@pytest.mark.browser
def test_a_browser_shows_pictures(
    is_open: None, chromium: browser.Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, shape in (("a.png", (40, 20, 3)), ("b.jpg", (30, 50, 3))):
        picture = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "c.png").write_bytes(b"not a picture")
    predict_program.main(Predict(source=str(tmp_path), output=str(tmp_path / "out")))
    printed = capsys.readouterr().out
    assert "note: " in printed and "c.png is not a readable picture" in printed
    assert re.search(r"one picture alone: \d+\.\d ms after warm-up", printed)
    assert not (tmp_path / "out" / "instants.csv").exists()
    rows = rows_of(tmp_path / "out" / "predictions.csv")
    assert [(row["file"], row["frame"], row["time_s"]) for row in rows] == [
        ("a.png", "0", ""),
        ("b.jpg", "1", ""),
    ]
    chromium.events.clear()
    chromium.open(tmp_path / "out" / "viewer.html")
    assert chromium.value(_MOVE % 1) == "picture 2 of 3" and chromium.value(_LOADED) == [50]
    assert "c.png is not a readable picture" in chromium.value(
        "document.querySelector('.missing').textContent"
    )
    assert chromium.value("document.querySelector('figcaption').textContent").endswith("b.jpg")
    assert chromium.complaints() == []


# -------- models


def test_a_run_is_loaded_in_a_line(run: Path, opened: predict_model.Opened) -> None:
    model = mcss_jax.load(run)
    assert model.image_size == opened.model.image_size == steps.SIZE
    assert model.state.network == opened.model.state.network
    pictures = np.random.default_rng(0).integers(0, 256, (2, model.image_size, model.image_size, 3), np.uint8)
    actual, wanted = model(pictures), opened.model(pictures)
    np.testing.assert_array_equal(actual.in_camera, wanted.in_camera)
    np.testing.assert_array_equal(actual.embedding, wanted.embedding)
    assert 0 < predict_model.latency(model, repeats=2) < 10
    with refused("step 77"):
        mcss_jax.load(run, step=77)


@pytest.mark.parametrize("shape", [(45, 31, 3), (20, 77, 3), (steps.SIZE, steps.SIZE, 3), (300, 211, 3)])
def test_a_picture_is_predicted_as_the_loaded_model_does(
    opened: predict_model.Opened, is_open: None, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    predict.predict(Predict(source=str(tmp_path / "a.png"), output=str(tmp_path / "out")))
    wanted = opened.model(picture)
    with np.load(tmp_path / "out" / "predictions.npz") as archive:
        np.testing.assert_allclose(archive["embedding"], wanted.embedding, atol=1e-6)
        np.testing.assert_allclose(archive["in_camera"], wanted.in_camera, atol=1e-3)


def test_folders_that_are_no_runs(run: Path, tmp_path: Path) -> None:
    with refused("config.json"):
        mcss_jax.load(tmp_path)
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(
        json.dumps(config | {"network": config["network"] | {"embedding_dim": 9}})
    )
    with refused("checkpoint", "float32"):
        mcss_jax.load(copy)
    (copy / "config.json").write_text("[]")
    with refused("config.json", "list", "JSON object"):
        mcss_jax.load(copy)
    (copy / "config.json").write_text("{")
    with refused("config.json", "JSON"):
        mcss_jax.load(copy)
    (copy / "config.json").write_text("{}")
    (copy / "card.json").write_text('{"image_size": "64"}')
    with refused("card.json", "image_size '64'", "pixels"):
        mcss_jax.load(copy)
    (copy / "config.json").write_text(json.dumps(config | {"attention": True}))
    with refused("another version", "['attention']"):
        predict_model.open_model(str(copy))


def test_without_a_run_the_model_of_the_demo(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_model, "MADE", run)
    about = predict_model.open_model("").about
    assert about.startswith("the demo's small model") and "MODEL.md), step 3" in about
    monkeypatch.setattr(predict_model, "MADE", tmp_path)
    with refused("--workdir", "`bash launch/demo.sh`"):
        predict_model.open_model("")


# -------- what is refused


def test_nothing_is_written_where_nobody_is(is_open: None, tmp_path: Path) -> None:
    source = videos.write(tmp_path / "still.mp4", np.full((20, 48, 64), 90, np.uint8))
    with refused(
        "still.mp4",
        "nothing could be predicted",
        "nothing moves",
        "--boxes=whole",
        "still:",
        "frames 0 to 19",
    ):
        predict.predict(Predict(source=str(source), output=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with refused("--video", "a.png", "pictures"):
        predict.predict(Predict(source=str(tmp_path / "a.png"), output=str(tmp_path / "out"), video=True))


def test_a_camera_without_anybody_leaves_no_video(is_open: None, tmp_path: Path) -> None:
    scene = tmp_path / "scene"
    scene.mkdir()
    videos.write(scene / "still.mp4", np.full((24, 48, 64), 90, np.uint8))
    videos.write(scene / "walk.mp4", videos.scene(TIMES, np.stack([80 + 60 * TIMES, np.full(24, 60.0)], 1)))
    (scene / "boxes.csv").write_text("camera,frame,x0,y0,x1,y1\nwalk,9,70,30,90,90\nstill,900,0,0,9,9\n")
    output = predict.predict(
        Predict(source=str(scene), output=str(tmp_path / "out"), every=4, video=True, batch=4)
    )
    assert [path.name for path in output.glob("*.mp4")] == ["overlay_walk.mp4"]
    assert video.probe(output / "overlay_walk.mp4").frame_rate == pytest.approx(25 / 4)
    assert [row["frame"] for row in rows_of(output / "predictions.csv")] == ["0", "4", "8", "12", "16", "20"]
    assert "still: nobody was found in frames 0 to 20, which the" in (output / "README.txt").read_text()


def test_earlier_results_are_not_lost(is_open: None, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    output = tmp_path / "out"
    output.mkdir()
    for name in ("instants.csv", "overlay_mine.mp4", "thesis.txt"):
        (output / name).write_text("earlier")
    config = Predict(source=str(tmp_path / "a.png"), output=str(output))
    with refused("not empty", "--overwrite"):
        predict.predict(config)
    again = options.replace(config, overwrite=True)
    (tmp_path / "b.png").write_text("no picture")
    with refused("nothing could be predicted", "b.png", "not a readable picture"):
        predict.predict(dataclasses.replace(again, source=str(tmp_path / "b.png")))
    assert {path.name for path in output.iterdir()} == {"instants.csv", "overlay_mine.mp4", "thesis.txt"}
    predict.predict(again)
    names = {path.name for path in output.iterdir()}
    assert names == {
        "README.txt", "overlay_mine.mp4", "predictions.csv", "predictions.npz", "thesis.txt", "viewer.html",
    }  # fmt: skip
    with refused("is a file"):
        predict.predict(dataclasses.replace(again, output=str(tmp_path / "a.png")))
