"""A trained network as a function of pictures: embeddings and poses of any number of them, of any size."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from mcss_jax import crop, skeleton
from mcss_jax.errors import UserError
from mcss_jax.padding import bucket, padded
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Prediction, embed_step

LARGEST_BATCH = 256  # pictures that go through the network at once

Picture = UInt8[np.ndarray, "h w 3"]


class Output(NamedTuple):
    """The network's outputs for n pictures; poses root-relative, in millimetres, joints as `skeleton.JOINTS`.

    Attributes:
      embedding: of unit length; the same instant seen from elsewhere lies near.
      canonical: the pose in the body's own frame (`skeleton.body_frame`).
      rotation: from the body's frame to that of the virtual camera that looks through the picture's centre.
      in_camera: the pose in that virtual camera's frame: x right, y down, z away from it.
    """

    embedding: Float[np.ndarray, "n d"]
    canonical: Float[np.ndarray, "n 17 3"]
    rotation: Float[np.ndarray, "n 3 3"]
    in_camera: Float[np.ndarray, "n 17 3"]


@jax.jit
def _predict(state: TrainState, images: UInt8[Array, "b s s 3"]) -> tuple[Prediction, Float[Array, "b 17 3"]]:
    prediction = embed_step(state, images)
    return prediction, skeleton.restore(prediction.canonical, prediction.rotation)


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """`out = model(images)`; made by `mcss_jax.load` or `of_state`.

    Attributes:
      state: weights, statistics and the method they belong to, on the device.
      image_size: side of the network's input, pixels.
    """

    state: TrainState
    image_size: int

    def __call__(self, images: np.ndarray | Sequence[np.ndarray]) -> Output:
        """Runs the network.

        Batches are padded to powers of two up to `LARGEST_BATCH` and pictures resized to the network's size, so
        whatever is given, at most nine programs are ever compiled.

        Args:
          images: crops of one person each, RGB from 0 to 255: uint8 [n, h, w, 3], or one picture [h, w, 3], or a
            sequence of pictures of different sizes. What is not square is padded with black.

        Raises:
          UserError: no picture, or something else than uint8 RGB pictures.
        """
        pictures = self._sized(images)
        parts = [self._run(pictures[i : i + LARGEST_BATCH]) for i in range(0, len(pictures), LARGEST_BATCH)]
        return Output(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _sized(self, images: np.ndarray | Sequence[np.ndarray]) -> UInt8[np.ndarray, "n s s 3"]:
        if isinstance(images, np.ndarray) and images.ndim == 3:
            images = images[None]
        if len(images) == 0:
            raise UserError("there is no picture; at least one was expected")
        size = self.image_size
        if (
            isinstance(images, np.ndarray)
            and images.dtype == np.uint8
            and images.shape[1:] == (size, size, 3)
        ):
            return images
        return np.stack([fitted(_checked(picture), size) for picture in images])

    def _run(self, pictures: UInt8[np.ndarray, "n s s 3"]) -> Output:
        count = len(pictures)
        prediction, in_camera = _predict(self.state, padded(pictures, bucket(count)))
        return Output(*(np.asarray(x)[:count] for x in (*prediction, in_camera)))


def of_state(state: TrainState, image_size: int) -> Model:
    """The model of a state; the optimiser's part of it is not kept."""
    return Model(jax.device_put(dataclasses.replace(state, opt_state=())), image_size)


def fitted(picture: Picture, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """A picture padded with black to a square and resized to `size` x `size`, as `launch.predict` does it."""
    return crop.crop_resize(picture, crop.enclosing_square(picture.shape[1], picture.shape[0]), size)


def _checked(picture: object) -> Picture:
    try:
        array = np.asarray(picture)
    except ValueError as error:  # rows of different lengths
        raise UserError(f"a picture is no array ({error}); uint8[height, width, 3] was expected") from error
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise UserError(
            f"a picture is {array.dtype}{list(array.shape)}; uint8[height, width, 3] was expected, RGB from 0 to 255"
        )
    return array
