"""Signals that wait until something is done."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Final

INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a user, or who ends a session, interrupts bn with."""


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Let what interrupts wait for something short that must not be left half-done. Afterwards the
    first signal that came has its effect. For the main thread, which handles signals."""
    came: list[int] = []
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    handled = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handled:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
