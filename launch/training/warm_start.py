"""The state that a run begins with: random weights, or the encoder of imported weights or of another run."""

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from launch.cli import options
from launch.runs import hosts, run_folder, settings
from mcss_jax.errors import UserError
from mcss_jax.method import Network
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.networks.vision_transformer import resized_positions
from mcss_jax.setting import Role
from mcss_jax.storage import checkpoint
from mcss_jax.training.state import PoseStatistics, TrainState


class Start(NamedTuple):
    """The state before the first update, and what the run's card says of where it comes from."""

    state: TrainState
    card: dict[str, Any]


def first_state(config: settings.Train, image_size: int, statistics: PoseStatistics) -> Start:
    """`run_folder.initial_state`, with `--init_from`'s encoder where the run has no checkpoint of its own yet.

    Its convolutions and batch normalisations (with their running statistics) are taken over; the regressor, the
    optimiser, the pose statistics and the step are this run's own. The embedding layer is part of the head when the
    weights are imported, and taken over from a run that trained one of the same length.

    Raises UserError when `--init_from` is no run, or its encoder has other shapes.
    """
    state = run_folder.initial_state(config, image_size, statistics)
    if not config.run.init_from:
        return Start(state, {})
    own = Path(config.run.workdir).expanduser()
    if checkpoint.latest(own / run_folder.CHECKPOINTS) is not None:
        # A resume goes on from its own weights: those it began with may have moved.
        stored = run_folder.read_json(own / run_folder.CARD)
        return Start(state, {"init_from": stored.get("init_from")})
    source = open_source(config)
    with_embedding = has_embedding(source, config)
    card = {
        "folder": config.run.init_from,
        "step": source.step,
        "weights": source.card.get(run_folder.IMPORTED) or source.card["dataset"],
        "embedding": "taken over" if with_embedding else "fresh",
    }
    hosts.say(
        f"starts from the encoder of {config.run.init_from} (step {source.step}); embedding {card['embedding']}"
    )
    return Start(take_encoder(state, source.state, with_embedding), {"init_from": card})


def open_source(config: settings.Train) -> run_folder.Run:
    """The run that `--init_from` names. Raises as `first_state`."""
    folder = Path(config.run.init_from).expanduser()
    if not (folder / run_folder.CONFIG).is_file():
        raise UserError(
            f"--init_from={config.run.init_from} is not the folder of a run (it has no {run_folder.CONFIG}); name a "
            "trained one, or import weights: python -m launch.import_weights --source=FILE.safetensors "
            f"--workdir={config.run.init_from}"
        )
    source = run_folder.open_run(folder, encoder_alone=True)
    there, here = (options.values(of_run) for of_run in (source.config, config))
    other = [
        f"--{name}={there[name]} there, {here[name]} here"
        for name in options.with_role(settings.Train, Role.ENCODER)
        if there[name] != here[name]
    ]
    # A setting of the other kind of encoder may differ: it shapes nothing.
    if other and _shapes(source.config.network) != _shapes(config.network):
        raise UserError(
            f"--init_from={config.run.init_from} holds another encoder than this run's ({'; '.join(other)}); give the "
            "same settings, or weights of this network"
        )
    return source


def _shapes(network: Network) -> Any:
    """Of the encoder's weights without its embedding, at a size of pictures that every encoder takes."""
    side = 32 * network.vit_patch
    pictures = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(PoseNetwork(network).init, jax.random.key(0), pictures)
    encoder = dict(variables["params"]["encoder"])
    del encoder["embedding"]
    return jax.tree.map(lambda leaf: leaf.shape, encoder)


def has_embedding(source: run_folder.Run, config: settings.Train) -> bool:
    """Whether `source` has trained an embedding layer of the length that `config` wants."""
    there, here = (run.network.embedding_dim for run in (source.config, config))
    return run_folder.IMPORTED not in source.card and there == here


def take_encoder(state: TrainState, source: TrainState, with_embedding: bool) -> TrainState:
    """`state` with the encoder's weights and running statistics of `source`, with or without the embedding layer."""
    encoder, own = dict(source.params["encoder"]), state.params["encoder"]
    if not with_embedding:
        encoder["embedding"] = own["embedding"]
    if "pos_embed" in own:  # learned for pictures of the size that the source was trained on
        grid = math.isqrt(own["pos_embed"].shape[1] - 1)
        encoder["pos_embed"] = resized_positions(encoder["pos_embed"], grid)
    params = {**state.params, "encoder": encoder}
    return dataclasses.replace(state, variables={**source.collections, "params": params})
