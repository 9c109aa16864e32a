"""The frames of a camera, each with the square about the person. Frames stream: no video is held.

A video is decoded once, from start to end; twice where the person must be found first. To keep the frames until then,
as JPEG files, takes longer than to decode them again, and some 40 GB of disk for an hour in Full HD.
"""

import dataclasses
import itertools
import math
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from av import VideoFrame
from PIL import Image, ImageOps

from datasets.distributions import cropping
from datasets.footage import boxes, static_camera, video
from launch.cli import cpu
from launch.prediction.notes import counted, spans
from launch.prediction.pictures import Decoded, Opened, Picture, Square
from launch.prediction.sources import STATIC, WHOLE, Camera
from mcss_jax import crop
from mcss_jax.errors import UserError

THREADS = cpu.cores()  # that read, write and cut pictures
MIN_FILM_PICTURES = 60  # pictures that the finder looks at, if a short clip has them
NOBODY = np.full(4, np.nan)
# Squares about given boxes: smaller ones show nobody, larger ones hardly the picture.
MIN_SIDE = 2  # pixels, of the part within the picture
MAX_SIDES = 8  # times the picture's longer side

Advance = Callable[[int], object]
Decoding = tuple[int, float, VideoFrame]  # number in the video, seconds on the scene's clock
SquareOf = Callable[[int, tuple[int, int]], Square]  # of the frame of a number, and of a size
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Frame:
    """One picture of a camera.

    Attributes:
      index: of the frame in its video, or of the picture among the pictures.
      time: seconds on the scene's clock; NaN for pictures.
      square: what is cropped (x0, y0, x1, y1; pixels of the picture); NaN where nobody was found.
      picture: what it shows.
    """

    index: int
    time: float
    square: Square
    picture: Picture


def instant_of(position: float, interval: float) -> int:
    """The number of the nearest instant; the earlier one on a tie, and within a hair of one.

    Python's own rounding goes to the even one, which would take every other instant from a camera that runs half a
    frame late.
    """
    return math.ceil(position / interval - 0.5 - 1e-6)


def frames(
    camera: Camera,
    margin: float,
    every: int,
    interval: float,
    notes: list[str],
    advance: Advance,
    folder: Path,
) -> Iterator[Frame]:
    """The frames that are predicted; what cannot be read, and what to look at, is added to `notes`.

    Args:
      margin: what is added to the person's box at every side, as a share of its longer side.
      every: 1 for all frames; else of a video the frames `at_instants`, and every `every`-th picture.
      interval: from one instant to the next, seconds on the scene's clock.
      advance: called with the number of frames, each time that they are decoded (see `decodings`).
      folder: where the small film that `static` looks at lies meanwhile.
    """
    if camera.is_video:
        selected = _of_video(camera, margin, every, interval, notes, advance, folder)
    else:
        selected = _pictures(camera, margin, every, notes, advance)
    return _without_misplaced(selected, camera, notes) if isinstance(camera.boxes, boxes.Track) else selected


def decodings(camera: Camera) -> int:
    """How often every frame of a camera is decoded."""
    return 2 if camera.boxes == STATIC else 1


def ahead(calls: Iterator[Callable[[], Result]], depth: int, threads: int = 1) -> Iterator[Result]:
    """What the calls give, in order, `depth` of them made ahead in other threads. An error is raised at its place."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(call) for call in itertools.islice(calls, depth))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(call) for call in itertools.islice(calls, 1))
            yield result


def _without_misplaced(frames: Iterator[Frame], camera: Camera, notes: list[str]) -> Iterator[Frame]:
    """The frames; in those whose given box can be nobody's there is nobody, and a note says how many they are."""
    misplaced = 0
    for frame in frames:
        if np.isfinite(frame.square).all() and not _may_show(frame.square, frame.picture.size):
            misplaced += 1
            frame = dataclasses.replace(frame, square=NOBODY)
        yield frame
    if misplaced:
        count = counted(misplaced, "frame" if camera.is_video else "picture")
        notes.append(
            f"{camera.name}: boxes of {count} are left out, whose squares lie beside the picture, or are smaller than "
            f"{MIN_SIDE} px, or larger than {MAX_SIDES} times its longer side or {crop.LARGEST_SIDE:,} px; pixels "
            "of the original picture are expected"
        )


def _may_show(square: Square, size: tuple[int, int]) -> bool:
    """Whether a square shows some of a picture of `size` (width, height), and is of a size that a person's could be."""
    within = np.minimum(square[2:], size) - np.maximum(square[:2], 0)
    largest = min(MAX_SIDES * max(size), crop.largest_side(*size))
    return bool(MIN_SIDE <= within.min() and square[2] - square[0] <= largest)


def _pictures(
    camera: Camera, margin: float, every: int, notes: list[str], advance: Advance
) -> Iterator[Frame]:
    track = camera.boxes
    box_of = {} if isinstance(track, str) else dict(zip(track.frame.tolist(), track.box, strict=True))
    numbers = range(0, len(camera.files), every)
    read = ahead(
        (partial(_opened, camera.files[index]) for index in numbers), depth=2 * THREADS, threads=THREADS
    )
    for index, opened in zip(numbers, read, strict=True):
        advance(min(every, len(camera.files) - index))
        if isinstance(opened, str):
            notes.append(opened)
            continue
        if track == WHOLE:
            square = crop.enclosing_square(*opened.size)
        else:
            square = boxes.square(box_of[index], margin) if index in box_of else NOBODY
        yield Frame(index, float("nan"), square, opened)


