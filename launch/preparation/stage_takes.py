"""Cuts the takes of a distribution into their folders, shared out over processes.

Takes are independent; an archive is unpacked in one pass when its first take comes up, and what was unpacked
goes away with the last take that needs it. A run that is stopped goes on where it was.
"""

import contextlib
import ctypes
import dataclasses
import functools
import multiprocessing
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from datasets.distributions import originals, staged
from datasets.distributions.builder import UNPACKED
from datasets.distributions.takes import Take, by_archive
from launch.runs import staging
from mcss_jax.errors import UserError

POLL_SECONDS = 0.5

Report = Callable[[int], object]


class Stopped(Exception):
    """The run was stopped while a take was being cut."""


@dataclasses.dataclass(frozen=True)
class Work:
    """Takes to cut, how, and the folder of finished ones."""

    takes: tuple[Take, ...]
    cutting: staged.Cutting
    folder: Path

    @property
    def unpacked(self) -> Path:
        """Where members of archives are brought."""
        return self.folder / UNPACKED

    def folder_of(self, take: Take) -> Path:
        """Where a take lies when it is finished."""
        return staged.folder_of(take, self.cutting, self.folder)

    def done(self, take: Take) -> bool:
        """Whether a take is finished."""
        return staged.is_finished(self.folder_of(take))

    def unfinished(self) -> list[Take]:
        """The takes that are not finished."""
        return [take for take in self.takes if not self.done(take)]

    def opened(self, take: Take) -> staged.Staged:
        """A finished take."""
        return staged.open_staged(self.folder_of(take))

    def clean(self) -> None:
        """Removes all that is not a finished take; others' takes and this work's stay."""
        staged.sweep(self.folder)
        shutil.rmtree(self.unpacked, ignore_errors=True)

    def cut(self, take: Take, advance: Report) -> Path:
        """Finishes one take, whose archives have been unpacked."""
        locate = functools.partial(originals.locate, folder=self.unpacked)
        return staged.stage(take, self.cutting, self.folder, locate, advance)

    def unpack(self, files: Sequence[originals.File], advance: Report) -> None:
        """Brings files of one archive to where `cut` finds them; `advance` counts bytes."""
        originals.unpack(files, self.unpacked, progress=advance)


def run(work: Work, workers: int, advance: Report, tell: Callable[[str], object] = lambda text: None) -> None:
    """Finishes all takes of `work` with `workers` processes.

    `advance` counts decoded source frames, `tell` gets a sentence when an archive is unpacked. Raises UserError
    and OSError as `Take.read` and `cropping.cut` do, at the first take that fails; the finished ones stay.
    """
    work.clean()
    unfinished = work.unfinished()
    if not unfinished:
        return
    try:
        with _pool(min(workers, len(unfinished))) as pool:
            _schedule(work, unfinished, pool, advance, tell)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, probably for lack of memory; lower --workers, the same command goes on where it was"
        ) from error
    finally:
        work.clean()


def _schedule(
    work: Work, unfinished: list[Take], pool: "_Pool", advance: Report, tell: Callable[[str], object]
) -> None:
    """Keeps the pool busy: takes whose archives are unpacked, and the next archive ahead of them."""
    uses = Counter(file for take in unfinished for file in take.archived)
    archived, archives = by_archive(unfinished), {take.name: take.archives for take in unfinished}
    # Without the takes, which would travel to a process with every one of them.
    alone = dataclasses.replace(work, takes=())
    waiting, unpacked, unpacking = list(unfinished), set[str](), dict[Future, str]()
    cutting: dict[Future, Take] = {}
    while waiting or cutting or unpacking:
        ready = [take for take in waiting if archives[take.name] <= unpacked]
        for take in ready[: 2 * pool.workers - len(cutting)]:
            waiting.remove(take)
            cutting[pool.submit(alone.cut, take, _count_frames)] = take
        if waiting and len(ready) < 2 * pool.workers and not unpacking:
            needed = (archive for take in waiting for archive in sorted(archives[take.name] - unpacked))
            archive = next(needed, None)
            if archive is not None:
                files = archived[archive]
                tell(f"unpacking {archive} ({sum(file.size for file in files) / 1e6:,.1f} MB)")
                unpacking[pool.submit(alone.unpack, files, _heed_stop)] = archive
        finished, _ = wait([*cutting, *unpacking], timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        advance(pool.decoded())
        for future in finished:
            future.result()
            if future in unpacking:
                unpacked.add(unpacking.pop(future))
            else:
                _release(work, cutting.pop(future), uses)
    advance(pool.decoded())


def _release(work: Work, take: Take, uses: Counter[originals.File]) -> None:
    """Removes what was unpacked for this take and no other needs."""
    for file in take.archived:
        uses[file] -= 1
        if uses[file] == 0:
            with contextlib.suppress(UserError, FileNotFoundError):
                originals.locate(file, work.unpacked).unlink()


class _Pool:
    """Processes that share a counter of decoded frames and a wish to stop."""

    def __init__(self, workers: int, counter: Any, stop: Any, context: Any) -> None:
        self.workers, self._counter, self._seen = workers, counter, 0
        self.executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(counter, stop))

    def submit(self, call: Callable[..., Any], what: Any, advance: Report) -> Future:
        # Processes are started here, and inherit that signals wait: until they have begun, Ctrl-C would end
        # them with a traceback each, and the pool with one of its own if it came in between.
        with staging.uninterrupted():
            return self.executor.submit(call, what, advance)

    def decoded(self) -> int:
        """Frames decoded since the last call."""
        total = self._counter.value
        new, self._seen = total - self._seen, total
        return new


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[_Pool]:
    # Not forked: JAX's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    counter, stop = context.Value(ctypes.c_longlong, 0), context.Event()
    pool = _Pool(workers, counter, stop, context)
    try:
        yield pool
    finally:
        stop.set()
        pool.executor.shutdown(cancel_futures=True)


_shared: tuple[Any, Any]  # of a worker process: the counter and the wish to stop


def _begin(counter: Any, stop: Any) -> None:
    global _shared
    _shared = counter, stop
    # Ctrl-C goes to all processes of the terminal; it is the first one's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on, beside those of the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _heed_stop(count: int) -> None:
    del count
    if _shared[1].is_set():
        raise Stopped


def _count_frames(frames: int) -> None:
    _heed_stop(frames)
    counter = _shared[0]
    with counter.get_lock():
        counter.value += frames
