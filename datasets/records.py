"""What reading a prepared set needs of the tuple: the sequence table's rows and the pictures.

Apart from `tuples.py`, so that planning batches and training on a stream load no TFDS.
"""

import dataclasses

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

JPEG_QUALITY = 90


@dataclasses.dataclass(frozen=True)
class SequenceRow:
    """One line of the sequence table: `length` consecutive records of one continuous recording.

    `group` names what must not give a pair away: the same person, clothes and room. Negatives are drawn
    inside it. `seconds_per_record` is the spacing of the records in time.
    """

    subject: str
    action: str
    subaction: str
    group: int
    first: int
    length: int
    seconds_per_record: float
    has_pose: bool = True


def encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes without chroma subsampling: at crop size, colour edges are limb edges."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=quality, colorsubsampling="444")


def decode_jpeg(data: bytes, size: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in `data`; with `size`, a square one resized to it (area filter).

    Raises ValueError when it is not a readable JPEG, or not square where a `size` is wanted.
    """
    try:
        # Scaled decoding halves the picture while it still stays at least as large as wanted: cheaper, and filtered.
        picture = simplejpeg.decode_jpeg(data, min_height=size or 0, min_width=size or 0, min_factor=1)
    except ValueError as error:
        raise ValueError(f"a stored picture is not a readable JPEG ({len(data)} bytes): {error}") from error
    if size is None or picture.shape == (size, size, 3):
        return picture
    if picture.shape[0] != picture.shape[1]:
        raise ValueError(f"a picture of {picture.shape} where a square one was expected")
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))
