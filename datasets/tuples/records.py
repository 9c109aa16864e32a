"""What reading a prepared set needs of the tuple: the sequence table's rows and the pictures.

Apart from `tuple_builder.py`, so that planning batches and training on a stream load no TFDS.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import simplejpeg
from jaxtyping import Int, UInt8
from PIL import Image

from mcss_jax.errors import UserError

JPEG_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class SequenceRow:
    """One line of the sequence table: `length` consecutive records of one continuous recording.

    `group` names what must not give a pair away: the same person, clothes and room. Negatives are drawn
    inside it. `seconds_per_record` is the spacing of the records in time. `defect` names what is known to be
    wrong with the recording, so that an evaluation can leave it out. `runs` are the records' frame numbers as
    (first, step, count), see `frame_numbers`; none in sets prepared before they were kept.
    """

    subject: str
    action: str
    subaction: str
    group: int
    first: int
    length: int
    seconds_per_record: float
    has_pose: bool = True
    defect: str = ""
    runs: tuple[tuple[int, int, int], ...] = ()


def runs_of(frames: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """Frame numbers as arithmetic runs (first, step, count), each as long as can be."""
    runs: list[tuple[int, int, int]] = []
    for frame in frames:
        first, step, count = runs[-1] if runs else (0, 0, 0)
        if count == 1:
            runs[-1] = (first, frame - first, 2)
        elif count > 1 and frame == first + step * count:
            runs[-1] = (first, step, count + 1)
        else:
            runs.append((frame, 0, 1))
    return tuple(runs)


def frame_numbers(row: SequenceRow) -> Int[np.ndarray, " length"]:
    """Index in the original video of every record of a sequence. Raises UserError when it was not kept."""
    frames = [first + step * np.arange(count) for first, step, count in row.runs]
    if sum(map(len, frames)) != row.length:
        raise UserError(
            f"the frame numbers of {row.subject} {row.action} {row.subaction} were not kept when the set was "
            "prepared; prepare it again with --overwrite"
        )
    return np.concatenate([np.zeros(0, np.int64), *frames]).astype(np.int64)


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes without chroma subsampling: at crop size, colour edges are limb edges."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling="444")


def decode_into(data: bytes, out: UInt8[np.ndarray, "h w 3"]) -> None:
    """Decodes a picture of just that size into `out` (contiguous), without a copy on the way.

    Raises UserError when it is not a readable JPEG, and what is in `out` is then anything, or is of another size.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if (height, width) == out.shape[:2]:
            simplejpeg.decode_jpeg(data, buffer=out)
    except ValueError as error:
        raise UserError(f"a stored picture is not a readable JPEG ({len(data)} bytes): {error}") from error
    if (height, width) != out.shape[:2]:
        raise UserError(f"a picture of {(height, width, 3)} where {out.shape} was expected")


def decode_jpeg(data: bytes, size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in `data`; with `size`, a square one resized to it (area filter).

    Raises UserError when it is not a readable JPEG, or not square where a `size` is wanted.
    """
    try:
        # Scaled decoding halves the picture while it still stays at least as large as wanted: cheaper, and filtered.
        picture = simplejpeg.decode_jpeg(data, min_height=size or 0, min_width=size or 0, min_factor=1)
    except ValueError as error:
        raise UserError(f"a stored picture is not a readable JPEG ({len(data)} bytes): {error}") from error
    if size is None or picture.shape == (size, size, 3):
        return picture
    if picture.shape[0] != picture.shape[1]:
        raise UserError(f"a picture of {picture.shape} where a square one was expected")
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))
