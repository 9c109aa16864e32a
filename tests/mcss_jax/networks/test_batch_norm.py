"""Batch normalisation by its formula: in training the batch's, afterwards what the running statistics have become."""

import jax
import jax.numpy as jnp
import numpy as np

from mcss_jax.networks.resnet import ResNet
from tests.mcss_jax.steps import two_blocks


def test_statistics_and_their_running_means() -> None:
    """Of the stem, a linear map of patches: what comes out of it is known."""
    rng = np.random.default_rng(0)
    with two_blocks():
        network = ResNet(width=4, embedding_dim=4, stem="patch8")
        pictures = jnp.asarray(rng.normal(2, 3, (6, 16, 16, 3)), jnp.float32)
        variables = network.init(jax.random.key(0), pictures)
        kernel = np.asarray(variables["params"]["conv1"]["kernel"], np.float64)[0, 0]
        patches = np.asarray(pictures, np.float64).reshape(6, 2, 8, 2, 8, 3).transpose(0, 1, 3, 2, 4, 5)
        x = patches.reshape(-1, 8 * 8 * 3) @ kernel
        before = {"mean": rng.normal(size=4), "var": rng.uniform(1, 2, 4)}
        stats = jax.tree.map(np.asarray, variables["batch_stats"])
        stats["bn1"]["bn"] = {name: value.astype(np.float32) for name, value in before.items()}
        variables = {"params": variables["params"], "batch_stats": stats}

        def stem(train: bool) -> tuple[np.ndarray, dict]:
            (_, updates) = jax.jit(
                lambda v: network.apply(
                    v,
                    pictures,
                    train,
                    mutable=["batch_stats", "intermediates"],
                    capture_intermediates=lambda module, _: module.name == "bn1" and module.path == ("bn1",),
                )
            )(variables)
            (out,) = updates["intermediates"]["bn1"]["__call__"]
            return np.asarray(out).reshape(-1, 4), updates["batch_stats"]["bn1"]["bn"]

        trained, after = stem(True)
        used, kept = stem(False)
    np.testing.assert_allclose(trained, (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-3)
    for name, batch in (("mean", x.mean(0)), ("var", x.var(0))):
        np.testing.assert_allclose(after[name], 0.9 * before[name] + 0.1 * batch, rtol=1e-3, err_msg=name)
        np.testing.assert_allclose(kept[name], before[name], rtol=1e-6)
    np.testing.assert_allclose(used, (x - before["mean"]) / np.sqrt(before["var"] + 1e-5), atol=1e-3)


def test_epsilon_is_what_a_constant_channel_is_divided_by() -> None:
    with two_blocks():
        network = ResNet(width=4, embedding_dim=4, stem="patch8")
        pictures = jnp.zeros((2, 16, 16, 3))
        variables = network.init(jax.random.key(0), pictures)
        stats = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
        stats["bn1"]["bn"]["mean"] = jnp.full(4, -1e-3)
        out, updates = network.apply(
            {"params": variables["params"], "batch_stats": stats},
            pictures,
            False,
            mutable=["intermediates"],
            capture_intermediates=lambda module, _: module.path == ("bn1",),
        )
    (normalised,) = updates["intermediates"]["bn1"]["__call__"]
    np.testing.assert_allclose(normalised, 1e-3 / np.sqrt(1e-5), rtol=1e-4)
