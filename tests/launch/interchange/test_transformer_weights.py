"""A vision transformer brought in, trained from, exported and counted; timm's names and layout by hand."""

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launch.benchmarks.flops import multiplications
from launch.cli import options
from launch.interchange import exported, import_weights, onnx_graph, transformer_names, weights_file
from launch.interchange.import_weights import ImportWeights
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.training import warm_start
from mcss_jax.method import Network
from mcss_jax.networks.encoder import ENCODERS
from mcss_jax.networks.pixels import standardise
from mcss_jax.training import train_step
from mcss_jax.training.state import PoseStatistics
from tests.launch.resnets import save
from tests.mcss_jax.steps import TINY, make_state
from tests.refusals import refused

NETWORK = Network(encoder="vit", vit_patch=8, vit_size=12, vit_layers=2, vit_heads=3)
GRID = 4
Weights = dict[str, np.ndarray]


def timms(network: Network = NETWORK, grid: int = GRID, seed: int = 0) -> Weights:
    """A file's tensors, with the classifier that timm's have too."""
    rng = np.random.default_rng(seed)
    places = transformer_names.places(network, 1 + grid**2)
    weights = {name: rng.normal(0, 0.4, place.shape).astype(np.float32) for name, place in places.items()}
    return {**weights, "head.weight": np.ones((10, 12), np.float32), "head.bias": np.ones(10, np.float32)}


def features(weights: Weights, image: np.ndarray, patch: int, heads: int) -> np.ndarray:
    """timm's forward pass in its own layout: image [3, h, w] to the class token after the last normalisation."""

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    kernel = weights["patch_embed.proj.weight"]
    tokens = [weights["cls_token"][0, 0]]
    for top in range(0, image.shape[1], patch):
        for left in range(0, image.shape[2], patch):
            window = image[:, top : top + patch, left : left + patch]
            tokens.append((kernel * window).sum((1, 2, 3)) + weights["patch_embed.proj.bias"])
    x = np.stack(tokens) + weights["pos_embed"][0]
    n, size = x.shape
    layer = 0
    while f"blocks.{layer}.norm1.weight" in weights:
        name = f"blocks.{layer}"
        packed = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        q, k, v = packed.reshape(n, 3, heads, size // heads).transpose(1, 2, 0, 3)
        scores = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(size // heads))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(1, 0, 2).reshape(n, size), f"{name}.attn.proj")
        hidden = linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        gelu = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = x + linear(gelu, f"{name}.mlp.fc2")
        layer += 1
    return norm(x[0], "norm")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    file = save(timms(), folder / "vit.safetensors")
    return import_weights.import_weights(
        ImportWeights(source=str(file), workdir=str(folder / "vit"), vit_heads=3)
    )


def test_features_are_timms(imported: Path) -> None:
    run = run_folder.open_run(imported, encoder_alone=True)
    assert run.config.network == NETWORK and run.card["image_size"] == 32 and run.state.collections == {}
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    standardised = standardise(jnp.asarray(images))
    ours, _ = jax.jit(ENCODERS["vit"](NETWORK, None).apply)(
        {"params": run.state.params["encoder"]}, standardised
    )
    weights = {name: tensor.astype(np.float64) for name, tensor in timms().items()}
    for i in range(2):
        wanted = features(weights, np.asarray(standardised[i], np.float64).transpose(2, 0, 1), 8, 3)
        np.testing.assert_allclose(ours[i], wanted, rtol=1e-3, atol=1e-4)


def test_timms_small_one_by_its_shapes() -> None:
    """ViT-S/16: its sizes, with the heads that no file tells."""
    small = Network(encoder="vit", vit_patch=16, vit_size=384, vit_layers=12, vit_heads=6)
    shapes = {name: place.shape for name, place in transformer_names.places(small, 197).items()}
    assert len(shapes) == 150
    assert transformer_names.network_of(shapes, 0, "x") == small
    assert sum(math.prod(shape) for shape in shapes.values()) == 21_665_664, "timm's, without its classifier"


def test_a_run_begins_with_it_at_another_size(imported: Path, tmp_path: Path) -> None:
    config = options.replace(
        dataclasses.replace(Train(), network=NETWORK), init_from=str(imported), workdir=str(tmp_path)
    )
    statistics = PoseStatistics(jnp.zeros((17, 3)), jnp.ones(()))
    source = run_folder.open_run(imported, encoder_alone=True).state.params["encoder"]
    for size, tokens in ((32, 17), (64, 65)):
        state = warm_start.first_state(config, size, statistics).state
        taken = state.params["encoder"]
        assert taken["pos_embed"].shape == (1, tokens, 12)
        np.testing.assert_array_equal(taken["pos_embed"][:, 0], source["pos_embed"][:, 0])
        np.testing.assert_array_equal(taken["block1"]["fc2"]["kernel"], source["block1"]["fc2"]["kernel"])
    other = options.replace(config, vit_layers=3)
    with refused("--vit_layers=2 there, 3 here"):
        warm_start.first_state(other, 32, statistics)
    # What only the other kind of encoder reads may differ.
    warm_start.first_state(options.replace(config, depth=50, width=8), 32, statistics)


def test_positions_are_resized_on_import(tmp_path: Path) -> None:
    file = save(timms(), tmp_path / "vit.safetensors")
    folder = import_weights.import_weights(
        ImportWeights(source=str(file), workdir=str(tmp_path / "at64"), vit_heads=3, image_size=64)
    )
    run = run_folder.open_run(folder, encoder_alone=True)
    assert run.card["image_size"] == 64 and run.state.params["encoder"]["pos_embed"].shape == (1, 65, 12)
    with refused("--image_size=60", "8 px"):
        import_weights.import_weights(
            ImportWeights(source=str(file), workdir=str(tmp_path / "at60"), vit_heads=3, image_size=60)
        )


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"blocks.0.attn.qkv.bias": None}, ("1 missing", "blocks.0.attn.qkv.bias")),
        ({"blocks.0.ls1.gamma": np.ones(12)}, ("1 unexpected", "blocks.0.ls1.gamma")),
        ({"norm.weight": np.ones(11)}, ("1 of another shape", "norm.weight [11]", "[12]")),
        ({"patch_embed.proj.weight": None}, ("patch_embed.proj.weight is missing",)),
        ({"patch_embed.proj.weight": np.ones((12, 1, 8, 8))}, ("[12, 1, 8, 8]", "[size, 3, patch, patch]")),
    ],
)
def test_other_transformers_are_refused(change: dict, facts: tuple[str, ...], tmp_path: Path) -> None:
    weights = {
        name: tensor.astype(np.float32)
        for name, tensor in {**timms(), **change}.items()
        if tensor is not None
    }
    file = save(weights, tmp_path / "other.safetensors")
    with refused("other.safetensors", *facts):
        import_weights.import_weights(
            ImportWeights(source=str(file), workdir=str(tmp_path / "out"), vit_heads=3)
        )
    assert not (tmp_path / "out").exists()


