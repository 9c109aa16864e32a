"""Predicts a source's views and writes them to a folder, complete or not at all."""

import contextlib
import dataclasses
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from launch.cli import options, progress
from launch.cli.options import option
from launch.prediction import camera_views, files, overlay, sources, viewer
from launch.prediction import frames as predict_frames
from launch.prediction import instants as predict_instants
from launch.prediction import model as predict_model
from launch.prediction.notes import counted
from launch.prediction.sources import Camera, Scene
from launch.prediction.thumbnails import Thumbnails
from launch.runs import run_folder
from mcss_jax.errors import UserError
from mcss_jax.setting import Role
from mcss_jax.storage.model import LARGEST_BATCH, Model

SOURCE, OUTPUT = "What is predicted", "What is written"


@dataclasses.dataclass(frozen=True)
class Predict:
    """See `python -m launch.predict --help`."""

    workdir: str = option("", "Folder of a trained run; by default the small model of the demo.", "Model")
    step: int = option(0, "Checkpoint; 0 for the newest.", "Model")
    batch: int = option(
        64, "Pictures that go through the network at once; best a power of two.", "Model", roles={Role.MEMORY}
    )
    source: str = option("", "A picture, a folder of pictures, a video, or the videos of one scene.", SOURCE)
    boxes: str = option(
        "",
        "Where the person is: whole (pictures are crops already), static (the camera stands still: whoever moves in "
        "the video, which is decoded twice for it), or a CSV file as in preparation. By default whole for pictures "
        "and static for videos, or the boxes.csv beside them.",
        SOURCE,
    )
    margin: float = option(
        0.1, "Added to the person's box at every side, as a share of its longer side.", SOURCE
    )
    every: int = option(
        1,
        "Predict every n-th frame or picture. Of videos: the frames nearest to moments so far apart on the scene's "
        "clock, in frames of the slowest camera, so that the views of a moment belong together.",
        SOURCE,
    )
    output: str = option("", "Folder of the results.", OUTPUT)
    video: bool = option(False, "Write a video of each camera with the skeleton over it, too.", OUTPUT)
    overwrite: bool = option(False, "Replace earlier results in --output.", OUTPUT)


def check(config: Predict) -> None:
    """Raises UserError for settings that make no sense."""
    for name in ("source", "output"):
        if not getattr(config, name):
            raise UserError(f"--{name} is missing; --help says what it names")
    for name, limit in (("batch", LARGEST_BATCH), ("every", 1_000_000)):
        if not 1 <= getattr(config, name) <= limit:
            raise UserError(f"--{name}={getattr(config, name)}; expected 1 to {limit:,}")
    if not 0 <= config.margin <= 2:
        raise UserError(f"--margin={config.margin}; expected a share of the box's longer side, 0 to 2")


def predict(config: Predict) -> Path:
    """Predicts, writes, and returns the output folder.

    Raises UserError or OSError with what is wrong with settings, model, source or output; UserError when nobody is
    found in any frame.
    """
    check(config)
    scene = sources.open_scene(config.source, config.boxes)
    if config.video and not scene.cameras[0].is_video:
        raise UserError(f"--video needs a video; {config.source} holds pictures")
    output = Path(config.output).expanduser()
    files.check_place(output, Path(config.source).expanduser(), scene.cameras, config.video)
    with files.staged(output, config.overwrite) as folder, warnings.catch_warnings():
        # Of large or odd pictures, which are read all the same.
        warnings.filterwarnings("ignore", module="PIL")
        opened = predict_model.open_model(config.workdir, config.step)
        progress.say(f"model: {opened.about}")
        _predict_to(folder, config, scene, opened)
    return output


def _predict_to(folder: Path, config: Predict, scene: Scene, opened: predict_model.Opened) -> None:
    notes = list(scene.notes)
    rates = [camera.rate for camera in scene.cameras]
    interval = config.every / (min(rates) or 1.0)  # from one instant to the next: seconds, or pictures
    side = 640 if len(scene.cameras) == 1 else 480
    start = time.perf_counter()
    total = sum(camera.frames * predict_frames.decodings(camera) for camera in scene.cameras)
    results = []
    kind = "frame" if scene.cameras[0].is_video else "picture"
    with progress.bar(total, "predict", kind) as bar:
        for camera in scene.cameras:
            thumbnails = Thumbnails(interval, side, expected=camera.frames / (camera.rate or 1.0) / interval)
            frames = predict_frames.frames(
                camera, config.margin, config.every, interval, notes, bar.update, folder
            )
            path = folder / files.FILM.format(camera.name)
            with contextlib.ExitStack() as stack:
                film = None
                if config.video:
                    rate = camera.rate if config.every == 1 else 1 / interval
                    film = stack.enter_context(overlay.film(path, rate))
                views = camera_views.predict(
                    opened.model, camera, frames, margin=config.margin, batch=config.batch, notes=notes,
                    thumbnails=thumbnails, film=film,
                )  # fmt: skip
            if views is not None:
                results.append((camera, views, thumbnails))
            elif config.video:  # nothing is written of a camera in which nobody was found
                path.unlink()
    seconds = time.perf_counter() - start
    if not results:
        reasons = " ".join(f"{note.rstrip('.')}." for note in notes)
        raise UserError(f"{config.source}: nothing could be predicted. {reasons}")
    cameras, predicted = [camera for camera, _, _ in results], [views for _, views, _ in results]
    instants = predict_instants.fuse(predicted, interval) if len(results) > 1 else None
    command = options.command("launch.predict", config)
    about = f"{scene.name}, predicted by launch.predict.\nModel: {opened.about}.\nCommand: {command}"
    files.save(folder, cameras, predicted, instants, "\n".join([about, *(f"Note: {n}" for n in notes)]))
    predictions = viewer.Predictions(
        scene.name,
        opened.about,
        notes,
        command,
        cameras,
        predicted,
        [thumbnails for _, _, thumbnails in results],
        interval,
        instants,
    )
    run_folder.write_text(folder / files.PAGE, viewer.html(predictions))
    for note in notes:
        progress.say(f"note: {note}")
    _say_speed(opened.model, cameras, sum(map(len, predicted)), seconds)


def _say_speed(model: Model, cameras: Sequence[Camera], count: int, seconds: float) -> None:
    speed = f"{count / seconds:.1f} a second, compilation included"
    progress.say(f"{counted(count, 'view')} in {seconds:.1f} s, {speed}")
    if not cameras[0].is_video:
        progress.say(f"one picture alone: {1000 * predict_model.latency(model):.1f} ms after warm-up")
