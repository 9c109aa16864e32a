"""The two heads: what each of them sees."""

import jax
import jax.numpy as jnp
import numpy as np

from mcss_jax.networks.regressor import Regressor


def test_shapes_and_what_each_head_sees() -> None:
    regressor = Regressor(hidden=8, layers=1)
    rng = np.random.default_rng(0)
    embedding, features = (jnp.asarray(rng.normal(size=(3, d)), jnp.float32) for d in (4, 5))
    params = jax.jit(regressor.init)(jax.random.key(0), embedding, features)
    apply = jax.jit(regressor.apply)
    pose, rotation = apply(params, embedding, features)
    assert (pose.shape, rotation.shape) == ((3, 17, 3), (3, 6))
    other_pose, other_rotation = apply(params, embedding, 2 * features)
    np.testing.assert_array_equal(other_pose, pose)
    assert not np.allclose(other_rotation, rotation)
    other_pose, other_rotation = apply(params, -embedding, features)
    np.testing.assert_array_equal(other_rotation, rotation)
    assert not np.allclose(other_pose, pose)


def test_number_of_layers() -> None:
    shapes = jax.eval_shape(
        Regressor(hidden=7, layers=3).init, jax.random.key(0), jnp.zeros((1, 4)), jnp.zeros((1, 5))
    )["params"]
    assert shapes["pose_hidden0"]["kernel"].shape == (4, 7)
    assert shapes["pose_hidden2"]["kernel"].shape == shapes["rotation_hidden2"]["kernel"].shape == (7, 7)
    assert shapes["rotation_hidden0"]["kernel"].shape == (5, 7)
    assert "pose_hidden3" not in shapes


def test_against_the_formula() -> None:
    """Hidden layers of dense and ReLU, a dense layer at the end; the embedding's entries are brought to size one."""
    rng = np.random.default_rng(1)
    regressor = Regressor(hidden=7, layers=2)
    embedding, features = (rng.normal(size=(3, d)).astype(np.float32) for d in (4, 5))
    shapes = jax.eval_shape(regressor.init, jax.random.key(0), jnp.asarray(embedding), jnp.asarray(features))
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    pose, rotation = jax.jit(regressor.apply)(variables, jnp.asarray(embedding), jnp.asarray(features))

    def by_hand(x: np.ndarray, head: str) -> np.ndarray:
        for name in (f"{head}_hidden0", f"{head}_hidden1", f"{head}_out"):
            of = variables["params"][name]
            x = x @ np.asarray(of["kernel"], np.float64) + np.asarray(of["bias"])
            x = x if name.endswith("out") else np.maximum(x, 0)
        return x

    joints = by_hand(embedding * 2.0, "pose")  # the root of 4
    for joint in range(17):
        wanted = joints[:, 3 * joint : 3 * joint + 3]
        np.testing.assert_allclose(pose[:, joint], wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rotation, by_hand(features, "rotation"), rtol=1e-4, atol=1e-4)
