"""Work in the background: its value, its error, and that nobody leaves before it has ended."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from engine.background import Background


def test_what_it_returns() -> None:
    with Background(lambda: threading.current_thread().name) as work:
        assert work.result() == "background"


def test_what_it_raises_is_raised_where_it_is_asked_for() -> None:
    def work() -> None:
        raise ValueError("in the thread")

    with Background(work) as running, pytest.raises(ValueError, match="in the thread"):
        running.result()


@pytest.mark.parametrize("signals", [0, 2])
def test_it_has_ended_when_something_else_fails(signals: int) -> None:
    begun, go, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go.wait()
        ended.set()

    def interrupt() -> None:
        for _ in range(signals):
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        go.set()

    def fail() -> None:
        with Background(work):
            begun.wait()
            threading.Thread(target=interrupt).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert ended.is_set()
