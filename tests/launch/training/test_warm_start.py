"""--init_from: what is taken over from imported weights and from another run, what is fresh, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest

from launch import import_weights as import_weights_program
from launch.cli import options
from launch.interchange import import_weights
from launch.interchange.import_weights import ImportWeights
from launch.runs import run_folder
from launch.runs.settings import Train
from launch.training import train, warm_start
from mcss_jax import method
from mcss_jax.errors import UserError
from mcss_jax.training.state import PoseStatistics, TrainState
from tests.launch.resnets import random_weights, save
from tests.mcss_jax.steps import poses, two_blocks

WIDTH = 8
STATISTICS = PoseStatistics(jax.numpy.asarray(poses(np.random.default_rng(0), 1)[0]), jax.numpy.asarray(2.0))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    with two_blocks():
        yield


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the import of a ResNet-18 made; its file lies beside it."""
    folder = tmp_path_factory.mktemp("imported")
    file = save(random_weights(18, WIDTH), folder / "w.safetensors")
    return import_weights.import_weights(
        ImportWeights(source=str(file), workdir=str(folder / "resnet18"), width=WIDTH)
    )


def test_an_import_is_whole_and_never_in_the_way(
    imported: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(path.name for path in imported.iterdir()) == ["card.json", "checkpoints", "config.json"]
    assert sorted(path.name for path in imported.parent.iterdir()) == ["resnet18", "w.safetensors"]
    config = ImportWeights(source=str(imported.parent / "w.safetensors"), workdir=str(imported), width=WIDTH)
    with pytest.raises(UserError, match=r"--workdir=.*resnet18 exists and is not empty; choose another"):
        import_weights.import_weights(config)
    monkeypatch.setattr(import_weights_program, "import_weights", lambda config: imported)
    import_weights_program.main(config)
    said = capsys.readouterr().out
    assert "imported ResNet-18 from w.safetensors, SHA-256 " in said and f"--init_from={imported}" in said


def test_imported_weights_are_no_trained_network(imported: Path) -> None:
    with pytest.raises(
        UserError, match="holds imported weights: .* head that nobody has trained; .*--init_from="
    ):
        run_folder.open_run(imported)


def test_the_encoder_is_taken_over_and_the_head_is_fresh(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = options.build(
        Train,
        workdir=str(tmp_path / "run"),
        init_from=str(imported),
        width=WIDTH,
        embedding_dim=8,
        hidden=8,
        seed=3,
    )
    state, card = warm_start.first_state(config, 32, STATISTICS)
    assert f"starts from the encoder of {imported} (step 0); embedding fresh" in capsys.readouterr().out
    fresh = run_folder.initial_state(config, 32, STATISTICS)
    weights = random_weights(18, WIDTH)
    encoder, statistics = state.params["encoder"], state.collections["batch_stats"]["encoder"]
    np.testing.assert_array_equal(
        encoder["layer2_0"]["downsample_conv"]["kernel"][0, 0],
        weights["layer2.0.downsample.0.weight"][..., 0, 0].T,
    )
    np.testing.assert_array_equal(encoder["bn1"]["bn"]["scale"], weights["bn1.weight"])
    np.testing.assert_array_equal(
        statistics["layer1_0"]["bn2"]["bn"]["var"], weights["layer1.0.bn2.running_var"]
    )
    rest = [
        (s.params["encoder"]["embedding"], s.params["regressor"], s.opt_state, s.step, s.statistics)
        for s in (state, fresh)
    ]
    jax.tree.map(np.testing.assert_array_equal, *rest)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    stated = card["init_from"]
    assert stated.pop("weights").startswith("ResNet-18 from w.safetensors, SHA-256 ")
    assert stated == {"folder": str(imported), "step": 0, "embedding": "fresh"}


def test_a_run_starts_from_another_and_resumes_without_it(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = run_folder.open_run(trained_run)
    config = options.replace(
        source.config, workdir=str(tmp_path / "run"), init_from=str(trained_run), seed=5, stop_after=1
    )
    begun = train.train(config)
    # The learning rate starts from zero: after one update the weights are those it began with.
    assert begun.step == 1
    jax.tree.map(np.testing.assert_array_equal, begun.state.params["encoder"], source.state.params["encoder"])
    kernels = [s.params["regressor"]["pose_out"]["kernel"] for s in (begun.state, source.state)]
    assert np.abs(np.asarray(kernels[0]) - kernels[1]).max() > 1e-3
    origin = {"init_from": json.loads((begun.folder / "card.json").read_text())["init_from"]}
    assert origin["init_from"] == {
        "folder": str(trained_run), "step": 3, "weights": source.card["dataset"], "embedding": "taken over"
    }  # fmt: skip

    def gone(config: Train) -> run_folder.Run:
        raise AssertionError("a resume must not read the weights it began with")

    monkeypatch.setattr(warm_start, "open_source", gone)
    assert warm_start.first_state(config, 64, STATISTICS).card == origin
    with pytest.raises(UserError, match="--init_from: '.*' before, '' now"):
        run_folder.claim(options.replace(config, init_from=""), {})


def test_an_embedding_of_another_length_or_of_nobodys_training_is_fresh() -> None:
    def state(value: float) -> TrainState:
        params = {"encoder": {"conv1": value, "embedding": value}, "regressor": value}
        variables = {"params": params, "batch_stats": {"encoder": value}}
        return TrainState(0, variables, None, STATISTICS, method.Network())

    def run(**card: str) -> run_folder.Run:
        return run_folder.Run(Train(), card, state(1.0), 3)

    assert warm_start.has_embedding(run(), Train())
    assert not warm_start.has_embedding(run(), options.build(Train, embedding_dim=5))
    assert not warm_start.has_embedding(run(imported="ResNet-18"), Train())
    for with_embedding, embedding in ((True, 1.0), (False, 0.0)):
        taken = warm_start.take_encoder(state(0.0), state(1.0), with_embedding)
        assert taken.params == {"encoder": {"conv1": 1.0, "embedding": embedding}, "regressor": 0.0}
        assert taken.collections == {"batch_stats": {"encoder": 1.0}}


def test_other_networks_and_other_folders_are_refused(trained_run: Path, tmp_path: Path) -> None:
    config = options.replace(
        run_folder.open_run(trained_run).config, init_from=str(trained_run), width=16, stem="conv"
    )
    with pytest.raises(
        UserError,
        match=r"another encoder than this run's \(--width=8 there, 16 here; --stem=patch8 there, conv here\); give",
    ):
        warm_start.open_source(config)
    with pytest.raises(UserError, match="is not the folder of a run .*import_weights --source=FILE.safetens"):
        warm_start.open_source(options.replace(config, init_from=str(tmp_path)))
