"""Real refusals of XLA's, of more memory than any machine can address, are one sentence."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from launch import train as train_program
from launch.cli import out_of_memory
from launch.evaluation.evaluate import Evaluate
from launch.interchange.import_weights import ImportWeights
from launch.reports.report import Report
from launch.runs import metric_log, run_folder
from launch.runs.settings import Train
from launch.training import train
from tests.launch import command_line
from tests.mcss_jax.steps import two_blocks

ABSURD = (1 << 29, 1 << 29)


def take(shape: tuple[int, ...]) -> None:
    jax.block_until_ready(jnp.zeros(shape, jnp.uint8))


@pytest.mark.parametrize(
    ("config", "arguments", "lower"),
    [
        (Evaluate, [], "lower --batch, or use a device with more"),
        (
            Train,
            [],
            "lower --image_size or --labelled_batch or --blocks or --width, or use a device with more",
        ),
        (Train, ["--method=baseline"], "lower --image_size or --labelled_batch or --width, or use"),
        (Train, ["--stream"], "lower --stream_size or --labelled_batch or --blocks or --width, or use"),
        (Report, [], "use a device with more$"),
    ],
)
def test_what_to_lower(
    config: type, arguments: list[str], lower: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = rf"^thing: error: out of device memory \(Out of memory [^\n]*\); {lower}"
    with pytest.raises(SystemExit, match=message) as left:
        command_line.run(monkeypatch, config, lambda _: take(ABSURD), *arguments)
    assert isinstance(left.value.code, str)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ("RESOURCE_EXHAUSTED", ""),
        ("INTERNAL: RESOURCE_EXHAUSTED: ", ""),
        ("RESOURCE_EXHAUSTED while loading.\nTables", r" \(while loading\)"),
        ("RESOURCE_EXHAUSTED: no room.", r" \(no room\)"),
    ],
)
def test_jax_may_say_little(report: str, reason: str) -> None:
    error = jax.errors.JaxRuntimeError(report)
    assert out_of_memory.exhausted(error)
    assert re.match(f"out of device memory{reason}; lower --batch", out_of_memory.sentence(error, Evaluate()))


def test_on_an_accelerator_the_processor_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    report = (
        "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.0G of 15.5G hbm.\nTotal usage"
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert out_of_memory.sentence(jax.errors.JaxRuntimeError(report), Evaluate()) == (
        "out of device memory (Ran out of memory in memory space hbm. Used 20.0G of 15.5G hbm); lower --batch, or use "
        "a device with more, or the processor: JAX_PLATFORMS=cpu"
    )


def test_other_errors_of_jax_are_not_explained_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(config: ImportWeights) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: no")

    with pytest.raises(SystemExit) as actual:
        command_line.run(monkeypatch, ImportWeights, main)
    assert actual.value.code == 2 and "JaxRuntimeError: INTERNAL: no" in capsys.readouterr().err


def narrow_step(method: Any, kind: str, devices: Any, accumulate: int) -> Callable:
    """A step that has room for four labelled pictures at a time."""

    def step(state: Any, batch: Any, rng: jax.Array) -> Any:
        rows = len(batch.labelled.images)
        take(ABSURD if rows // accumulate > 4 else (1,))
        report = dict.fromkeys(("loss", "gradient_norm", "embedding_variance"), jnp.ones(()))
        return state, report

    return step


def test_training_names_what_fits_and_takes_it_in_the_same_folder(
    prepared_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.parallel, "mapped_step", narrow_step)
    folder = tmp_path / "run"
    flags = [
        f"--workdir={folder}", f"--data_dir={prepared_tiny}", "--dataset=synthetic_multiview/tiny", "--stem=patch8",
        "--labelled=S1:0.5", "--labelled_batch=8", "--blocks=2", "--sequences=2", "--instants=2", "--width=8",
        "--embedding_dim=8", "--hidden=8", "--steps=2", "--warmup_steps=1", "--validate_every=0", "--log_every=1",
    ]  # fmt: skip
    advice = (
        "with 8 labelled and 8 unlabelled samples in the batch; what fits is --labelled_batch=4 --blocks=1, "
        "or the whole batch with --accumulate=2$"
    )
    with two_blocks():
        with pytest.raises(SystemExit, match=advice):
            command_line.run(monkeypatch, Train, train_program.main, *flags)
        command_line.run(monkeypatch, Train, train_program.main, *flags, "--labelled_batch=4", "--blocks=1")
    stored = json.loads((folder / run_folder.CONFIG).read_text())
    assert (stored["batch"]["labelled_batch"], stored["batch"]["blocks"]) == (4, 1)
    assert [record["step"] for record in metric_log.read(folder)] == [1, 2]
