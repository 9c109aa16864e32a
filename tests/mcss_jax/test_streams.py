"""Random streams of a seed: one for each purpose, the same for ever, and none of them another seed's."""

from typing import get_args

import jax
import numpy as np

from mcss_jax.streams import Purpose, stream


def test_purposes_and_seeds_share_nothing() -> None:
    streams = [stream(seed, purpose) for seed in range(50) for purpose in get_args(Purpose)]
    plain = [jax.random.key(seed) for seed in range(60)]
    data = {tuple(np.asarray(jax.random.key_data(key)).tolist()) for key in [*streams, *plain]}
    assert len(data) == len(streams) + len(plain)


def test_a_purpose_is_folded_in_by_the_crc_of_its_name() -> None:
    """By the numbers themselves: what a seed draws must not change again."""
    for purpose, crc in (("init", 3329549428), ("augment", 3944118809)):
        expected = jax.random.fold_in(jax.random.key(7), crc)
        assert jax.random.key_data(stream(7, purpose)).tolist() == jax.random.key_data(expected).tolist()
