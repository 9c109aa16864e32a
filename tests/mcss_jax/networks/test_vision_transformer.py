"""The vision transformer against the same in NumPy, token by token, and its learned positions on other grids."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax.networks.vision_transformer import VisionTransformer, resized_positions
from tests.refusals import refused

PATCH, TOKEN, LAYERS, HEADS = 4, 6, 2, 3


def normalised(x: np.ndarray, of: dict[str, np.ndarray]) -> np.ndarray:
    centred = x - x.mean()
    return centred / np.sqrt((centred**2).mean() + 1e-6) * of["scale"] + of["bias"]


def dense(x: np.ndarray, of: dict[str, np.ndarray]) -> np.ndarray:
    return x @ of["kernel"] + of["bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])


def attention(tokens: list[np.ndarray], of: dict[str, dict[str, np.ndarray]]) -> list[np.ndarray]:
    packed = [dense(token, of["qkv"]).reshape(3, HEADS, TOKEN // HEADS) for token in tokens]
    out = []
    for mine in packed:
        heads = []
        for head in range(HEADS):
            scores = np.asarray([mine[0, head] @ other[1, head] for other in packed])
            weights = np.exp(scores / math.sqrt(TOKEN // HEADS))
            heads.append(
                sum(w * other[2, head] for w, other in zip(weights / weights.sum(), packed, strict=True))
            )
        out.append(dense(np.concatenate(heads), of["proj"]))
    return out


def by_tokens(picture: np.ndarray, params: dict) -> np.ndarray:
    """Features of one picture."""
    tokens = [params["cls_token"][0, 0]]
    for top in range(0, picture.shape[0], PATCH):
        for left in range(0, picture.shape[1], PATCH):
            patch = picture[top : top + PATCH, left : left + PATCH].ravel()
            tokens.append(dense(patch, params["patch_embed"]))
    tokens = [token + at for token, at in zip(tokens, params["pos_embed"][0], strict=True)]
    for layer in range(LAYERS):
        of = params[f"block{layer}"]
        mixed = attention([normalised(token, of["norm1"]) for token in tokens], of["attn"])
        tokens = [token + new for token, new in zip(tokens, mixed, strict=True)]
        tokens = [
            token + dense(gelu(dense(normalised(token, of["norm2"]), of["fc1"])), of["fc2"])
            for token in tokens
        ]
    return normalised(tokens[0], params["norm"])


def test_against_tokens_one_by_one() -> None:
    rng = np.random.default_rng(0)
    network = VisionTransformer(PATCH, TOKEN, LAYERS, HEADS, embedding_dim=5)
    pictures = rng.normal(size=(2, 8, 12, 3)).astype(np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), pictures)
    variables = jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes)
    assert variables["params"]["pos_embed"].shape == (1, 1 + 2 * 3, TOKEN)
    with jax.default_matmul_precision("highest"):
        features, embedding = jax.jit(network.apply)(variables, pictures)
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), variables["params"])
    for i, picture in enumerate(pictures.astype(np.float64)):
        wanted = by_tokens(picture, params)
        # Fine enough to tell GELU from its approximation by a hyperbolic tangent.
        np.testing.assert_allclose(features[i], wanted, rtol=1e-5, atol=1e-5)
        direction = dense(wanted, params["embedding"])
        np.testing.assert_allclose(embedding[i], direction / np.linalg.norm(direction), atol=1e-4)


@pytest.mark.parametrize("grid", [4, 7])
def test_positions_on_another_grid(grid: int) -> None:
    """A plane stays a plane inside; the class token's position is nobody's neighbour."""
    side = np.arange(7.0)
    plane = np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(1, 49, 2)
    positions = jnp.asarray(np.concatenate([np.full((1, 1, 2), 100.0), plane], axis=1), jnp.float32)
    actual = np.asarray(resized_positions(positions, grid))
    assert actual.shape == (1, 1 + grid**2, 2)
    np.testing.assert_array_equal(actual[0, 0], [100.0, 100.0])
    square = actual[0, 1:].reshape(grid, grid, 2)
    expected = (np.arange(grid) + 0.5) * 7 / grid - 0.5
    np.testing.assert_allclose(square[:, 1, 0][1:-1], expected[1:-1], atol=0.05)
    np.testing.assert_allclose(square[1, :, 1][1:-1], expected[1:-1], atol=0.05)


def test_what_does_not_divide_is_refused() -> None:
    pictures = jnp.zeros((1, 20, 20, 3))
    with refused("--vit_patch=8", "20 x 20 px", "--image_size"):
        jax.eval_shape(VisionTransformer(8, 6, 1, 3).init, jax.random.key(0), pictures)
    with refused("--vit_size=7", "--vit_heads=3"):
        jax.eval_shape(VisionTransformer(4, 7, 1, 3).init, jax.random.key(0), pictures)
    with refused("3", "square"):
        resized_positions(jnp.zeros((1, 3, 2)), 4)
