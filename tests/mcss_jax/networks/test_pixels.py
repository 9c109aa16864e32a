"""The input that ImageNet's weights expect, by torchvision's own numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.networks.pixels import standardise

# Mean and deviation of red, green and blue, from 0 to 1 (torchvision's documentation of its weights).
IMAGENET = {"red": (0.485, 0.229), "green": (0.456, 0.224), "blue": (0.406, 0.225)}


@pytest.mark.parametrize("value", [0, 128, 255])
def test_every_colour_by_itself(value: int) -> None:
    pixels = np.asarray(standardise(jnp.full((1, 2, 2, 3), value, jnp.uint8)))
    for channel, (mean, deviation) in enumerate(IMAGENET.values()):
        np.testing.assert_allclose(pixels[..., channel], (value / 255 - mean) / deviation, atol=1e-5)
