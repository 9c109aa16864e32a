"""Which signals stop a run, and what they leave."""

import signal
import threading

import pytest

from launch.runs import stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@pytest.mark.parametrize("name", SIGNALS)
def test_the_first_is_a_wish_and_the_second_is_obeyed(name: signal.Signals) -> None:
    before = {s: signal.getsignal(s) for s in SIGNALS}
    with stopping.Stop().watching() as stop:
        assert not stop.wanted()
        signal.raise_signal(name)
        assert {signal.getsignal(s) for s in SIGNALS} == {signal.SIG_DFL}
        assert stop.wanted() and stop.preempted == (name != signal.SIGINT)
    assert {s: signal.getsignal(s) for s in SIGNALS} == before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    before = {s: signal.getsignal(s) for s in SIGNALS}
    wanted = []

    def work() -> None:
        with stopping.Stop().watching() as stop:
            wanted.append(stop.wanted())
            assert {s: signal.getsignal(s) for s in SIGNALS} == before

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert wanted == [False]


def test_with_other_processes_signals_become_the_one_that_jax_watches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in tests/multiprocess, where JAX really does."""
    monkeypatch.setattr(stopping.jax.distributed, "is_initialized", lambda: True)
    caught: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: caught.append(number))
    try:
        with stopping.Stop().watching() as stop:
            answers = iter((False, False, True))
            monkeypatch.setattr(stopping.hosts, "agree_to_stop", lambda: next(answers) and bool(caught))
            assert not stop.wanted()
            signal.raise_signal(signal.SIGUSR1)
            assert caught == [signal.SIGTERM]
            assert [stop.wanted() for _ in range(2)] == [False, True] and stop.preempted
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_code_for_requeueing() -> None:
    assert stopping.REQUEUE == 75
