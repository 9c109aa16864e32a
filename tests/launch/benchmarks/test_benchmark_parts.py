"""Counts, ceilings, records, comparisons, plots and processes of the benchmark, on constructed figures."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from PIL import Image

from launch.benchmarks import compiling, plot, records, roofline, settings, steps
from launch.benchmarks import scaling as benchmark_scaling
from launch.benchmarks.flops import multiplications
from launch.benchmarks.roofline import Ceilings, Cost
from launch.benchmarks.settings import Benchmark
from launch.benchmarks.timing import Row, Timing
from launch.cli import compilation_cache, cpu, flags, options
from mcss_jax.errors import UserError
from mcss_jax.method import Network
from tests.refusals import refused


@pytest.mark.parametrize(
    ("depth", "size", "giga", "training"),
    [(18, 224, 1.814, 10.65), (50, 224, 4.087, 24.29)],
)
def test_multiplications_are_those_of_the_networks(
    depth: Any, size: int, giga: float, training: float
) -> None:
    actual = multiplications(Network(depth=depth), size)
    assert actual.forward / 1e9 == pytest.approx(
        giga, abs=2e-3
    )  # docs/method.md#cost-of-one-step leaves the heads out
    assert actual.training_flop / 1e9 == pytest.approx(training, abs=1e-2)


def test_a_patch_stem_is_one_product_a_patch() -> None:
    actual = multiplications(Network(width=16, stem="patch8"), 64)
    assert actual.stem == (64 // 8) ** 2 * (8 * 8 * 3) * 16


def test_the_compiler_counts_a_product() -> None:
    x = jnp.ones((64, 32)), jnp.ones((32, 16))
    actual = roofline.cost(jax.jit(jnp.matmul), *x)
    assert actual.flop == 2 * 64 * 32 * 16
    assert actual.bytes == actual.memory_bytes == 4 * (64 * 32 + 32 * 16 + 64 * 16)
    assert actual.compile_s > 0


def test_utilisation_is_of_the_model_and_the_roofline_of_what_is_slower() -> None:
    limit = Ceilings({"float32": 100.0, "bfloat16": 400.0}, 10.0, [])
    timing = Timing((2.0, 2.0), 0.0)
    bound_by_flop = roofline.figures(Cost(1, 1, 5e6, 3), timing, 120.0, limit, "float32", 2)
    assert bound_by_flop["model_flop_utilisation"] == pytest.approx(0.6) == bound_by_flop["share_of_roofline"]
    assert bound_by_flop["compiled_flop"] == 2 and bound_by_flop["program_memory_MB"] == 5
    bound_by_bytes = roofline.figures(Cost(1, 8, 0, 3), timing, 120.0, limit, "bfloat16", 2)
    assert bound_by_bytes["model_flop_utilisation"] == pytest.approx(0.15)
    assert bound_by_bytes["share_of_roofline"] == pytest.approx(16 / 10 / 2)


def test_ceilings_of_host_devices_are_not_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "ON_CPU", (8, 16))
    actual = roofline.ceilings(jax.local_devices(), 2)
    assert [(row.name, row.work, row.unit) for row in actual.rows] == [
        ("ceiling, float32", 2 * 8**3, "FLOP"),
        ("ceiling, bfloat16", 2 * 8**3, "FLOP"),
        ("ceiling, memory", 2 * 4 * 16, "bytes"),
    ]
    assert actual.flop["float32"] == actual.rows[0].work / actual.rows[0].timing.median_s


def test_peak_memory_is_the_largest_and_absent_where_no_device_tells() -> None:
    class Device:
        def __init__(self, stats: Any) -> None:
            self.memory_stats = lambda: stats

    told: Any = [Device({"peak_bytes_in_use": 2e6}), Device({"peak_bytes_in_use": 3e6}), Device(None)]
    assert roofline.peak_memory(told) == {"peak_device_memory_MB": 3.0}
    assert roofline.peak_memory([*told[2:]]) == {}


def test_a_profile_leaves_a_trace_and_none_is_made_without_a_folder(tmp_path: Path) -> None:
    calls: list[int] = []
    steps.trace(lambda: calls.append(0), "")
    assert not calls
    steps.trace(lambda: calls.append(0), str(tmp_path), 2)
    assert len(calls) == 2 and list(tmp_path.rglob("*.xplane.pb"))


def record(rate: float, **changes: Any) -> dict[str, Any]:
    row = Row("step", Timing((100 / rate, 100 / rate), 1.0), 100, "images", {"images": 100.0})
    return records.records("step", [row], Benchmark())[0] | changes


def test_figures_are_kept_and_compared_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    records.append(str(file), [record(1.0), record(50.0)])
    before = records.read(str(file))
    assert before[0]["revision"] == records.provenance.revision()
    text = records.comparison([record(75.0), record(75.0, name="other")], before)
    assert "50          75       1.500" in text and "other" in text and "none" in text
    assert "warning" not in text
    changed = record(
        75.0, cores=-1, settings=options.values(options.build(Benchmark, width=8, output="elsewhere"))
    )
    text = records.comparison([changed], before)
    assert "warning: conditions differ" in text
    assert f"cores: {cpu.cores()} before, -1 now" in text and "--width: 64 before, 8 now" in text
    assert "--output" not in text


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--compare=nowhere: there is no such file"):
        records.read("nowhere")
    file = tmp_path / "figures.jsonl"
    for line, reason in (
        ("{}", "suite, name or per_second is missing"),
        ("7", "suite, name or per_second is missing"),
        ('["suite", "name", "per_second"]', "is missing"),
        ('{"suite": "a", "name": "b", "per_second": "1"}', "per_second is no number above 0"),
        ('{"suite": "a", "name": "b", "per_second": 1, "settings": 3}', "settings is no object"),
        ("\udcff", "Expecting"),
        ("{", "Expecting"),
    ):
        file.write_text(json.dumps(record(1.0)) + "\n" + line + "\n", errors="surrogateescape")
        with refused("2", "launch.benchmark", f"{reason}"):
            records.read(str(file))


def test_the_plot_has_a_panel_for_what_was_measured(tmp_path: Path) -> None:
    step = [record(50.0, images=n, image_size=s) for n, s in ((100.0, 64.0), (200.0, 64.0), (100.0, 128.0))]
    scaling = [
        record(50.0, suite="scaling", images=100.0 * n, devices_used=n, processes=p)
        for n, p in ((1, 1), (2, 1), (2, 2), (4, 2))
    ]
    file = tmp_path / "plot.png"

    def width(*actual: dict[str, Any]) -> int:
        plot.draw(actual, str(file))
        with Image.open(file) as picture:
            return picture.width

    assert width(*step, *scaling) > 2 * width(*scaling)
    with pytest.raises(UserError, match="--plot draws figures of the suites step and scaling; name one"):
        plot.draw([record(1.0, suite="loss")], str(file))


def fake(config: Benchmark, size: int, limit: Any) -> Row:
    """Takes half as long again on two devices as one device does for the same work."""
    assert (
        config.batch.labelled_batch == 64 * config.devices.count
        and config.batch.blocks == 4 * config.devices.count
    )
    seconds = {1: 1.0, 2: 3.0}[config.devices.count]
    figures = {
        "images": 100.0 * config.devices.count,
        "image_size": float(size),
        "images_per_second_per_device": 1.0,
    }
    return Row("step", Timing((seconds,), 0.0), 100.0 * config.devices.count, "images", figures)


def test_overhead_is_the_time_beyond_the_same_work_on_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_scaling, "measure", fake)
    monkeypatch.setattr(roofline, "ON_CPU", (8, 16))
    rows = benchmark_scaling.scaling_rows(options.build(Benchmark, scaling_devices="1,2"))
    assert [row.figures["overhead_beyond_compute"] for row in rows] == pytest.approx([0.0, 0.5])
    assert rows[1].name == "scaling, 1 x 2 devices, 200 images"
    monkeypatch.setattr(benchmark_scaling.jax, "default_backend", lambda: "gpu")
    rows = benchmark_scaling.scaling_rows(options.build(Benchmark, scaling_devices="1,2"))
    assert [row.figures["efficiency"] for row in rows] == pytest.approx([1.0, 1 / 3 * 2 / 2])
    with refused("64", "4"):
        benchmark_scaling.counts_of(options.build(Benchmark, scaling_devices="1,64"))
    with refused("--scaling_devices=2,4", "1"):
        benchmark_scaling.counts_of(options.build(Benchmark, scaling_devices="2,4"))


CHILD = """
import json, os, sys
count = int(os.environ["XLA_FLAGS"].split("=")[1])
if sys.argv[2] == "0":
    row = {"images": 10.0 * count, "image_size": 64.0, "images_per_second_per_device": 1.0, "seconds": [1.0],
           "first_s": 2.0, "per_second": 10.0 * count}
    open(sys.argv[1], "w").write(json.dumps(row) + "\\n")
