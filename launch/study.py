"""The supervision study: methods x label amounts x seeds on any prepared data set or stream.

    python -m launch.study --flagfile=launch/experiments/supervision_demo.flags
    python -m launch.study --flagfile=launch/experiments/supervision_demo.flags --judge=test

The same command again does what is left: a finished run is never redone, an interrupted one goes on where it was, a
failed one is tried again. Begun several times at once, on one machine or on several with a common file system, it
shares the runs out. Every choice is made on validation people; those of the test are read once, by the second
command, when every run of the grid is finished.

WORKDIR/runs/ holds the folders of the runs; results_JUDGE.jsonl, one line a run; summary_JUDGE.json, error_JUDGE.png
and ablations_JUDGE.png, what they say together. The exit code is 1 when runs failed, and 75 after SIGTERM or SIGUSR1:
to be started again.
"""

import sys

from launch.cli import flags
from launch.runs import stopping
from launch.studies.study import Study, study


def main(config: Study) -> None:
    """Runs the study; exits with `stopping.REQUEUE` when a scheduler's signal came, with 1 when runs failed."""
    ended = study(config)
    if ended.preempted:
        sys.exit(stopping.REQUEUE)
    if ended.failed:
        sys.exit(f"study: error: {ended.failed} runs failed, see above; the same command tries them again")


if __name__ == "__main__":
    flags.run(Study, "launch.study", __doc__ or "", main)
