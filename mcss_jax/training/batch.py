"""What a step learns from: instants seen by two cameras, and pictures with poses."""

import math
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int, UInt8

from mcss_jax.pytree import pytree

# JAX's on devices, NumPy's where the host prepares them.
Array: TypeAlias = Any

Part = Literal["labelled", "unlabelled"]


@pytree
class Labelled:
    """l pictures whose pose may be read.

    Attributes:
      images: crops of one person each.
      pose: in the camera's frame, millimetres.
      intrinsics, box: of the camera, and of the crop in its picture, pixels; NaN where they are not known: then the
        camera looks at the person.
      valid: False for a row that could not be read, and counts nowhere.
      sample: index in the global batch of the step. Keys are folded with it, so augmentation does not depend on the
        number of replicas.
    """

    images: UInt8[Array, "l s s 3"]
    pose: Float[Array, "l 17 3"]
    intrinsics: Float[Array, "l 3 3"]
    box: Float[Array, "l 4"]
    valid: Bool[Array, " l"]
    sample: Int[Array, " l"]

    @property
    def views(self) -> UInt8[Array, "l 1 s s 3"]:
        """The pictures of every sample, in the order of `sample`."""
        return self.images[:, None]

    @property
    def boxes(self) -> Float[Array, "l 1 4"]:
        """The box of every picture in `views`."""
        return self.box[:, None]


@pytree
class Unlabelled:
    """b instants, each in two pictures of the same person at the same time.

    Attributes:
      images: the two pictures.
      group: number of the person in these clothes and this room.
      sequence: number of the recording, unique over all groups; time: seconds since it began.
      valid, sample: as of `Labelled`.
      pose: NaN unless this instant's label may be used; only logged.
    """

    images: UInt8[Array, "b 2 s s 3"]
    group: Int[Array, " b"]
    sequence: Int[Array, " b"]
    time: Float[Array, " b"]
    valid: Bool[Array, " b"]
    sample: Int[Array, " b"]
    pose: Float[Array, "b 17 3"]

    @property
    def views(self) -> UInt8[Array, "b 2 s s 3"]:
        """The pictures of every sample, in the order of `sample`."""
        return self.images

    @property
    def boxes(self) -> Float[Array, "b 2 4"]:
        """Zeros: where a crop lies in its picture is of no use without a pose."""
        return jnp.zeros((*self.images.shape[:2], 4))


@pytree
class Batch:
    """Either part, or both."""

    labelled: Labelled | None = None
    unlabelled: Unlabelled | None = None

    @property
    def parts(self) -> dict[Part, Labelled | Unlabelled]:
        """The parts that there are, in the order of their random streams."""
        named: dict[Part, Labelled | Unlabelled | None] = {
            "labelled": self.labelled,
            "unlabelled": self.unlabelled,
        }
        return {name: part for name, part in named.items() if part is not None}

    @property
    def pictures(self) -> int:
        """Pictures of all parts and views."""
        return sum(math.prod(part.images.shape[:-3]) for part in self.parts.values())