elif count > 4:
    sys.exit("no room")
"""


def test_more_host_devices_than_here_are_made_in_new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def commands(config: Benchmark, processes: int, output: Path) -> list[list[str]]:
        started.append((processes, config.batch.blocks))
        return [[sys.executable, "-c", CHILD, str(output), str(index)] for index in range(processes)]

    monkeypatch.setattr(benchmark_scaling, "commands", commands)
    rows = benchmark_scaling.scaling_rows(options.build(Benchmark, scaling_devices="1,8"))
    assert started == [(1, 4), (1, 32), (2, 32)]
    names = [row.name for row in rows]
    assert names == [
        f"scaling, {of} images" for of in ("1 x 1 devices, 10", "1 x 8 devices, 80", "2 x 4 devices, 40")
    ]
    with refused("2", "8"):
        benchmark_scaling.on_host_devices(Benchmark(), 8, 2)


def test_commands_carry_the_settings_of_the_run(tmp_path: Path) -> None:
    config = options.build(Benchmark, width=8, augment_flip=False, repeats=3, suite="scaling")
    (alone,) = benchmark_scaling.commands(config, 1, tmp_path / "a")
    assert alone[1:] == [
        "-m", "launch.benchmark", "--suite=step", "--repeats=3", "--width=8", "--noaugment_flip",
        f"--output={tmp_path / 'a'}",
    ]  # fmt: skip
    both = benchmark_scaling.commands(config, 2, tmp_path / "a")
    assert [command[-1] for command in both] == ["--process_id=0", "--process_id=1"]
    assert both[0][-3:-1] == both[1][-3:-1] and both[0][-3].startswith("--coordinator_address=127.0.0.1:")
    parsed = flags.flags.FlagValues()
    flags.define(Benchmark, parsed)
    parsed(["", *both[0][3:]])
    assert flags.parsed(Benchmark, parsed).augmentation.flip is False


START = """
import pathlib, sys, os
folder = pathlib.Path(dict(a.split("=") for a in sys.argv[1:])["--workdir"])
cache = pathlib.Path(os.environ["XDG_CACHE_HOME"])
print("cold" if not cache.exists() else "warm")
assert "JAX_COMPILATION_CACHE_DIR" not in os.environ and {"--stop_after=1", "--validate_every=0"} <= set(sys.argv)
cache.mkdir(exist_ok=True)
folder.mkdir()
(folder / "metrics.jsonl").write_text("{}")
"""


def test_starts_are_timed_to_their_first_log_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    cold, warm = compiling.compile_rows(options.build(Benchmark, repeats=2), (sys.executable, "-c", START))
    assert len(cold.timing.seconds) == 1 and len(warm.timing.seconds) == 2 and min(warm.timing.seconds) > 0
    failing = (sys.executable, "-c", "print('one'); raise SystemExit('no data here')")
    with pytest.raises(UserError, match="to be timed ended with exit code 1: no data here"):
        compiling.first_update(failing, os.environ, tmp_path)
    with pytest.raises(RuntimeError, match="to be timed ended with exit code 0: nothing was said"):
        compiling.first_update((sys.executable, "-c", ""), os.environ, tmp_path)
    defective = (sys.executable, "-c", "print('a fault', flush=True); raise SystemExit(2)")
    with pytest.raises(RuntimeError, match="to be timed ended with exit code 2: a fault"):
        compiling.first_update(defective, os.environ, tmp_path)


def test_the_compilation_cache_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation_cache.private_folder()
    assert folder.is_relative_to(tmp_path) and stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o750)
    with pytest.raises(UserError, match="is open to other users; expected mode 0700"):
        compilation_cache.private_folder()


def test_the_oldest_of_the_cache_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate("abc"):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compilation_cache.trim(tmp_path, 20)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


USE = """
import jax
from launch.cli import flags
flags._use_cache()
print(jax.config.jax_compilation_cache_dir)
"""


def test_programs_use_the_private_cache_unless_told_otherwise(tmp_path: Path) -> None:
    def said(**environment: str) -> tuple[str, str]:
        done = subprocess.run(
            (sys.executable, "-c", USE),
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip(), done.stderr

    actual, _ = said(XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert Path(actual).is_relative_to(tmp_path / "cache") and Path(actual).is_dir()
    assert said(JAX_COMPILATION_CACHE_DIR=str(tmp_path))[0] == str(tmp_path)
    (tmp_path / "file").touch()
    actual, error = said(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert actual == "None" and error.startswith("without a compilation cache: ")


def test_settings_that_cannot_be_measured_are_refused() -> None:
    for changes, message in (
        ({"repeats": 0}, "--repeats=0; expected at least 1"),
        ({"updates": 0}, "--updates=0; expected at least 1"),
        ({"loss_pairs": 0}, "--loss_pairs=0; expected at least 1"),
        ({"sweep_size": "64,big"}, "--sweep_size=64,big; expected integers above 0, separated by commas"),
        ({"scaling_devices": "0"}, "--scaling_devices=0; expected integers above 0"),
        ({"sweep_batch": ""}, "--sweep_batch is empty; expected at least one multiple"),
    ):
        with pytest.raises(UserError, match=message):
            settings.check_benchmark(options.build(Benchmark, **changes))
