"""A trained network as a function of pictures: against the network itself, for all sizes and counts."""

from collections.abc import Iterator

import jax
import numpy as np
import pytest
from PIL import Image

from mcss_jax.storage import model
from mcss_jax.training import train_step
from mcss_jax.training.state import TrainState
from mcss_jax.training.train_step import Prediction, embed_step
from tests.mcss_jax import steps
from tests.refusals import refused

SIZE = steps.SIZE


@pytest.fixture(scope="module")
def tiny() -> Iterator[model.Model]:
    with steps.two_blocks():
        yield model.of_state(steps.make_state(), SIZE)


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_it_says_what_the_network_says(tiny: model.Model) -> None:
    images = pictures(4, SIZE, SIZE, 3)
    out = tiny(images)
    wanted = jax.jit(train_step.embed_step)(tiny.state, images)
    np.testing.assert_allclose(out.embedding, wanted.embedding, atol=1e-6)
    np.testing.assert_allclose(out.canonical, wanted.canonical, atol=1e-3)
    np.testing.assert_allclose(out.rotation, wanted.rotation, atol=1e-6)
    for canonical, rotation, in_camera in zip(out.canonical, out.rotation, out.in_camera, strict=True):
        np.testing.assert_allclose(in_camera, [rotation @ joint for joint in canonical], atol=1e-2)


def test_counts_share_programs(tiny: model.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the count, the answers are the same, and a program is compiled only for a power of two."""
    compiled: list[int] = []

    def traced(state: TrainState, images: jax.Array) -> Prediction:
        compiled.append(len(images))
        return embed_step(state, images)

    monkeypatch.setattr(model, "LARGEST_BATCH", 4)
    images = pictures(11, SIZE, SIZE, 3)
    wanted = np.concatenate([tiny(images[i : i + 4]).embedding for i in (0, 4, 8)])
    jax.clear_caches()
    monkeypatch.setattr(model, "embed_step", traced)
    for count in (3, 4, 9, 10, 11, 2, 8, 1):
        np.testing.assert_allclose(tiny(images[:count]).embedding, wanted[:count], atol=1e-5)
    assert sorted(compiled) == [1, 2, 4]
    for height, width in ((50, 20), (64, 64), (7, 90)):
        tiny(pictures(3, height, width, 3))
    assert sorted(compiled) == [1, 2, 4]


@pytest.mark.parametrize(("count", "padded"), [(1, 1), (2, 2), (3, 4), (129, 256), (256, 256)])
def test_bucket(count: int, padded: int) -> None:
    assert model.bucket(count) == padded


def test_pictures_of_other_sizes_are_fitted(tiny: model.Model) -> None:
    wide = pictures(20, 40, 3)
    fitted = model.fitted(wide, SIZE)
    padded = np.pad(wide, [(10, 10), (0, 0), (0, 0)])
    np.testing.assert_array_equal(
        fitted, Image.fromarray(padded).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    )
    assert not fitted[:7].any() and fitted[8:24].any() and not fitted[25:].any()
    several = [wide, pictures(SIZE, SIZE, 3, seed=1), pictures(33, 31, 3, seed=2)]
    out = tiny(several)
    assert len(out.embedding) == 3
    for picture, embedding in zip(several, out.embedding, strict=True):
        np.testing.assert_allclose(tiny(picture).embedding[0], embedding, atol=1e-5)


def test_the_optimiser_is_left_behind(tiny: model.Model) -> None:
    assert tiny.state.opt_state == () and steps.make_state().opt_state


@pytest.mark.parametrize(
    ("images", "kind"),
    [
        (np.zeros((2, 32, 32, 3), np.float32), "float32[32, 32, 3]"),
        (np.zeros((2, 3, 32, 32), np.uint8), "uint8[3, 32, 32]"),
        (np.zeros((32, 32), np.uint8), "uint8[32]"),
        ([np.zeros((0, 5, 3), np.uint8)], "uint8[0, 5, 3]"),
    ],
)
def test_other_things_are_refused(tiny: model.Model, images: np.ndarray, kind: str) -> None:
    with refused(kind, "uint8[height, width, 3]"):
        tiny(images)


def test_no_picture_is_refused(tiny: model.Model) -> None:
    with refused("no picture"):
        tiny(np.zeros((0, 32, 32, 3), np.uint8))
