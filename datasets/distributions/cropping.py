"""Crops of the person out of one camera's pictures, which are decoded once, from start to end.

Where the box is not known beforehand it is found only after the last picture was seen. Until then the kept
pictures wait on disk as JPEG files of high quality: cheaper than decoding the video again, and no memory.
"""

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import simplejpeg
from av import VideoFrame
from jaxtyping import Float, Int, UInt8
from PIL import Image

from datasets.distributions.takes import View
from datasets.footage import boxes, static_camera, video
from datasets.tuples.records import encode_jpeg
from mcss_jax.errors import UserError

WAITING_QUALITY = 90
FILM_RATE = 5.0  # pictures per second that the person is looked for in

Picture = UInt8[np.ndarray, "h w 3"]
Advance = Callable[[int], object]


@dataclasses.dataclass(frozen=True)
class Crops:
    """What was cut out of a view. n kept frames.

    Attributes:
      length: bytes of each JPEG file, in the order they were written; 0 where there is none.
      box: the square that was cut, pixels of the original frame; NaN where nothing was.
      source: `mask`, `joints`, `static`, or `frame`: nothing moved, the whole picture was taken.
      notes: what whoever prepares the set should look at.
    """

    length: Int[np.ndarray, " n"]
    box: Float[np.ndarray, "n 4"]
    source: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Frame:
    """A decoded frame of a video; converted only to what is asked for."""

    frame: VideoFrame

    @property
    def height(self) -> int:
        return self.frame.height

    def crop(self, box: static_camera.Box, size: int) -> Picture:
        return video.crop(self.frame, box, size)

    def grey(self) -> UInt8[np.ndarray, "a b"]:
        return video.picture(self.frame, video.reduced_size(self.frame.width, self.frame.height), grey=True)

    def jpeg(self) -> bytes:
        picture = video.picture(self.frame)
        return simplejpeg.encode_jpeg(picture, quality=WAITING_QUALITY, colorsubsampling="420")


@dataclasses.dataclass(frozen=True)
class _Jpeg:
    """A picture in a JPEG file, which `path` names in errors."""

    data: bytes
    path: Path

    @property
    def height(self) -> int:
        return self._size()[1]

    def _size(self) -> tuple[int, int]:
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(self.data)
        except ValueError as error:
            raise self._unreadable(error) from error
        return width, height

    def _decode(self, shrink: int = 1, colours: str = "RGB") -> UInt8[np.ndarray, "a b c"]:
        """The picture, its sides divided by `shrink` (1, 2, 4, 8): filtered, and faster than in full."""
        width, height = (-(-side // shrink) for side in self._size())
        try:
            return simplejpeg.decode_jpeg(
                self.data, colours, min_height=height, min_width=width, min_factor=1
            )
        except ValueError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: ValueError) -> UserError:
        return UserError(f"{self.path}: is not a readable JPEG ({error}); it is truncated or damaged")

    def crop(self, box: static_camera.Box, size: int) -> Picture:
        picture = self._decode(_power_of_two((box[2] - box[0]) / size))
        # The decoder's grid is exactly so much coarser, also where the sides are no multiples of it.
        shrink = round(self.height / picture.shape[0])
        return boxes.crop_resize(picture, box / shrink, size)

    def grey(self) -> UInt8[np.ndarray, "a b"]:
        width, height = video.reduced_size(*self._size())
        picture = self._decode(_power_of_two(self.height / height), "GRAY")[..., 0]
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))

    def jpeg(self) -> bytes:
        return self.data


