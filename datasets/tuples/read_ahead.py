"""Batches made ahead of the training loop, in a thread in the background."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any


@dataclasses.dataclass
class Waiting:
    """Seconds the training loop spent waiting for input."""

    seconds: float = 0.0


def read_ahead(
    make: Callable[[int], Any],
    steps: Sequence[int] | range,
    depth: int = 2,
    waiting: Waiting | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """Yields (step, batch) in order, made `depth` steps ahead in a background thread.

    An error in the background is raised here, at its step. Closing the iterator stops the thread.
    """
    ready: queue.Queue[tuple[int, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[int, Any]) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        for step in steps:
            try:
                put((step, make(step)))
            except BaseException as error:
                return put((step, error))
            if stop.is_set():
                return

    thread = threading.Thread(target=work, name="read-ahead", daemon=True)
    thread.start()
    try:
        for _ in steps:
            start = time.perf_counter()
            step, batch = ready.get()
            if waiting is not None:
                waiting.seconds += time.perf_counter() - start
            if isinstance(batch, BaseException):
                raise batch
            yield step, batch
    finally:
        stop.set()
        thread.join()
