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
