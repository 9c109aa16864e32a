"""Settings of a prediction, and of the network that it opens."""

import dataclasses
from typing import Any

import pytest

from launch.cli import options
from launch.prediction import predict
from launch.prediction.predict import Predict
from launch.runs import settings
from mcss_jax import method
from mcss_jax.storage import loading
from tests.refusals import refused


def test_the_network_of_every_setting() -> None:
    config = options.build(
        settings.Train,
        depth=50,
        width=24,
        stem="patch4",
        embedding_dim=6,
        hidden=7,
        precision="bfloat16",
        dataset="x",
    )
    assert loading.network_of(dataclasses.asdict(config), "config.json") == settings.method_of(config).network
    assert loading.network_of({"seed": 3}, "config.json") == method.Network()


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"source": ""}, ("--source",)),
        ({"output": ""}, ("--output",)),
        ({"batch": 0}, ("--batch=0", "1 to 256")),
        ({"batch": 257}, ("--batch=257", "1 to 256")),
        ({"every": 0}, ("--every=0", "1 to 1,000,000")),
        ({"margin": -0.1}, ("--margin=-0.1", "share")),
    ],
)
def test_settings_that_make_no_sense(change: dict[str, Any], facts: tuple[str, ...]) -> None:
    with refused(*facts):
        predict.check(dataclasses.replace(Predict(source="a", output="b"), **change))
