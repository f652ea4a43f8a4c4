"""Work in a background thread; what comes of it is asked for later."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

Value = TypeVar("Value")


class Background(Generic[Value]):
    """Work that runs in a thread from now on. As a context: it has ended at the end of it, come
    what may, so that it uses nothing that is closed after that.

    Unlike an executor of concurrent.futures it waits also where signals interrupt that, and it
    takes nothing to load.
    """

    def __init__(self, work: Callable[[], Value]) -> None:
        """Begin."""
        self._work = work
        self._value: list[Value] = []
        self._error: BaseException | None = None
        self._ended = threading.Event()
        """Not the thread's end: a `join` that a signal interrupts takes a thread to have ended
        (CPython 3.11)."""
        threading.Thread(target=self._run, name="background").start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        """Wait for the end."""
        while not self._ended.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                self._ended.wait()

    def result(self) -> Value:
        """Wait for the end and return what the work returned; raises what it raised."""
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._value[0]

    def _run(self) -> None:
        try:
            self._value.append(self._work())
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
