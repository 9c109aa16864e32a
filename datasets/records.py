"""What reading a prepared set needs of the tuple: the sequence table's rows and the pictures.

Apart from `tuples.py`, so that planning batches and training on a stream load no TFDS.
"""

import dataclasses

import numpy as np
import simplejpeg
from jaxtyping import UInt8

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


def decode_jpeg(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in `data`. Raises ValueError when it is not a readable JPEG."""
    try:
        return simplejpeg.decode_jpeg(data)
    except ValueError as error:
        raise ValueError(f"a stored picture is not a readable JPEG ({len(data)} bytes): {error}") from error
