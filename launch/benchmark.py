"""How fast this machine does what the project does, and how close that is to what it can do.

    python -m launch.benchmark --suite=step,loss --output=figures.jsonl

step       training steps on a synthetic batch that lies on the devices (network, batch and so on: the flags of train),
           also of multiples of the batch and of other image sizes; ceilings of the machine, measured on the spot
input      the host's input pipeline alone, on the prepared data set that --dataset names
train      both as training runs them, and the share of time that the step waits for input
loss       mining and the triplet loss alone, forward and backward, beside a step
retrieval  nearest neighbours and the oracle
metrics    pose errors of many poses
prepare    generated videos to shards, as launch.prepare cuts a distribution (at most 5 repetitions)
render     pictures of synthetic people
scaling    the same batch per device on 1, 2, 4, ... devices; on a CPU the overhead of host devices and processes
compile    from the start of a training to its first update, with an empty and with a warm compilation cache
"""

from launch.benchmarks import plot, records
from launch.benchmarks.settings import Benchmark, check_benchmark
from launch.benchmarks.suites import SUITES
from launch.benchmarks.timing import table
from launch.cli import flags
from launch.runs import hosts
from mcss_jax.errors import UserError


def main(config: Benchmark) -> None:
    """Runs the suites in the order given. Raises UserError for an unknown one before any is run."""
    check_benchmark(config)
    names = config.suite.split(",")
    for name in names:
        if name not in SUITES:
            raise UserError(f"--suite names {name!r}; expected some of {', '.join(SUITES)}")
    if config.plot:
        plot.check_name(config.plot)
    before = records.read(config.compare) if config.compare else []
    hosts.initialise(config)
    measured = []
    for name in names:
        rows = SUITES[name](config)
        if not hosts.first():
            continue
        print(table(rows), flush=True)
        suite_records = records.records(name, rows, config)
        if config.output:
            records.append(config.output, suite_records)
        if config.compare:
            print(records.comparison(suite_records, before), flush=True)
        measured += suite_records
    if config.plot and hosts.first():
        plot.draw(measured, config.plot)


if __name__ == "__main__":
    flags.run(Benchmark, "launch.benchmark", __doc__ or "", main)
