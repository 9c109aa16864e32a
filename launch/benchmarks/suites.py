"""The suites of the benchmark, by name."""

from collections.abc import Callable

from launch.benchmarks import compiling, inputs, loss, metrics, preparing, scaling, steps
from launch.benchmarks.settings import Benchmark
from launch.benchmarks.timing import Row

SUITES: dict[str, Callable[[Benchmark], list[Row]]] = {
    "step": steps.step_rows,
    "input": inputs.input_rows,
    "train": inputs.train_rows,
    "loss": loss.loss_rows,
    "retrieval": lambda config: metrics.retrieval_rows(config.repeats),
    "metrics": lambda config: metrics.metrics_rows(config.repeats),
    "prepare": lambda config: preparing.prepare_rows(min(config.repeats, 5)),
    "render": inputs.render_rows,
    "scaling": scaling.scaling_rows,
    "compile": compiling.compile_rows,
}
