"""The benchmark's rows, files and refusals; and that the PyTorch step is the JAX step."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from launch import benchmark as benchmark_program
from launch import benchmark_torch as benchmark_torch_program
from launch.benchmarks import batch as benchmark_batch
from launch.benchmarks import inputs, metrics, preparing, roofline, suites, timing, torch_comparison
from launch.benchmarks import loss as benchmark_loss
from launch.cli import options
from launch.runs import settings
from mcss_jax.errors import UserError
from mcss_jax.networks.pose_network import PoseNetwork
from mcss_jax.training import train_step
from tests.mcss_jax import steps
from tests.refusals import refused

SMALL: dict[str, Any] = {
    "image_size": 32, "width": 8, "stem": "patch8", "embedding_dim": 8, "hidden": 8,
    "labelled_batch": 8, "blocks": 1, "sequences": 2, "instants": 4, "repeats": 2,
}  # fmt: skip


def test_programs_run_in_turn_after_one_untimed_call() -> None:
    calls: list[str] = []
    actual = timing.in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert len(actual["a"].seconds) == 3 and min(actual["a"].seconds) > 0


def test_rows_say_median_spread_and_rate() -> None:
    fast, slow = timing.Timing((0.1, 0.3, 0.2), 5.0), timing.Timing((0.4, 0.3, 0.6), 1.0)
    assert fast.ratio_to(slow) == pytest.approx(3.0)
    row = timing.Row("fast", fast, 10, "images", {"other": 2.0})
    assert row.figures_of() == {
        "name": "fast", "median_s": 0.2, "min_s": 0.1, "quartile_1_s": pytest.approx(0.15),
        "quartile_3_s": pytest.approx(0.25), "max_s": 0.3, "repeats": 3, "seconds": (0.1, 0.3, 0.2), "first_s": 5.0,
        "unit": "images", "per_second": 50.0, "other": 2.0,
    }  # fmt: skip
    assert "200.00    100.00    300.00            50 images\n  other: 2" in timing.table([row])


@pytest.fixture
def small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "ON_CPU", (64, 1024))


@pytest.mark.usefixtures("small_ceilings")
def test_a_suite_prints_a_table_and_appends_lines(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file, plot = tmp_path / "figures.jsonl", tmp_path / "plot.png"
    file.write_text("")
    config = options.build(
        suites.Benchmark,
        suite="step",
        output=str(file),
        plot=str(plot),
        compare=str(file),
        devices=1,
        **SMALL,
    )
    with steps.two_blocks():
        benchmark_program.main(config)
    out = capsys.readouterr().out
    assert "step ResNet-18/8 patch8 32px, 24 images, float32" in out and "model_flop_utilisation" in out
    assert "now/before" in out and plot.stat().st_size > 1000
    line, *ceilings = map(json.loads, file.read_text().splitlines())
    assert line["suite"] == "step" and line["repeats"] == 2 and line["unit"] == "images"
    assert line["per_second"] == pytest.approx(24 / line["median_s"])
    assert line["pairs_per_second"] == pytest.approx(8 / line["median_s"])
    assert line["settings"]["width"] == 8 and line["versions"]["jax"] == jax.__version__
    assert line["platform"] == "cpu" and line["devices"] == jax.device_count() and line["devices_used"] == 1
    assert 0 < line["model_flop_utilisation"] < line["share_of_roofline"] and line["compiled_bytes"] > 0
    assert line["program_memory_MB"] > 0 and line["compile_s"] > 0
    assert [one["name"] for one in ceilings] == ["ceiling, float32", "ceiling, bfloat16", "ceiling, memory"]


def test_training_is_timed_with_its_input(prepared_tiny: Path) -> None:
    small = {name: value for name, value in SMALL.items() if name not in ("image_size", "instants")}
    config = options.build(suites.Benchmark, 
        dataset="synthetic_multiview/tiny", data_dir=str(prepared_tiny), updates=1, devices=1, instants=2,
        **small,
    )  # fmt: skip
    with steps.two_blocks():
        (row,) = inputs.train_rows(config)
    assert row.work == 8 + 2 * 2 * 2 and row.figures["pairs_per_second"] == pytest.approx(
        4 / row.timing.median_s
    )
    assert 0 <= row.figures["input_wait_share"] <= 1
    assert row.figures["input_wait_ms_per_update"] == pytest.approx(
        1e3 * row.figures["input_wait_share"] * sum(row.timing.seconds) / 2
    )
    (row,) = inputs.input_rows(config)
    assert row.work == 16 and row.name == "input 64px"


def test_the_loss_is_a_share_of_a_step_of_as_many_images() -> None:
    with steps.two_blocks():
        loss, step = benchmark_loss.loss_rows(
            options.build(suites.Benchmark, loss_pairs=32, devices=1, **SMALL)
        )
    per_image = step.timing.median_s / 24
    assert loss.figures["share_of_a_step_of_its_images"] == pytest.approx(
        loss.timing.median_s / 64 / per_image
    )
    assert loss.figures["share_of_a_step_of_one_image_a_pair"] == pytest.approx(
        2 * loss.figures["share_of_a_step_of_its_images"]
    )
    assert loss.work == 32 and loss.unit == "pairs"


def test_pairs_of_the_loss_have_negatives_in_their_group() -> None:
    instants = benchmark_loss.instants_of(256)
    assert len(np.unique(instants.group)) == 16 and len(np.unique(instants.sequence)) == 128
    assert np.asarray(instants.time)[:4].tolist() == [0.0, 0.5, 0.0, 0.5]


def test_prepare_cuts_every_fifth_frame_of_generated_video() -> None:
    rows = {row.name: row for row in preparing.prepare_rows(1, frames=11, workers=1, size=32, side=200)}
    actual, given = rows["prepare, found boxes"], rows["prepare, given boxes"]
    assert actual.work == given.work == 2 * 4 * 11 and actual.unit == "source frames"
    figures = actual.figures
    assert figures["frames_per_second_per_process"] == pytest.approx(88 / actual.timing.median_s)
    assert figures["processes"] == 1 and 0 < figures["peak_memory_of_a_process_MB"] < 1500
    assert rows["decoding alone, one thread"].work == 11


def test_metrics_and_retrieval_are_suites(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = {row.name: row for row in metrics.metrics_rows(1, n=64)}
    assert rows["pa_mpjpe"].figures["largest_difference_mm"] < 0.1 and rows["mpjpe"].work == 64
    names = [row.name for row in metrics.retrieval_rows(1, n=64, dim=8, k=3)]
    assert names == ["nearest", "oracle"]
    assert {"metrics", "retrieval"} < set(suites.SUITES)


def test_refusals() -> None:
    with refused("--suite", "'stride'"):
        benchmark_program.main(options.build(suites.Benchmark, suite="step,stride"))
    with refused("--repeats=0", "1"):
        benchmark_program.main(options.build(suites.Benchmark, repeats=0))
    with pytest.raises((ValueError, OSError), match="launch.prepare"):
        benchmark_program.main(options.build(suites.Benchmark, suite="input", data_dir="nowhere"))
    with pytest.raises(UserError, match="comparison is of the joint step"):
        benchmark_torch_program.main(options.build(torch_comparison.Comparison, method="baseline"))
    with refused("--repeats=0", "1"):
        benchmark_torch_program.main(options.build(torch_comparison.Comparison, repeats=0))


def test_without_pytorch_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "launch.benchmarks.torch_step", raising=False)
    monkeypatch.delattr("launch.benchmarks.torch_step", raising=False)  # what another test has imported
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"needs PyTorch, .* `.venv/bin/pip install torch`"):
        torch_comparison.torch_step()


@pytest.fixture
def torch_step() -> Any:
    pytest.importorskip("torch", reason="PyTorch, an extra of launch.benchmark_torch, is not installed")
    return torch_comparison.torch_step()


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
        variables = state.variables
        network = torch_step.PoseNetwork(method.network)
        apply = jax.jit(PoseNetwork(method.network).apply, static_argnums=2, static_argnames="mutable")
        out = apply(variables, images, train, mutable=("batch_stats",))[0]
    torch_step.load(network, variables)
    with torch.no_grad():
        actual = network.train(train)(torch.tensor(images).permute(0, 3, 1, 2))
    for ours, theirs in zip(out, actual, strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-4)


def test_the_losses_agree(torch_step: Any) -> None:
    plain = {f"augment_{name}": 0.0 for name in ("scale", "shift", "colour", "occlusion")}
    small = {name: value for name, value in SMALL.items() if name != "repeats"}
    config = options.build(settings.Train, **small, **plain, augment_flip=False, temperature_start=0.2)
    batch = benchmark_batch.random_batch(config, 32)
    statistics = benchmark_batch.statistics()
    with steps.two_blocks():
        method = settings.method_of(config)
        state = dataclasses.replace(steps.make_state(method), statistics=statistics)
        _, report = jax.jit(train_step.train_step, static_argnums=0)(method, state, batch, jax.random.key(0))
        step = torch_step.Step(config, batch, statistics)
    torch_step.load(step.network, state.variables)
    assert step.loss().item() == pytest.approx(float(report["loss"]), abs=1e-4)
    before = [step() for _ in range(8)]
    assert before[-1] < before[0]


def test_both_steps_are_timed_in_turn(
    torch_step: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch_step.torch, "compile", lambda forward: lambda images: 1 / 0)
    file = tmp_path / "figures.jsonl"
    with steps.two_blocks():
        benchmark_torch_program.main(
            options.build(torch_comparison.Comparison, devices=1, output=str(file), **SMALL)
        )
    out = capsys.readouterr().out
    assert "without torch.compile, which does not work here: ZeroDivisionError" in out
    ours, theirs = map(json.loads, file.read_text().splitlines())
    assert ours["name"].startswith("JAX ResNet-18/8") and theirs["name"].startswith("PyTorch ResNet-18/8")
    ratios = [b / a for a, b in zip(ours["seconds"], theirs["seconds"], strict=True)]
    assert ours["rate_over_pytorch"] == pytest.approx(np.median(ratios)) and theirs["threads"] >= 1


def test_what_compiles_is_kept_beside_what_does_not(torch_step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Step:
        forward = staticmethod(lambda: 1)

        def __call__(self) -> int:
            return self.forward()

    eager: Any = Step()
    monkeypatch.setattr(torch_step.torch, "compile", lambda forward: lambda: 2)
    compiled, reason = torch_step.compiled(eager)
    assert (compiled(), eager(), reason) == (2, 1, "")


def test_the_device_is_that_of_jax(torch_step: Any) -> None:
    assert torch_step.choose_device("cpu") == "cpu"
    with pytest.raises(UserError, match="JAX runs on tpu, and this PyTorch has no such device"):
        torch_step.choose_device("tpu")


def test_the_fastest_number_of_threads_is_kept(torch_step: Any) -> None:
    import time

    before = torch_step.torch.get_num_threads()
    try:
        slow_with_one = lambda: time.sleep(0.01 if torch_step.torch.get_num_threads() == 1 else 0.0)  # noqa: E731
        assert torch_step.best_threads(slow_with_one, (1, 2)) == 2 == torch_step.torch.get_num_threads()
    finally:
        torch_step.torch.set_num_threads(before)