def test_heads_that_do_not_share_a_token(tmp_path: Path) -> None:
    with refused("12", "5 heads", "--vit_heads"):
        transformer_names.network_of(weights_file.shapes(save(timms(), tmp_path / "x.safetensors")), 5, "x")


def test_stablehlo_is_the_network_and_onnx_is_refused(tmp_path: Path) -> None:
    state = make_state(dataclasses.replace(TINY, network=NETWORK))
    file = tmp_path / "model.stablehlo"
    file.write_bytes(exported.to_bytes(exported.in_float32(state), 32, "stablehlo"))
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    theirs = exported.load(file, "stablehlo")(images)
    for a, b in zip(theirs, jax.jit(train_step.embed_step)(state, images), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
    with refused("--format=onnx", "--encoder=vit", "--format=stablehlo"):
        onnx_graph.build(state, 32)


def test_its_multiplications_are_those_of_its_layers() -> None:
    """By the sizes of every product of ViT-S/16 at 224 px, and of the heads behind it."""
    small = Network(encoder="vit", vit_patch=16, vit_size=384, vit_layers=12, vit_heads=6)
    n, d = 197, 384
    layer = n * d * 3 * d + 2 * n * n * d + n * d * d + 2 * n * d * 4 * d
    stem = 196 * 16 * 16 * 3 * d
    heads = d * 128 + (128 + d) * 256 + 2 * 256 * 256 + 256 * (51 + 6)
    counted = multiplications(small, 224)
    assert counted.stem == stem
    assert counted.forward == stem + 12 * layer + heads
    assert counted.forward == pytest.approx(4.6e9, rel=0.01), "as timm says of it"


def test_the_card_says_what_was_taken_for_granted(imported: Path) -> None:
    card = json.loads((imported / "card.json").read_text())
    assert card["imported"].startswith("ViT of patch 8, size 12, 2 blocks from vit.safetensors, SHA-256 ")
    assert "3 heads" in card["taken_for"]


@pytest.mark.parametrize("name", ["vit_small_patch16_224", "vit_tiny_patch16_224"])
def test_features_are_those_of_timm_itself(name: str, tmp_path: Path) -> None:
    """With random weights; needs the extras."""
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    weights = {key: value.numpy() for key, value in theirs.state_dict().items()}
    source = str(save(weights, tmp_path / f"{name}.safetensors"))
    folder = import_weights.import_weights(ImportWeights(source=source, workdir=str(tmp_path / "run")))
    run = run_folder.open_run(folder, encoder_alone=True)
    images = np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    standardised = np.asarray(standardise(jnp.asarray(images)))
    with torch.no_grad():
        pictures = torch.tensor(standardised.transpose(0, 3, 1, 2))
        wanted = theirs.forward_head(theirs.forward_features(pictures), pre_logits=True).numpy()
    ours, _ = jax.jit(ENCODERS["vit"](run.config.network, None).apply)(
        {"params": run.state.params["encoder"]}, jnp.asarray(standardised)
    )
    np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=2e-3)