def cut(
    view: View,
    frame: Int[np.ndarray, " n"],
    frame_rate: float,
    size: int,
    margin: float,
    out: IO[bytes],
    advance: Advance = lambda n: None,
) -> Crops:
    """Writes the JPEG crops of the kept frames to the file `out`, one after another.

    Args:
        view: pictures and, where they are known, boxes.
        frame: the kept frames, ascending.
        frame_rate: frames per second.
        size: side of the crops, pixels.
        margin: what is added to the person's box at every side, as a share of its longer side.
        advance: called with the number of frames that were decoded since the last call.

    Raises:
        UserError: pictures that cannot be read, or fewer of them than the poses need (both counts), unless
            the known defects of the data set say so.
    """
    length, box = np.zeros(len(frame), np.int64), np.full((len(frame), 4), np.nan)

    def write(k: int, kept: _Frame | _Jpeg) -> None:
        length[k] = out.write(encode_jpeg(kept.crop(box[k], size)))

    notes: list[str] = []
    if not view.pictures:
        if view.camera:  # otherwise it only fills up the number of views
            notes.append(f"camera {view.camera}: there are no pictures; the view is invalid")
        return Crops(length, box, view.box_source, tuple(notes))
    if view.box is not None:
        squares = boxes.square(view.box, margin)
        for k, kept in _kept(view, frame, frame_rate, advance, notes):
            if np.isfinite(squares[k]).all():
                box[k] = squares[k]
                write(k, kept)
        return Crops(length, box, view.box_source, tuple(notes))
    beside = Path(out.name).parent
    with tempfile.TemporaryFile(dir=beside) as waiting, tempfile.TemporaryFile(dir=beside) as film:
        present, sizes, filmed, shape, height = [], [], [], (0, 0), 0
        due = 0.0
        for k, kept in _kept(view, frame, frame_rate, advance, notes):
            present.append(k)
            sizes.append(waiting.write(kept.jpeg()))
            if frame[k] / frame_rate >= due - 1e-6:
                grey = np.ascontiguousarray(kept.grey())
                shape, height = grey.shape, kept.height
                film.write(grey.tobytes())
                filmed.append(k)
                due = max(due + 1.0 / FILM_RATE, frame[k] / frame_rate)
        if not present:
            return Crops(length, box, view.box_source, tuple(notes))
        film.flush()
        pictures = np.memmap(film, np.uint8, "r", shape=(len(filmed), *shape))
        person = static_camera.find_static(
            pictures, frame[filmed] / frame_rate, frame[present] / frame_rate, (height / shape[0],) * 2
        )
        box[present] = boxes.square(person.box, margin)
        waiting.seek(0)
        for k, count in zip(present, sizes, strict=True):
            path = view.pictures[0 if _is_video(view.pictures) else frame[k]]
            write(k, _Jpeg(waiting.read(count), path))
    if person.confidence < static_camera.UNSURE:
        notes.append(
            f"{view.pictures[0].name}: the person was not found for sure (confidence {person.confidence:.2f}"
            + ("; nothing moves, the whole picture is used)" if person.method == "frame" else ")")
        )
    return Crops(length, box, "frame" if person.method == "frame" else "static", tuple(notes))


def _kept(
    view: View, frame: Int[np.ndarray, " n"], frame_rate: float, advance: Advance, notes: list[str]
) -> Iterator[tuple[int, _Frame | _Jpeg]]:
    """`(k, picture)` of every kept frame that there is. Raises UserError when too many are missing."""
    decoded, k, drift, damaged = 0, 0, 0.0, 0
    try:
        for time, is_whole, picture in _pictures(view.pictures):
            advance(1)
            damaged += not is_whole
            if time is not None:
                drift = max(drift, abs(time * frame_rate - decoded))
            if k < len(frame) and frame[k] == decoded:
                if is_whole:
                    yield k, picture()
                k += 1
            decoded += 1
            if decoded == view.frames:
                break
    except UserError:
        if decoded < view.frames - view.short_by:
            raise
    name = view.pictures[0] if _is_video(view.pictures) else view.pictures[0].parent
    if decoded < view.frames - view.short_by:
        raise UserError(
            f"{name}: holds {decoded} frames, but {view.frames} poses belong to it, which is not a known defect of "
            "this data set; download it again"
        )
    if decoded < view.frames:
        notes.append(
            f"{name.name}: {decoded} of {view.frames} frames could be read, which is a known defect; the view is "
            "invalid from there"
        )
    if damaged:
        notes.append(
            f"{name.name}: {damaged} frames are damaged, and what the decoder made of them is left out: the view is "
            "invalid there"
        )
    # A decoder that passes over a damaged frame shifts all that follow against the poses.
    if drift > 1.0:
        notes.append(
            f"{name.name}: its clock and its frame count part by {drift:.1f} frames: frames may be "
            "missing in it, and poses belong to others than these"
        )


def _pictures(
    paths: tuple[Path, ...],
) -> Iterator[tuple[float | None, bool, Callable[[], _Frame | _Jpeg]]]:
    """Of each picture in order its time (where there is a clock), whether it is whole, and a way to have it."""
    if not _is_video(paths):
        for path in paths:
            yield None, True, partial(_read, path)
        return
    # One thread: the work is shared out by takes.
    for _, time, frame in video.decoded(paths[0], threads=1):
        yield time, not frame.is_corrupt, partial(_Frame, frame)


def _is_video(paths: tuple[Path, ...]) -> bool:
    return len(paths) == 1 and paths[0].suffix.lower() in video.EXTENSIONS


def _read(path: Path) -> _Jpeg:
    return _Jpeg(path.read_bytes(), path)


def _power_of_two(ratio: float) -> int:
    """The largest of 1, 2, 4, 8 that is not above `ratio`; 1 below one."""
    return 1 << max(0, min(3, int(np.log2(max(ratio, 1.0)))))
