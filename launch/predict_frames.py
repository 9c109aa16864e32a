"""The frames of a camera, each with the square about the person; every video is decoded once, from start to end."""

import dataclasses
import itertools
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import simplejpeg
from av import VideoFrame
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from datasets import boxes, cropping, static_camera, video
from launch.predict_sources import STATIC, WHOLE, Camera

THREADS = os.cpu_count() or 1  # that read, write and cut pictures
LEAST = 60  # pictures that the finder looks at, if a short clip has them

Picture = UInt8[np.ndarray, "h w 3"]
Advance = Callable[[int], object]
Result = TypeVar("Result")
NOBODY = np.full(4, np.nan)


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture of a camera.

    Attributes:
      index: of the frame in its video, or of the picture among the pictures.
      time: seconds on the scene's clock; NaN for pictures.
      square: what is cropped (x0, y0, x1, y1; pixels of the picture); NaN where nobody was found.
      picture: makes the whole picture.
    """

    index: int
    time: float
    square: Float[np.ndarray, "4"]
    picture: Callable[[], Picture]


def instant_of(position: float, interval: float) -> int:
    """The number of the nearest instant; the earlier one on a tie, and within a hair of one.

    Python's own rounding goes to the even one, which would take every other instant from a camera that runs half a
    frame late.
    """
    return math.ceil(position / interval - 0.5 - 1e-6)


def frames(
    camera: Camera, margin: float, every: int, notes: list[str], advance: Advance, folder: Path
) -> Iterator[Frame]:
    """Every `every`-th frame that can be read; what cannot, and what to look at, is added to `notes`.

    Args:
      margin: what is added to the person's box at every side, as a share of its longer side.
      advance: called with the frames that were decoded, and, where the person must be found first, again with those
        that are given.
      folder: where frames of `static` cameras wait as JPEG files until the person is found.
    """
    if not camera.is_video:
        return _pictures(camera, margin, every, notes, advance)
    if camera.boxes == STATIC:
        return _found(camera, margin, every, notes, advance, folder)
    return _known(camera, margin, every, notes, advance)


def decodings(camera: Camera) -> int:
    """How often `advance` is called for every frame of a camera."""
    return 2 if camera.boxes == STATIC else 1


def whole(picture_size: tuple[int, int]) -> Float[np.ndarray, "4"]:
    """The square about a whole picture (width, height)."""
    centre, half = np.asarray(picture_size) / 2, max(picture_size) / 2
    return np.concatenate([centre - half, centre + half])


def spans(indices: Sequence[int]) -> str:
    """Ascending numbers in words: 0 to 12, 40."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs)


