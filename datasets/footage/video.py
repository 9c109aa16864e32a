"""Video decoding with PyAV: what a file holds, and its frames in presentation order.

Times are seconds since the file's own first picture, so that a container that starts at 1.4 s (broadcast
streams do) and one that starts at zero agree. Rotation recorded by phones is applied: what is yielded is what
a player shows.
"""

import dataclasses
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import simplejpeg
from jaxtyping import Float, Int, UInt8

from mcss_jax.crop import crop_resize
from mcss_jax.errors import UserError

EXTENSIONS = (
    ".mp4",
    ".mov",
    ".m4v",
    ".avi",
    ".mkv",
    ".webm",
    ".mpg",
    ".mpeg",
    ".mts",
    ".m2ts",
    ".ts",
    ".wmv",
)
LONG_SIDE = 240  # pixels of the reduced grey pictures that boxes and motion are found on
# 8 bits; the brightness of every pixel, the colour of every other one in both directions.
PLANAR = ("yuv420p", "yuvj420p")

Image = UInt8[np.ndarray, "h w 3"]
Grey = UInt8[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class VideoInfo:
    """What a file's header says; `frames` is what it promises, decoding alone tells what it holds.

    width, height: pixels as shown (after rotation). frame_rate: frames per second. duration: seconds.
    rotation: degrees counter-clockwise, already applied by `frames`.
    """

    path: Path
    codec: str
    width: int
    height: int
    frame_rate: float
    frames: int
    duration: float
    rotation: int


@dataclasses.dataclass(frozen=True)
class Survey:
    """One decoding pass at reduced size: every frame's time and motion, and a time-thinned grey film.

    energy: mean absolute grey-level change since the frame before (the first repeats the second).
    film: kept on disk, so hours of video do not fill the memory. scale: original pixels per film pixel (x,
        y).
    """

    info: VideoInfo
    times: Float[np.ndarray, " f"]
    energy: Float[np.ndarray, " f"]
    film: UInt8[np.ndarray, "n h w"]
    film_index: Int[np.ndarray, " n"]
    scale: tuple[float, float]


def probe(path: str | Path) -> VideoInfo:
    """Read the header and the first picture of a video.

    Raises:
        UserError: there is no such file; the file is empty, not a video, or its first picture does not decode.
    """
    path = Path(path)
    with _open(path) as container:
        stream = container.streams.video[0]
        try:
            first = next(container.decode(stream), None)
        except av.error.FFmpegError as error:
            raise UserError(
                f"{path}: no picture could be decoded ({error.strerror}); the file is damaged."
            ) from error
        if first is None:
            raise UserError(f"{path}: no picture could be decoded; the file is truncated or damaged.")
        rate = _frame_rate(stream)
        promised = _promised_seconds(container, stream, rate)
        width, height = first.width, first.height
        if quarter_turns(first.rotation) % 2:
            width, height = height, width
        return VideoInfo(
            path=path,
            codec=stream.codec_context.name,
            width=width,
            height=height,
            frame_rate=rate,
            frames=stream.frames or round(promised * rate),
            duration=promised,
            rotation=first.rotation,
        )


def frames(
    path: str | Path,
    keep: Callable[[int, float], bool] | None = None,
    size: tuple[int, int] | None = None,
    grey: bool = False,
) -> Iterator[tuple[float, Image | Grey]]:
    """Decode a video once, from start to end, and yield `(time, picture)` in presentation order.

    Args:
        path: any container and codec that FFmpeg reads; sound and further tracks are passed over.
        keep: `(index, time) -> bool`, which frames to convert and yield; default all. The others are decoded
            only.
        size: (width, height) to reduce to, by area averaging, before rotation is applied to it; default as
            recorded.
        grey: yield uint8[h, w] luminance in place of RGB uint8[h, w, 3].

    Raises:
        UserError: as `probe`, and when decoding breaks off, or ends clearly
            before what the container promises (a truncated copy or an unfinished download).
    """
    for index, time, frame in decoded(path):
        if keep is None or keep(index, time):
            yield time, picture(frame, size, grey)


def decoded(path: str | Path, threads: int = 0) -> Iterator[tuple[int, float, av.VideoFrame]]:
    """Decode a video once and yield `(index, time, frame)`; `picture` converts the frames that are wanted.

    Args:
        threads: that decode; 0 for as many as there are cores.

    Raises:
        UserError: as `frames`.
    """
    path = Path(path)
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        rate = _frame_rate(stream)
        promised = _promised_seconds(container, stream, rate)
        index, start, time = 0, None, -1.0 / rate
        try:
            for frame in container.decode(stream):
                stamp = frame.time
                if stamp is None:  # raw streams carry no clock
                    time += 1.0 / rate
                else:
                    start = stamp if start is None else start
                    time = stamp - start
                yield index, time, frame
                index += 1
        except av.error.FFmpegError as error:
            raise UserError(
                f"{path}: decoding failed after {index} frames ({max(time, 0):.2f} s of {promised:.2f} s "
                "promised): "
                f"{error.strerror}; the file is truncated or damaged."
            ) from error
        held = time + 1.0 / rate
        if index == 0 or promised - held > max(0.05 * promised, 3.0 / rate):
            raise UserError(
                f"{path}: holds {index} frames ({max(held, 0):.2f} s) where its header promises "
                f"{promised:.2f} s; "
                "the file is truncated, copy it again."
            )


def survey(
    path: str | Path,
    film_rate: float = 10.0,
    least: int = 60,
    progress: Callable[[int], object] = lambda n: None,
) -> Survey:
    """Decode a video once at reduced size (long side 240 px): frame times, motion energy and a thinned grey
    film.

    Args:
        film_rate: film pictures per second; short clips are thinned less, down to `least` pictures if they
            have them.
        progress: called with 1 after every decoded frame.

    Raises:
        UserError: as `frames`.
    """
    info = probe(path)
    width, height = reduced_size(info.width, info.height)
    coded = (height, width) if quarter_turns(info.rotation) % 2 else (width, height)
    gap = min(1.0 / film_rate, max(info.duration, 1e-6) / least)
    times, energy, film_index = [], [], []
    last, due = None, 0.0
    # An unnamed file: it goes away with the process whatever happens.
    with tempfile.TemporaryFile() as spool:
        for index, (time, grey) in enumerate(frames(path, size=coded, grey=True)):
            change = 0.0 if last is None else float(np.abs(grey.astype(np.int16) - last).mean())
            times.append(time)
            energy.append(change)
            if time >= due - 1e-6:
                spool.write(np.ascontiguousarray(grey).tobytes())
                film_index.append(index)
                due = max(due + gap, time)
            last = grey.astype(np.int16)
            progress(1)
        spool.flush()
        film = np.memmap(spool, dtype=np.uint8, mode="r", shape=(len(film_index), height, width))
    if len(energy) > 1:
        energy[0] = energy[1]
    return Survey(
        info=info,
        times=np.asarray(times),
        energy=np.asarray(energy),
        film=film,
        film_index=np.asarray(film_index),
        scale=(info.width / width, info.height / height),
    )


def reduced_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the small grey pictures that boxes and motion are found on."""
    shrink = min(1.0, LONG_SIDE / max(width, height))
    return max(8, round(width * shrink)), max(8, round(height * shrink))


def nearest_frames(times: Float[np.ndarray, " f"], ticks: Float[np.ndarray, " t"]) -> Int[np.ndarray, " t"]:
    """Index of the frame nearest in time to every tick; the earlier one on a tie. `times` (non-empty)
    ascend.
    """
    right = np.clip(np.searchsorted(times, ticks), 1, max(len(times) - 1, 1))
    right = np.minimum(right, len(times) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(ticks - times[left] <= times[right] - ticks + 1e-9, left, right)


def _open(path: Path) -> av.container.InputContainer:
    if not path.exists():
        raise UserError(f"{path}: no such file; a video was expected.")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; a video was expected.")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty (0 bytes); a video was expected.")
    try:
        container = av.open(str(path))
    except av.error.FFmpegError as error:
        raise UserError(
            f"{path}: is not a readable video ({error.strerror}); it is another kind of file, truncated or "
            "damaged."
        ) from error
    if not container.streams.video:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no stream"
        container.close()
        raise UserError(f"{path}: holds no video track (found: {kinds}); a video was expected.")
    return container


def _frame_rate(stream: av.video.stream.VideoStream) -> float:
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate
    return float(rate) if rate else 25.0


def _promised_seconds(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, rate: float
) -> float:
    """Length of the picture track; the container's own length counts only where it can belong to nothing
    else.
    """
    if (
        stream.frames and container.format.name == "avi"
    ):  # FFmpeg shortens a cut file's duration to what is left
        return stream.frames / rate
    # Not the count of frames: in MP4 it includes those that an edit list (a trim on the phone) leaves out.
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska, WebM: "00:00:01.666000000"
    tag = re.fullmatch(r"(\d{1,9}):(\d{1,9}):(\d{1,9}(?:\.\d*)?)", stream.metadata.get("DURATION", ""))
    if tag is not None:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + float(tag[3])
    if stream.frames:
        return stream.frames / rate
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return 0.0


def shown_size(frame: av.VideoFrame) -> tuple[int, int]:
    """Width and height of a frame as a player shows it, the recorded rotation applied."""
    turned = quarter_turns(frame.rotation) % 2
    return (frame.height, frame.width) if turned else (frame.width, frame.height)


def picture(frame: av.VideoFrame, size: tuple[int, int] | None = None, grey: bool = False) -> Image | Grey:
    """A decoded frame as a player shows it: reduced to `size` (width, height, before rotation), RGB or luminance."""
    return _upright(recorded_pixels(frame, size, grey), frame)


def crop(frame: av.VideoFrame, box: Float[np.ndarray, "4"], size: int) -> Image:
    """`crop_resize` of a frame's picture. Of planar frames only what lies about the box is converted, to the same bits.

    Args:
        box: (x0, y0, x1, y1), pixels of the picture as shown.
        size: of the crop, pixels.

    Raises:
        UserError: as `crop_resize`.
    """
    if frame.format.name not in PLANAR or frame.width % 2 or frame.height % 2 or not np.isfinite(box).all():
        return crop_resize(picture(frame), box, size)
    turns = quarter_turns(frame.rotation)
    outside = (*np.floor(box[:2]).astype(int).tolist(), *np.ceil(box[2:]).astype(int).tolist())
    left, top, right, bottom = _turned(outside, shown_size(frame), -turns)
    # Four pixels share a colour: what is cut begins and ends with whole ones.
    left, top = max(left // 2 * 2, 0), max(top // 2 * 2, 0)
    right, bottom = min(-(-right // 2) * 2, frame.width), min(-(-bottom // 2) * 2, frame.height)
    if right <= left or bottom <= top:  # the box lies beside the picture
        return crop_resize(np.zeros((2, 2, 3), np.uint8), box, size)
    part = _upright(recorded_pixels(_part(frame, left, top, right, bottom)), frame)
    x, y, _, _ = _turned((left, top, right, bottom), (frame.width, frame.height), turns)
    return crop_resize(part, box - [x, y, x, y], size)


def jpeg(frame: av.VideoFrame, size: tuple[int, int], quality: int) -> bytes:
    """The picture of a frame, reduced to `size` (width, height, before rotation; even), as a JPEG file, without RGB."""
    # What JFIF prescribes: the colours of BT.601, all 256 levels, one colour for four pixels.
    small = frame.reformat(
        *size, "yuv420p", interpolation="AREA", dst_colorspace="ITU601", dst_color_range="JPEG"
    )
    planes = (_upright(_rows(plane)[:, : plane.width], frame) for plane in small.planes)
    return simplejpeg.encode_jpeg_yuv_planes(*map(np.ascontiguousarray, planes), quality)


def _part(frame: av.VideoFrame, left: int, top: int, right: int, bottom: int) -> av.VideoFrame:
    """A rectangle of a planar frame as a frame of its own, without the rotation; sides are even."""
    part = av.VideoFrame(right - left, bottom - top, frame.format.name)
    for source, target, step in zip(frame.planes, part.planes, (1, 2, 2), strict=True):
        rows = _rows(source)[top // step : bottom // step]
        _rows(target)[:, : target.width] = rows[:, left // step : right // step]
    part.colorspace, part.color_range = frame.colorspace, frame.color_range
    return part


def _rows(plane: av.video.plane.VideoPlane) -> Grey:
    """The bytes of a plane, row by row, as they lie there: what fills a row up is at its end."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)


def recorded_pixels(
    frame: av.VideoFrame, size: tuple[int, int] | None = None, grey: bool = False
) -> Image | Grey:
    """A frame as it was recorded, not turned."""
    width, height = size or (frame.width, frame.height)
    kind = "gray" if grey else "rgb24"
    return frame.reformat(width=width, height=height, format=kind, interpolation="AREA").to_ndarray()


def _upright(
    pixels: UInt8[np.ndarray, "a b *c"], frame: av.VideoFrame
) -> UInt8[np.ndarray, "upright_a upright_b *c"]:
    """Pixels as they were recorded, turned as a player shows them."""
    turns = quarter_turns(frame.rotation)
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _turned(box: tuple[int, int, int, int], size: tuple[int, int], turns: int) -> tuple[int, int, int, int]:
    """Where a rectangle of a picture of `size` (width, height) lies when that is turned as `np.rot90` does."""
    (left, top, right, bottom), (width, height) = box, size
    for _ in range(turns % 4):
        left, top, right, bottom = top, width - right, bottom, width - left
        width, height = height, width
    return left, top, right, bottom


def quarter_turns(rotation: int) -> int:
    return math.floor(rotation / 90 + 0.5) % 4
