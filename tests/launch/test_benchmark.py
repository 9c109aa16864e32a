"""The benchmark's rows, files and refusals; and that the PyTorch step is the JAX step."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch import benchmark, benchmark_metrics, benchmark_prepare, benchmark_torch, settings, timing
from mcss_jax import train_step
from mcss_jax.method import PoseNetwork
from tests.mcss_jax import steps

SMALL: dict[str, Any] = {
    "image_size": 32, "width": 8, "stem": "patch8", "embedding_dim": 8, "hidden": 8,
    "labelled_batch": 8, "blocks": 1, "sequences": 2, "instants": 4, "repeats": 2,
}  # fmt: skip


def test_programs_run_in_turn_after_one_untimed_call() -> None:
    calls: list[str] = []
    found = timing.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert len(found["a"].seconds) == 3 and min(found["a"].seconds) > 0


def test_rows_say_median_spread_and_rate() -> None:
    fast, slow = timing.Timing((0.1, 0.3, 0.2), 5.0), timing.Timing((0.4, 0.3, 0.6), 1.0)
    assert fast.ratio_to(slow) == pytest.approx(3.0)
    row = timing.Row("fast", fast, 10, "images", {"other": 2.0})
    assert row.figures_of() == {
        "name": "fast", "median_s": 0.2, "min_s": 0.1, "max_s": 0.3, "repeats": 3, "first_s": 5.0,
        "unit": "images", "per_second": 50.0, "other": 2.0,
    }  # fmt: skip
    assert "200.00    100.00    300.00            50 images\n  other: 2" in timing.table([row])


def test_a_suite_prints_a_table_and_appends_lines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "figures.jsonl"
    file.write_text("{}\n")
    with steps.two_blocks():
        benchmark.main(benchmark.Benchmark(suite="step", output=str(file), **SMALL))
    assert "step ResNet-18/8 patch8 32px" in capsys.readouterr().out
    _, line = map(json.loads, file.read_text().splitlines())
    assert line["suite"] == "step" and line["repeats"] == 2 and line["unit"] == "images"
    assert line["per_second"] == pytest.approx(24 / line["median_s"])
    assert line["settings"]["width"] == 8 and line["versions"]["jax"] == jax.__version__
    assert line["platform"] == "cpu" and line["devices"] == jax.device_count()


def test_prepare_cuts_every_fifth_frame_of_generated_video() -> None:
    rows = {
        row.name: row for row in benchmark_prepare.prepare_rows(1, frames=11, workers=1, size=32, side=200)
    }
    found, given = rows["prepare, found boxes"], rows["prepare, given boxes"]
    assert found.work == given.work == 2 * 4 * 11 and found.unit == "source frames"
    figures = found.figures
    assert figures["frames_per_second_per_process"] == pytest.approx(88 / found.timing.median_s)
    assert figures["processes"] == 1 and 0 < figures["peak_memory_of_a_process_MB"] < 1500
    assert rows["decoding alone, one thread"].work == 11


def test_metrics_and_retrieval_are_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = {row.name: row for row in benchmark_metrics.metrics_rows(1, n=64)}
    assert rows["pa_mpjpe"].figures["largest_difference_mm"] < 0.1 and rows["mpjpe"].work == 64
    names = [row.name for row in benchmark_metrics.retrieval_rows(1, n=64, dim=8, k=3)]
    assert names == ["nearest", "oracle"]
    assert {"metrics", "retrieval"} < set(benchmark.SUITES)


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match=r"--suite names 'stride'; expected some of step, render, prepare, input"
    ):
        benchmark.main(benchmark.Benchmark(suite="step,stride"))
    with pytest.raises(ValueError, match="--repeats=0; expected at least 1"):
        benchmark.main(benchmark.Benchmark(repeats=0))
    with pytest.raises((ValueError, OSError), match="launch.prepare"):
        benchmark.main(benchmark.Benchmark(suite="input", data_dir="nowhere"))
    with pytest.raises(ValueError, match="comparison is of the joint step"):
        benchmark_torch.main(benchmark_torch.Comparison(method="baseline"))


def test_without_pytorch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "launch.torch_step", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match=r"needs PyTorch, .* `.venv/bin/pip install torch`"):
        benchmark_torch.torch_step()


@pytest.fixture
def torch_step() -> Any:
    pytest.importorskip("torch", reason="PyTorch, an extra of launch.benchmark_torch, is not installed")
    return benchmark_torch.torch_step()


@pytest.mark.parametrize(
    ("depth", "stem", "train"), [(18, "conv", True), (50, "patch8", False), (18, "patch4", True)]
)
def test_the_networks_agree(torch_step: Any, depth: int, stem: str, train: bool) -> None:
    import torch

    method = dataclasses.replace(
        steps.TINY, network=dataclasses.replace(steps.TINY.network, depth=depth, stem=stem, layers=2)
    )
    images = np.random.default_rng(0).normal(size=(4, 64, 64, 3)).astype(np.float32)
    with steps.two_blocks():
        state = steps.make_state(method)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        network = torch_step.PoseNetwork(method.network)
        apply = jax.jit(PoseNetwork(method.network).apply, static_argnums=2, static_argnames="mutable")
        out = apply(variables, images, train, mutable=("batch_stats",))[0]
    torch_step.load(network, variables)
    with torch.no_grad():
        found = network.train(train)(torch.tensor(images).permute(0, 3, 1, 2))
    for ours, theirs in zip(out, found, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_the_losses_agree(torch_step: Any) -> None:
    plain = {f"augment_{name}": 0.0 for name in ("scale", "shift", "colour", "occlusion")}
    small = {name: value for name, value in SMALL.items() if name != "repeats"}
    config = settings.Train(**small, **plain, augment_flip=False, temperature_start=0.2)
    batch = benchmark.random_batch(config, 32)
    statistics = benchmark.statistics()
    with steps.two_blocks():
        state = steps.make_state(settings.method_of(config)).replace(statistics=statistics)
        _, report = jax.jit(train_step.train_step)(state, batch, jax.random.key(0))
        step = torch_step.Step(config, batch, statistics)
    torch_step.load(step.network, {"params": state.params, "batch_stats": state.batch_stats})
    assert step.loss().item() == pytest.approx(float(report["loss"]), abs=1e-4)
    before = [step() for _ in range(8)]
    assert before[-1] < before[0]