def ahead(calls: Iterator[Callable[[], Result]], depth: int, threads: int = 1) -> Iterator[Result]:
    """What the calls give, in order, `depth` of them made ahead in other threads. An error is raised at its place."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(call) for call in itertools.islice(calls, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(call) for call in itertools.islice(calls, 1))
            yield result


def _pictures(
    camera: Camera, margin: float, every: int, notes: list[str], advance: Advance
) -> Iterator[Frame]:
    track = camera.boxes
    given = {} if isinstance(track, str) else dict(zip(track.frame.tolist(), track.box, strict=True))
    wanted = range(0, len(camera.files), every)
    read = ahead(
        (partial(_opened, camera.files[index]) for index in wanted), depth=2 * THREADS, threads=THREADS
    )
    for index, picture in zip(wanted, read, strict=True):
        advance(min(every, len(camera.files) - index))
        if isinstance(picture, str):
            notes.append(picture)
            continue
        if track == WHOLE:
            square = whole((picture.shape[1], picture.shape[0]))
        else:
            square = boxes.square(given[index], margin) if index in given else NOBODY
        yield Frame(index, float("nan"), square, partial(np.asarray, picture))


def _opened(path: Path) -> Picture | str:
    """A picture, upright; what is wrong with it where it cannot be read."""
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):
                return f"{path} has more than 8 bits a channel, which would be cut off; save it with 8"
            return np.asarray(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path} is not a readable picture ({error})"


def _known(camera: Camera, margin: float, every: int, notes: list[str], advance: Advance) -> Iterator[Frame]:
    for index, time, frame in _decoded(camera, notes, advance):
        if index % every:
            continue
        square = NOBODY
        if camera.boxes == WHOLE:
            square = whole(_size(frame))
        elif isinstance(camera.boxes, boxes.Track):
            # Frames are the CSV's clock; a video whose rate varies has no other before its end.
            at, known = np.array([index / camera.rate]), camera.boxes.frame / camera.rate
            square = boxes.square(boxes.interpolate(known, camera.boxes.box, at)[0], margin)
        yield Frame(index, time, square, partial(video.picture, frame))


def _found(
    camera: Camera, margin: float, every: int, notes: list[str], advance: Advance, folder: Path
) -> Iterator[Frame]:
    """Frames wait on disk until all were seen: the person is found in the film of them."""
    with tempfile.TemporaryFile(dir=folder) as waiting, tempfile.TemporaryFile(dir=folder) as film:
        kept: list[tuple[int, float, int]] = []
        shown: list[float] = []
        shape, scale, due = (0, 0), (1.0, 1.0), -np.inf
        gap = min(1.0 / cropping.FILM_RATE, camera.frames / camera.rate / LEAST)

        def filmed() -> Iterator[Callable[[], tuple[int, float, bytes]]]:
            nonlocal shape, scale, due
            for index, time, frame in _decoded(camera, notes, advance):
                if time >= due - 1e-6:
                    grey = np.ascontiguousarray(_grey(frame))
                    film.write(grey.tobytes())
                    shown.append(time)
                    shape = grey.shape
                    scale = (_size(frame)[0] / shape[1], _size(frame)[1] / shape[0])
                    due = max(due, time) + gap
                if index % every == 0:
                    yield partial(_packed, index, time, frame)

        for index, time, jpeg in ahead(filmed(), depth=2 * THREADS, threads=THREADS):
            kept.append((index, time, waiting.write(jpeg)))
        if not kept:
            return
        film.flush()
        pictures = np.memmap(film, np.uint8, "r", shape=(len(shown), *shape))
        times = np.array([time for _, time, _ in kept])
        person = static_camera.find_static(pictures, np.array(shown), times, scale)
        if person.method == "frame":
            notes.append(
                f"{camera.files[0]}: nothing moves, so the person cannot be found; give boxes, or --boxes={WHOLE}"
            )
        elif person.confidence < static_camera.UNSURE:
            notes.append(
                f"{camera.files[0]}: the person was not found for sure (confidence {person.confidence:.2f}); look at "
                "the squares, and give boxes as CSV if they are wrong"
            )
        waiting.seek(0)
        before = 0
        for (index, time, size), box in zip(kept, person.box, strict=True):
            advance(index - before)
            before = index
            square = NOBODY if person.method == "frame" else boxes.square(box, margin)
            yield Frame(index, time, square, partial(_read, waiting.read(size)))
        advance(camera.frames - before)


def _decoded(camera: Camera, notes: list[str], advance: Advance) -> Iterator[tuple[int, float, VideoFrame]]:
    """Whole frames with their time on the scene's clock; a video that breaks off ends there, with a note."""
    damaged, last = [], -1
    try:
        for index, time, frame in video.decoded(camera.files[0]):
            advance(1)
            if frame.is_corrupt:
                damaged.append(index)
            else:
                last = index
                yield index, time + camera.offset, frame
    except ValueError as error:
        notes.append(
            f"{error} What could be read is predicted: up to frame {last}." if last >= 0 else str(error)
        )
    if damaged:
        notes.append(f"{camera.files[0]}: damaged frames are left out: {spans(damaged)}")


def _size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height as shown, the recorded rotation applied."""
    turned = round(frame.rotation / 90) % 2
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def _grey(frame: VideoFrame) -> UInt8[np.ndarray, "a b"]:
    """The small picture that the finder looks at."""
    return video.picture(frame, video.reduced(frame.width, frame.height), grey=True)


def _packed(index: int, time: float, frame: VideoFrame) -> tuple[int, float, bytes]:
    """A frame as it waits on disk."""
    picture = video.picture(frame)
    return index, time, simplejpeg.encode_jpeg(picture, cropping.WAITING_QUALITY, colorsubsampling="420")


def _read(jpeg: bytes) -> Picture:
    return simplejpeg.decode_jpeg(jpeg)