def _opened(path: Path) -> Opened | str:
    """A picture, upright; what is wrong with it where it cannot be read."""
    try:
        with Image.open(path) as file:
            if file.mode.startswith("I"):
                return f"{path} has more than 8 bits a channel, which would be cut off; save it with 8"
            return Opened(np.asarray(ImageOps.exif_transpose(file).convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{path} is not a readable picture ({error})"


def at_instants(decoded: Iterator[Decoding], interval: float, rate: float) -> Iterator[Decoding]:
    """Of every instant k * `interval` of a recording the frame nearest to it; the earlier one on a tie.

    The recording reaches half a frame (of `rate` a second) beyond its first and its last one. Only the frame that is
    the nearest so far is held.
    """
    reach = 0.5 / rate + 1e-6
    at = first = last = math.nan
    nearest = None
    for instant, of_instant in itertools.groupby(decoded, lambda decoding: instant_of(decoding[1], interval)):
        if nearest is not None:
            yield nearest
        at, nearest, smallest_gap = instant * interval, None, math.inf
        for decoding in of_instant:
            last = decoding[1]
            first = last if math.isnan(first) else first
            # Less than a microsecond apart is a tie.
            if at >= first - reach and abs(last - at) < smallest_gap - 1e-6:
                nearest, smallest_gap = decoding, abs(last - at)
    if nearest is not None and at <= last + reach:
        yield nearest


def _of_video(
    camera: Camera,
    margin: float,
    every: int,
    interval: float,
    notes: list[str],
    advance: Advance,
    folder: Path,
) -> Iterator[Frame]:
    track, decoding_notes = camera.boxes, notes
    if track == STATIC:
        square_of = _finder(camera, margin, notes, advance, folder)
        decoding_notes = []  # the first pass has noted everything
    elif isinstance(track, boxes.Track):
        square_of = partial(given_square, track, camera.rate, margin)
    else:
        square_of = _about
    decoded = _decoded(camera, decoding_notes, advance)
    first, is_given = next(decoded, None), False
    if first is None:
        return  # the reason is in `notes` already
    decoded = itertools.chain([first], decoded)
    for index, time, frame in decoded if every == 1 else at_instants(decoded, interval, camera.rate):
        picture = Decoded(frame)
        yield Frame(index, time, square_of(index, picture.size), picture)
        is_given = True
    if not is_given:
        notes.append(
            f"{camera.files[0]}: no multiple of {interval:.3g} s of the scene's clock lies in it; give a smaller "
            "--every"
        )


def _about(index: int, size: tuple[int, int]) -> Square:
    return crop.enclosing_square(*size)


def given_square(track: boxes.Track, rate: float, margin: float, index: int, size: tuple[int, int]) -> Square:
    after = int(np.searchsorted(track.frame, index))
    near = slice(max(after - 1, 0), after + 1)
    # Frames are the CSV's clock; a video whose rate varies has no other before its end.
    box_times, at = track.frame[near] / rate, np.array([index / rate])
    return boxes.square(boxes.interpolate(box_times, track.box[near], at)[0], margin)


def _nobody(index: int, size: tuple[int, int]) -> Square:
    return NOBODY


def _finder(camera: Camera, margin: float, notes: list[str], advance: Advance, folder: Path) -> SquareOf:
    """Who moves in the film of the whole video, which is decoded for it."""
    row: dict[int, int] = {}
    times: list[float] = []
    filmed: list[float] = []
    size = shape = small = None
    due, gap = -math.inf, min(1.0 / cropping.FILM_RATE, camera.frames / camera.rate / MIN_FILM_PICTURES)
    with tempfile.TemporaryFile(dir=folder) as film:
        for index, time, frame in _decoded(camera, notes, advance):
            row[index] = len(times)
            times.append(time)
            if time < due - 1e-6:
                continue
            # Frames of another size later on are brought to that of the first.
            small = small or video.reduced_size(frame.width, frame.height)
            size = size or video.shown_size(frame)
            grey = video.picture(frame, small, grey=True)
            shape = grey.shape
            film.write(grey.tobytes())
            filmed.append(time)
            due = max(due, time) + gap
        if size is None or shape is None:
            return _nobody
        film.flush()
        pictures = np.memmap(film, np.uint8, "r", shape=(len(filmed), *shape))
        scale = (size[0] / shape[1], size[1] / shape[0])
        person = static_camera.find_static(pictures, np.array(filmed), np.array(times), scale)
    if person.method == "frame":
        notes.append(
            f"{camera.files[0]}: nothing moves, so the person cannot be found; give boxes, or --boxes={WHOLE}"
        )
        return _nobody
    if person.confidence < static_camera.UNSURE:
        notes.append(
            f"{camera.files[0]}: the person was not found for sure (confidence {person.confidence:.2f}); look at "
            "the squares, and give boxes as CSV if they are wrong"
        )

    def square_of(index: int, frame_size: tuple[int, int]) -> Square:
        return boxes.square(person.box[row[index]] * np.tile(np.divide(frame_size, size), 2), margin)

    return square_of


def _decoded(camera: Camera, notes: list[str], advance: Advance) -> Iterator[Decoding]:
    """Whole frames with their time on the scene's clock; a video that breaks off ends there, with a note."""
    damaged, last = set(), -1
    try:
        for index, time, frame in video.decoded(camera.files[0]):
            advance(1)
            if frame.is_corrupt:
                damaged.add(index)
            else:
                last = index
                yield index, time + camera.offset, frame
    except UserError as error:
        notes.append(
            f"{error} What could be read is predicted: up to frame {last}." if last >= 0 else str(error)
        )
    if damaged:
        row = ((index, index in damaged) for index in range(max(damaged) + 1))
        notes.append(f"{camera.files[0]}: damaged frames are left out: {spans(row)}")
