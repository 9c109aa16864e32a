"""The encoder of a safetensors file as the folder of a run."""

import dataclasses
import hashlib
import json
import math
import tempfile
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from launch.cli import options
from launch.cli.options import option
from launch.interchange import transformer_names, weights_file, weights_names
from launch.runs import run_folder, settings
from mcss_jax import skeleton
from mcss_jax.errors import UserError
from mcss_jax.method import COUNT, NOT_NEGATIVE, Depth, Network
from mcss_jax.networks.vision_transformer import resized_positions
from mcss_jax.setting import Role
from mcss_jax.storage import checkpoint
from mcss_jax.training.state import PoseStatistics, TrainState

WEIGHTS = "Weights"
DEPTHS: dict[str, Depth | None] = {"auto": None, "18": 18, "34": 34, "50": 50}
# torchvision's; any other does as well, since weights do not depend on it.
IMAGE_SIZE = 224


@dataclasses.dataclass(frozen=True)
class ImportWeights:
    """See `python -m launch.import_weights --help`."""

    source: str = option(
        "",
        "Weights of a ResNet-18, 34 or 50 or a vision transformer, a .safetensors file. Required.",
        WEIGHTS,
    )
    workdir: str = option("", "Folder to make, for --init_from. Required.", WEIGHTS)
    depth: Literal["auto", "18", "34", "50"] = option(
        "auto", "ResNet depth; auto tells it by the tensors' names.", WEIGHTS
    )
    width: int = option(
        64,
        "Channels of the first stage; 64 is torchvision's and timm's network.",
        WEIGHTS,
        bounds=COUNT,
        roles={Role.MEMORY},
    )
    vit_heads: int = option(
        0,
        "Heads of a vision transformer's attention; 0 for timm's, each 64 long.",
        WEIGHTS,
        bounds=NOT_NEGATIVE,
    )
    image_size: int = option(
        0,
        "Pictures that a vision transformer's learned positions are resized for, pixels; 0 for those that it was "
        "trained on. A run that starts from it resizes them to its own.",
        WEIGHTS,
        bounds=NOT_NEGATIVE,
    )


class Imported(NamedTuple):
    """An encoder out of a file: its variables without the embedding, its network, and the side of its pictures."""

    variables: dict[str, Any]
    network: Network
    image_size: int
    name: str
    taken_for: str


def check(config: ImportWeights) -> None:
    """Raises UserError for settings that no file could satisfy, and for a folder in use."""
    for name, example in (("source", "resnet18.safetensors"), ("workdir", "runs/imagenet_resnet18")):
        if not getattr(config, name):
            raise UserError(f"--{name} is missing; for example --{name}={example}")
    options.check_values(config)
    folder = Path(config.workdir).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--workdir={config.workdir} exists and is not empty; choose another, or remove it")


def read_variables(source: Path, depth: Depth | None, width: int) -> tuple[dict[str, Any], Depth]:
    """The encoder's variables in a file, checked, and its depth.

    Raises UserError as `weights_file` and `weights_names` do.
    """
    shapes = weights_file.shapes(source)
    depth = weights_names.depth_of(shapes) if depth is None else depth
    weights_names.check(shapes, depth, width, str(source))
    tensors = weights_file.read(source, weights_names.expected(depth, width))
    return weights_names.to_variables(tensors, depth, width, str(source)), depth


def read_encoder(config: ImportWeights, source: Path) -> Imported:
    """The encoder in a file, of the kind that its tensors' names tell.

    Raises UserError as `weights_file`, `weights_names` and `transformer_names` do.
    """
    shapes = weights_file.shapes(source)
    if not transformer_names.is_transformer(shapes):
        variables, depth = read_variables(source, DEPTHS[config.depth], config.width)
        return Imported(
            variables,
            Network(depth=depth, width=config.width),
            IMAGE_SIZE,
            f"ResNet-{depth}",
            f"torchvision's ResNet-{depth}; the file does not tell whether it had {weights_names.UNTOLD}",
        )
    network = transformer_names.network_of(shapes, config.vit_heads, str(source))
    places = transformer_names.check(shapes, network, str(source))
    tensors = weights_file.read(source, {name: place.shape for name, place in places.items()})
    params = transformer_names.to_params(tensors, places)
    patch = network.vit_patch
    side = config.image_size or patch * math.isqrt(places["pos_embed"].shape[1] - 1)
    if side % patch:
        raise UserError(f"--image_size={side}; expected a multiple of the patch, {patch} px")
    params["pos_embed"] = np.asarray(resized_positions(jnp.asarray(params["pos_embed"]), side // patch))
    name = f"ViT of patch {patch}, size {network.vit_size}, {network.vit_layers} blocks"
    return Imported(
        {"params": params},
        network,
        side,
        name,
        f"timm's plain vision transformer with {network.vit_heads} heads, which the file does not tell",
    )


def with_encoder(state: TrainState, variables: dict[str, Any]) -> TrainState:
    """`state` with this encoder, and the embedding and regressor that it has."""
    embedding = state.params["encoder"]["embedding"]
    collections = {name: {"encoder": arrays} for name, arrays in variables.items()}
    collections["params"] = {**state.params, "encoder": {**variables["params"], "embedding": embedding}}
    return dataclasses.replace(state, variables=collections)


def import_weights(config: ImportWeights) -> Path:
    """Reads, checks and writes; the folder is there complete or not at all.

    Raises UserError and OSError with one clear sentence.
    """
    check(config)
    source, folder = Path(config.source).expanduser(), Path(config.workdir).expanduser()
    encoder = read_encoder(config, source)
    with source.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    run = options.build(settings.Train, dataset="", labelled="none", workdir=config.workdir)
    run = dataclasses.replace(run, network=encoder.network)
    card = {
        run_folder.IMPORTED: f"{encoder.name} from {source.name}, SHA-256 {digest}",
        "taken_for": encoder.taken_for,
        "dataset": "",
        "fingerprint": f"weights-{digest[:16]}",
        "image_size": encoder.image_size,
    }
    statistics = PoseStatistics(jnp.zeros((skeleton.NUM_JOINTS, 3)), jnp.ones(()))
    state = with_encoder(run_folder.initial_state(run, encoder.image_size, statistics), encoder.variables)
    state = jax.tree.map(jnp.asarray, state)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    # In a folder of this call's own; what is not moved out of it goes with it.
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=folder.parent) as staging:
        temporary = Path(staging) / "weights"
        with checkpoint.Checkpoints(temporary / run_folder.CHECKPOINTS) as checkpoints:
            checkpoints.save(0, state, {"fingerprint": card["fingerprint"]})
        run_folder.write_text(temporary / run_folder.CARD, json.dumps(card, indent=2, sort_keys=True) + "\n")
        run_folder.write_text(temporary / run_folder.CONFIG, options.to_json(run))
        temporary.replace(folder)
    return folder
