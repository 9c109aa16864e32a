"""The network over a camera's frames: cut while the batch before is predicted, put together as columns."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from jaxtyping import Float, Int, UInt8

from launch.prediction.frames import THREADS, Frame, ahead
from launch.prediction.notes import spans
from launch.prediction.overlay import LONG_SIDE, Film, drawn, place
from launch.prediction.pictures import Pixels
from launch.prediction.sources import Camera
from launch.prediction.thumbnails import Thumbnails
from mcss_jax.padding import padded
from mcss_jax.storage.model import Model, Output


@dataclasses.dataclass(frozen=True)
class Views:
    """What was predicted for n frames of a camera, in order.

    Attributes:
      index, time, square: see `frames.Frame`.
      size: width and height of the pictures, pixels.
      joints: pixels of the joints, placed by the box (`overlay.place`).
      out: embeddings and poses.
      nobody: times of the frames, beside these n, in which nobody was found; NaN for pictures.
    """

    index: Int[np.ndarray, " n"]
    time: Float[np.ndarray, " n"]
    square: Float[np.ndarray, "n 4"]
    size: Int[np.ndarray, "n 2"]
    joints: Float[np.ndarray, "n 17 2"]
    out: Output
    nobody: Float[np.ndarray, " e"] = dataclasses.field(default_factory=lambda: np.zeros(0))

    def __len__(self) -> int:
        return len(self.index)


@dataclasses.dataclass(frozen=True)
class _Cut:
    """Of a frame the crop, where somebody is in it, and what a video shows of it, where one is made."""

    index: int
    time: float
    square: Float[np.ndarray, "4"]
    size: tuple[int, int]
    crop: UInt8[np.ndarray, "s s 3"] | None
    shown: Pixels | None


def predict(
    model: Model,
    camera: Camera,
    frames: Iterator[Frame],
    *,
    margin: float,
    batch: int,
    notes: list[str],
    thumbnails: Thumbnails,
    film: Film | None = None,
) -> Views | None:
    """Predicts the frames in which there is somebody; None where that is none of them.

    Frames without anybody are named in `notes`; `film` shows all of them.
    """
    parts: list[Views] = []
    emptiness: list[tuple[int, bool]] = []  # every frame, and whether nobody is in it
    nobody: list[float] = []
    cutter = partial(_cut, model.image_size, thumbnails, film is not None)
    made = ahead((partial(cutter, frame) for frame in frames), depth=2 * THREADS, threads=THREADS)
    batches = _batches(made, batch)
    for cuts in ahead(itertools.repeat(partial(next, batches, None)), depth=2):
        if cuts is None:
            break
        emptiness += [(cut.index, cut.crop is None) for cut in cuts]
        nobody += [cut.time for cut in cuts if cut.crop is None]
        present = [cut for cut in cuts if cut.crop is not None]
        if present:
            # The last batch takes the program of the others.
            parts.append(_views(model, present, margin, batch if parts else len(present)))
        if film is not None:
            joints = dict(zip(parts[-1].index.tolist(), parts[-1].joints, strict=True)) if present else {}
            for cut in cuts:
                assert cut.shown is not None
                film.add(drawn(cut.shown, cut.size, joints.get(cut.index)))
    if nobody:
        if camera.is_video:
            where = f"{'frame' if len(nobody) == 1 else 'frames'} {spans(emptiness)}"
        else:
            where = spans((camera.files[index].name, is_empty) for index, is_empty in emptiness)
        notes.append(f"{camera.name}: nobody was found in {where}, which the tables leave out")
    return dataclasses.replace(_joined(parts), nobody=np.array(nobody)) if parts else None


def _cut(size: int, thumbnails: Thumbnails, is_shown: bool, frame: Frame) -> _Cut:
    somebody = bool(np.isfinite(frame.square).all())
    if not somebody and not is_shown:
        return _Cut(frame.index, frame.time, frame.square, (0, 0), None, None)
    if somebody:
        thumbnails.offer(frame)
    return _Cut(
        frame.index,
        frame.time,
        frame.square,
        frame.picture.size,
        frame.picture.crop(frame.square, size) if somebody else None,
        frame.picture.small(LONG_SIDE) if is_shown else None,
    )


def _batches(cuts: Iterator[_Cut], size: int) -> Iterator[list[_Cut]]:
    while part := list(itertools.islice(cuts, size)):
        yield part


def _views(model: Model, cuts: list[_Cut], margin: float, size: int) -> Views:
    crops = np.stack([cut.crop for cut in cuts if cut.crop is not None])
    out = Output(*(column[: len(crops)] for column in model(padded(crops, size))))
    square = np.stack([cut.square for cut in cuts])
    return Views(
        index=np.array([cut.index for cut in cuts]),
        time=np.array([cut.time for cut in cuts]),
        square=square,
        size=np.array([cut.size for cut in cuts]),
        joints=place(out.in_camera, square, margin),
        out=out,
    )


def _joined(parts: list[Views]) -> Views:
    def column(field: Callable[[Views], np.ndarray]) -> np.ndarray:
        return np.concatenate([field(part) for part in parts])

    return Views(
        index=column(lambda v: v.index),
        time=column(lambda v: v.time),
        square=column(lambda v: v.square),
        size=column(lambda v: v.size),
        joints=column(lambda v: v.joints),
        out=Output(*(np.concatenate(values) for values in zip(*(part.out for part in parts), strict=True))),
    )
