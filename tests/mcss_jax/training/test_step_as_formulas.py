"""What a step does around its loss: random streams, pictures to the network, means over replicas, answers in mm."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mcss_jax import streams
from mcss_jax.augment import Augmentation
from mcss_jax.method import Method, Network, Optimiser
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.training import train_step
from mcss_jax.training.optimiser import transformation
from mcss_jax.training.state import PoseStatistics, TrainState, init_state, pose_statistics
from tests.mcss_jax import formulas
from tests.mcss_jax.steps import TINY, make_batch, poses, two_blocks

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Watched:
    """Stands for the network: remembers what it is shown, and answers with the number of each picture."""

    seen: Any = None

    def __init__(self, network: Network, axis_name: str | None = None) -> None:
        self.of = network, axis_name

    def apply(self, variables: Any, images: jax.Array, train: bool, mutable: Any = None) -> Any:
        Watched.seen = self.of, variables, images, train, mutable
        number = jnp.arange(float(len(images)))
        answers = (
            number[:, None] * jnp.ones((1, 3)),
            number[:, None, None] * jnp.ones((1, 17, 3)),
            (number[:, None] + 1) * jnp.asarray([[1.0, 0, 0, 0, 1, 0]]),
        )
        return (answers, {"batch_stats": "new"}) if mutable is not None else answers


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Watched]]:
    monkeypatch.setattr(train_step, "PoseNetwork", Watched)
    yield Watched
    Watched.seen = None


def state_at(step: int) -> TrainState:
    statistics = PoseStatistics(jnp.arange(51.0).reshape(17, 3), jnp.asarray(20.0))
    variables = {"params": {"a": jnp.ones(2)}, "batch_stats": {"b": jnp.zeros(2)}}
    return TrainState(jnp.asarray(step, jnp.int32), variables, None, statistics, TINY.network)


def test_every_sample_has_a_key_of_its_own_in_every_step(
    watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run, step, part (labelled 0, unlabelled 1) and sample, folded in one after another; nothing else."""
    drawn: dict[int, Any] = {}

    def recording(keys: Any, views: Any, boxes: Any, config: Any) -> Any:
        drawn[views.shape[1]] = np.asarray(jax.random.key_data(keys))
        return views.astype(jnp.float32), boxes, jnp.zeros(len(views), bool)

    monkeypatch.setattr(train_step, "augment", recording)
    batch = jax.tree.map(jnp.asarray, make_batch())
    assert batch.labelled is not None and batch.unlabelled is not None
    moved = dataclasses.replace(batch.unlabelled, sample=batch.unlabelled.sample + 5)
    batch = dataclasses.replace(batch, unlabelled=moved)
    everything = []
    for seed, step in ((0, 0), (0, 3), (1, 3)):
        train_step.forward(TINY, None, state_at(step), batch, jax.random.key(seed), None)
        for stream, (views, first) in enumerate(((1, 0), (2, 5))):
            for i in range(8):
                key = jax.random.key(seed)
                for number in (step, stream, first + i):
                    key = jax.random.fold_in(key, number)
                np.testing.assert_array_equal(drawn[views][i], jax.random.key_data(key))
            everything += [tuple(row) for row in drawn[views]]
    assert len(set(everything)) == 3 * 16


