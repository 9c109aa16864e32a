"""Trains an encoder and regressor on multi-view tuples: the supervised baseline, MCSS, or a control.

    python -m launch.train --flagfile=launch/experiments/sessions_mcss.flags --workdir=runs/mcss

The same command again resumes at the right step with the right batch. Ctrl-C saves and says where; so do SIGTERM and
SIGUSR1, after which the exit code is 75: to be started again. On several hosts the same command runs on each, all with
one --workdir that all can see; see "Devices and hosts".
"""

import sys

from launch.cli import flags, progress
from launch.runs import hosts, settings, stopping
from launch.training.train import train


def main(config: settings.Train) -> None:
    """Trains and names the folder; exits with `stopping.REQUEUE` when a scheduler's signal came before the end."""
    settings.check(config)
    hosts.initialise(config)
    trained = train(config)
    if trained.finished and hosts.first():
        progress.say(f"finished {trained.step} steps; the run is in {trained.folder}")
    if trained.preempted and not trained.finished:
        sys.exit(stopping.REQUEUE)


if __name__ == "__main__":
    flags.run(settings.Train, "launch.train", __doc__ or "", main)
