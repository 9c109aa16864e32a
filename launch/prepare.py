"""Prepares a data set of multi-view tuples: synthetic people, your own synchronised recordings, or what the owners of
Human3.6M and MPI-INF-3DHP distribute.

    python -m launch.prepare --dataset=synthetic_multiview/demo --data_dir=data
    python -m launch.prepare --dataset=multiview_video --source=DIR --data_dir=data
    python -m launch.prepare --dataset=human36m --source=DIR --data_dir=data

A set that is there already is named and left alone. Ctrl-C leaves nothing behind, but for the finished sequences of a
distribution: the same command goes on from there.
"""

import contextlib
import signal
import sys
import warnings
from collections.abc import Iterator

from absl import logging

from launch.cli import flags, progress
from launch.preparation.prepare import inspect, prepare, take_inventory
from launch.preparation.settings import Prepare

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Warnings without the line of code that gave them; of the libraries' logs, errors only.

    TFDS logs every step, and warns of each data set that it does not know.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: progress.say(f"warning: {message}", sys.stderr)
        logging.set_verbosity(logging.ERROR)
        yield


def _interrupt(*_: object) -> None:
    # Once is enough: what is being cleaned up shall not be stopped in the middle.
    for name in STOPPING:
        signal.signal(name, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(config: Prepare) -> None:
    """Prepares or inspects; SIGTERM and a closed terminal are taken like Ctrl-C."""
    for name in STOPPING:
        signal.signal(name, _interrupt)
    try:
        with _sentences():
            if config.inventory:
                take_inventory(config)
            elif config.inspect:
                inspect(config)
            else:
                prepare(config)
    except KeyboardInterrupt:
        progress.say("stopped; nothing half-made was left behind", sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    flags.run(Prepare, "launch.prepare", __doc__ or "", main)
