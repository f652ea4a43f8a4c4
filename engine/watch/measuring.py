"""Benchmarks that are due, run by the watcher while nobody wants anything of the machine.

A child does it, `bn benchmark --due`, which itself looks whether the machine is idle and whether
the configuration allows it. It is ended as soon as a build asks the watcher something, so that no
build is slowed, and what was not measured then is due still.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import engine

QUIET_SECONDS: Final = 900.0
"""How long nobody must have asked anything."""

EVERY_SECONDS: Final = 3600.0
"""How often it is looked whether something is due."""

ARGUMENTS: Final = ("benchmark", "--due", "--automatic", "--offline", "--json")

Start = Callable[[Sequence[str], Path], subprocess.Popen[bytes]]


class Measuring:
    """At most one benchmark of a store's machine; `look` has to be called now and then."""

    def __init__(self, store: Path, start: Start | None = None) -> None:
        self._store = store
        self._start = start or _start
        self._process: subprocess.Popen[bytes] | None = None
        self._looked_at: float | None = None
        self._done = self._broken_off = 0

    def look(self, asked_at: float, now: float) -> None:
        """See what has ended, end what is in somebody's way, and start what is due; times are
        those of one clock, in seconds."""
        if self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._process = None
                self._done += code == 0
            elif now - asked_at < QUIET_SECONDS:
                self._end()
            return
        if now - asked_at < QUIET_SECONDS:
            return
        if self._looked_at is not None and now - self._looked_at < EVERY_SECONDS:
            return
        self._looked_at = now
        with contextlib.suppress(OSError):
            self._process = self._start(ARGUMENTS, self._store)

    def close(self) -> None:
        """End what runs."""
        if self._process is not None:
            self._end()

    def _end(self) -> None:
        assert self._process
        self._process.terminate()  # it takes that for Ctrl-C, and ends what it measures by
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._broken_off += 1
        self._looked_at = None  # due still

    def status(self) -> dict[str, Any]:
        """Return what was done, for people and for machines."""
        return {
            "running": self._process is not None,
            "looks": self._done,
            "broken_off": self._broken_off,
        }


def _start(arguments: Sequence[str], store: Path) -> subprocess.Popen[bytes]:
    place = Path(engine.__file__).parent / "cli" / "start.py"
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(place), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "BN_STORE": str(store)},
        cwd="/",
    )