def test_what_the_network_is_shown_and_who_gets_its_answers(
    watched: type[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Augmented pictures, standardised as ImageNet's, all parts in one batch, in training mode."""

    method = dataclasses.replace(TINY, augmentation=Augmentation(scale=0.3))

    def halved(keys: Any, views: Any, boxes: Any, config: Any) -> Any:
        assert config == method.augmentation
        flipped = jax.random.uniform(keys[0]) + jnp.arange(len(views)) % 2 > 1
        return views.astype(jnp.float32) / 2, boxes + 1, flipped

    monkeypatch.setattr(train_step, "augment", halved)
    batch = jax.tree.map(jnp.asarray, make_batch(labelled=4, unlabelled=3))
    outputs, (collections, crops) = train_step.forward(
        method, "params", state_at(0), batch, jax.random.key(0), "axis"
    )
    assert batch.labelled is not None and batch.unlabelled is not None
    of, variables, images, train, mutable = watched.seen
    assert of == (TINY.network, "axis") and train is True and mutable == ["batch_stats"]
    assert variables["params"] == "params" and collections == {"batch_stats": "new"}
    raw = np.concatenate([batch.labelled.images, batch.unlabelled.images.reshape(-1, 32, 32, 3)])
    np.testing.assert_allclose(images, (raw / 2 / 255 - MEAN) / STD, atol=1e-4)
    np.testing.assert_array_equal(outputs["labelled"].embedding[..., 0], [[0], [1], [2], [3]])
    np.testing.assert_array_equal(outputs["unlabelled"].embedding[..., 0], [[4, 5], [6, 7], [8, 9]])
    for part in outputs.values():
        np.testing.assert_array_equal(part.pose[..., 0, 0], part.embedding[..., 0])
        np.testing.assert_array_equal(part.rotation[..., 0], part.embedding[..., 0] + 1)
    np.testing.assert_array_equal(crops["labelled"].box, batch.labelled.box + 1)
    assert crops["labelled"].flipped.shape == (4,) and crops["unlabelled"].flipped.shape == (3,)


def test_inference_undoes_the_standardisation_of_poses(watched: type[Watched]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    state = state_at(0)
    embedding, canonical, rotation = train_step.embed_step(state, jnp.asarray(images))
    of, variables, shown, train, mutable = watched.seen
    assert of == (TINY.network, None) and train is False and mutable is None
    assert variables is state.variables
    np.testing.assert_allclose(shown, (images / 255 - MEAN) / STD, atol=1e-4)
    for i in range(3):
        np.testing.assert_array_equal(embedding[i], [i] * 3)
        np.testing.assert_allclose(canonical[i], 20.0 * i + np.arange(51).reshape(17, 3), rtol=1e-6)
        np.testing.assert_allclose(rotation[i], np.eye(3), atol=1e-6)


def test_replicas_take_the_mean_of_gradients_and_statistics_and_the_sum_of_sums() -> None:
    optimiser = Optimiser(steps=10, learning_rate=0.1, warmup_steps=0, weight_decay=0.0, clip_norm=1e9)
    params = {"w": jnp.asarray([1.0, -2.0, 3.0])}
    state = dataclasses.replace(
        state_at(0),
        variables={"params": params, "batch_stats": {"b": jnp.zeros(2)}},
        opt_state=transformation(optimiser).init(params),
    )
    rng = np.random.default_rng(2)
    gradients, statistics = (jnp.asarray(rng.normal(size=(3, n)), jnp.float32) for n in (3, 2))
    totals, counts = jnp.asarray([1.0, 5.0, 0.0]), jnp.asarray([1.0, 3.0, 0.0])

    def replica(g: jax.Array, b: jax.Array, total: jax.Array, count: jax.Array) -> Any:
        method, sums = Method(optimiser=optimiser), {"x": (total, count), "nobody": (0 * total, 0 * count)}
        collections = {"batch_stats": {"b": b}}
        return train_step.update(method, state, jnp.ones(()), {"w": g}, collections, sums, "replica")

    after, report = jax.vmap(replica, axis_name="replica")(gradients, statistics, totals, counts)
    mean = np.asarray(gradients, np.float64).mean(0)
    wanted = formulas.adamw(optimiser, {"w": np.asarray(params["w"])}, [{"w": mean}])["w"]
    for k in range(3):
        np.testing.assert_allclose(after.params["w"][k], wanted, rtol=1e-5)
        np.testing.assert_allclose(after.opt_state[1][0].mu["w"][k], 0.1 * mean, rtol=1e-4, atol=1e-6)
        kept = after.collections["batch_stats"]["b"][k]
        np.testing.assert_allclose(kept, np.asarray(statistics).mean(0), rtol=1e-5)
        assert float(report["gradient_norm"][k]) == pytest.approx(np.linalg.norm(mean), rel=1e-5)
        assert float(report["x"][k]) == pytest.approx(6 / 4) and np.isnan(float(report["nobody"][k]))


def test_replicas_mean_the_loss_of_the_whole_batch() -> None:
    """Though one of them has fewer labels that can be read and fewer anchors than the other."""
    batch = jax.tree.map(jnp.asarray, make_batch())
    state, rng = state_at(0), np.random.default_rng(1)

    def answers(views: int) -> Any:
        shapes = (8, views, 5), (8, views, 17, 3), (8, views, 6)
        embedding, pose, rotation = (rng.normal(size=shape) for shape in shapes)
        embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
        return train_step.Outputs(*(jnp.asarray(x, jnp.float32) for x in (embedding, pose, rotation)))

    outputs = {"labelled": answers(1), "unlabelled": answers(2)}
    crops = {name: train_step.Crop(jnp.full((8, 4), jnp.nan), jnp.zeros(8, bool)) for name in outputs}

    def loss(o: Any, c: Any, b: Any, axis_name: str | None) -> Any:
        return train_step.objective(TINY, o, c, state, b, axis_name)

    gradient = jax.value_and_grad(loss, has_aux=True)
    (whole, (sums, mined)), slope = jax.jit(lambda: gradient(outputs, crops, batch, None))()
    halves = jax.tree.map(lambda x: x.reshape(2, 4, *x.shape[1:]), (outputs, crops, batch))
    mapped = jax.vmap(lambda o, c, b: gradient(o, c, b, "replica"), axis_name="replica")
    (losses, (shares, columns)), slopes = jax.jit(mapped)(*halves)
    np.testing.assert_allclose(losses, [whole] * 2, rtol=1e-5)
    np.testing.assert_array_equal(columns.reshape(-1), mined)
    for name, (total, count) in sums.items():
        ratio = float(shares[name][0].sum() / shares[name][1].sum())
        assert ratio == pytest.approx(float(total / count), rel=1e-4), name
    # An update takes the mean over replicas.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.reshape(b.shape) / 2, b, rtol=1e-3, atol=1e-6),
        slopes,
        slope,
    )


def test_streams_are_what_they_have_always_been() -> None:
    """Seed 3: a run is repeated by its seed, whatever else changes."""
    init, augment = (jax.random.key_data(streams.stream(3, purpose)) for purpose in ("init", "augment"))
    assert init.tolist() == [3481077830, 261690757]
    assert augment.tolist() == [930430218, 3759016115]


def test_a_fresh_state() -> None:
    """Weights of the sizes that their initialisation says, from the key that is given; and nothing done yet."""
    method = dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, hidden=64, width=16))
    statistics = pose_statistics(jnp.asarray(poses(np.random.default_rng(0), 5)))
    init = jax.jit(init_state, static_argnums=(0, 2))
    with two_blocks():
        state, other = (init(method, jax.random.key(seed), 32, statistics) for seed in (0, 1))
    assert int(state.step) == 0 and state.network == method.network
    np.testing.assert_array_equal(state.statistics.mean, statistics.mean)
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt_state))
    encoder, regressor = state.params["encoder"], state.params["regressor"]
    for block in (of for name, of in encoder.items() if name.startswith("layer")):
        for name, of in block.items():
            if "conv" in name:
                side, _, _, out = of["kernel"].shape
                wanted = np.sqrt(2 / (side * side * out))
                assert float(of["kernel"].std()) == pytest.approx(wanted, rel=0.15), name
            else:
                scale = 0.0 if name == "bn2" else 1.0  # a block starts as what goes past it
                assert (np.asarray(of["bn"]["scale"]) == scale).all(), name
                assert not np.asarray(of["bn"]["bias"]).any()
    for head, size in (("pose", 51), ("rotation", 6)):
        out = regressor[f"{head}_out"]
        assert out["kernel"].shape == (64, size) and not np.asarray(out["bias"]).any()
        assert float(out["kernel"].std()) == pytest.approx(0.01, rel=0.15)
        hidden = regressor[f"{head}_hidden0"]["kernel"]
        assert float(hidden.std()) == pytest.approx(1 / np.sqrt(len(hidden)), rel=0.15)
    statistics_of = state.collections["batch_stats"]["encoder"]["bn1"]["bn"]
    assert not np.asarray(statistics_of["mean"]).any() and (np.asarray(statistics_of["var"]) == 1).all()
    assert np.abs(other.params["encoder"]["conv1"]["kernel"] - encoder["conv1"]["kernel"]).max() > 1e-3


def test_a_fresh_transformer() -> None:
    network = Network(encoder="vit", vit_patch=4, vit_size=48, vit_layers=1, vit_heads=3)
    pictures = jnp.zeros((1, 32, 32, 3))
    params = jax.jit(PoseNetwork(network).init)(jax.random.key(0), pictures)["params"]["encoder"]
    assert not np.asarray(params["cls_token"]).any()
    assert float(params["pos_embed"].std()) == pytest.approx(0.02, rel=0.1)
    for kernel in (params["patch_embed"]["kernel"], params["block0"]["fc1"]["kernel"]):
        assert float(kernel.std()) == pytest.approx(1 / np.sqrt(len(kernel)), rel=0.1)
