"""The watcher's hold on its zygote: started, and started again when it has ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Container
from pathlib import Path
from typing import Any, Final

import engine

RETRY_SECONDS: Final = 1.0
"""How long after a start the next one is tried at first; then twice as long each time."""

MOST_SECONDS: Final = 64.0

_START: Final = (
    "import sys, time; began = time.time_ns(); sys.path.insert(0, sys.argv[1]); "
    "from engine.packages import find_packages; find_packages(); "
    "from engine.watch.zygote import main; main(*sys.argv[2:], began)"
)


class Keeper:
    """At most one zygote of a store; `look` has to be called now and then."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended: list[subprocess.Popen[bytes]] = []
        self._ready = False
        self._handed = self._refused = self._stock = self._early = 0
        self._why = ""
        self._retry = RETRY_SECONDS
        self._started_at = -MOST_SECONDS

    @property
    def handle(self) -> int | None:
        """The descriptor that tells of news, None where there is no zygote."""
        return self._control.fileno() if self._control else None

    def look(self, found: Container[int], newest: str = "") -> bool:
        """Take in news, where `found` holds the handle; see to it that there is a zygote, which
        gets ready for the command of the `newest` record. Say whether a client was served."""
        self._ended = [process for process in self._ended if process.poll() is None]
        served = False
        if self._control and self._control.fileno() in found:
            served = self._take_in(self._control)
        if self._control is None and time.monotonic() - self._started_at > self._retry:
            self._start(newest)
        return served

    def tell(self, record: str) -> None:
        """Tell the zygote that files have changed that the record of that name is of."""
        if self._control and self._ready:
            with contextlib.suppress(OSError):
                self._control.send(record.encode())

    def close(self) -> None:
        """Have the zygote end as soon as its workers have."""
        if self._control:
            self._control.close()
            self._control = None
        if self._process:
            self._ended.append(self._process)
            self._process = None
        self._ready = False
        self._stock = self._early = 0

    def status(self) -> dict[str, Any]:
        """Return the zygote's process (None while none is ready), its memory in bytes, the bytes of
        what it has in stock, how many commands were handed over and refused, and why the last one
        was refused; how many were worked out before they were asked for, of this process alone."""
        process = self._process.pid if self._process and self._ready else None
        return {
            "process": process,
            "memory": memory_of(process) if process else 0,
            "stock": self._stock,
            "handed": self._handed,
            "early": self._early,
            "refused": self._refused,
            "why": self._why,
        }

    def _start(self, newest: str) -> None:
        self._started_at = time.monotonic()
        self._retry = min(2 * self._retry, MOST_SECONDS)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = os.path.dirname(os.path.dirname(os.path.abspath(engine.__file__)))
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _START, root, str(self._store), newest],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError:
                ours.close()
                return
        ours.setblocking(False)
        self._control = ours

    def _take_in(self, control: socket.socket) -> bool:
        served = False
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    packet = control.recv(256)
                except ConnectionError:
                    packet = b""
                word, _, why = packet.decode(errors="replace").partition(" ")
                if word in ("", "stale"):
                    self.close()
                    return served
                if word == "ready":
                    self._ready, self._retry = True, RETRY_SECONDS
                served |= word == "handed"
                self._handed += word == "handed"
                if word == "stock":
                    self._stock, self._early = map(int, why.split())
                if word == "refused":
                    self._refused, self._why = self._refused + 1, why
        return served


def memory_of(process: int) -> int:
    """Return how much memory a process has, in bytes; 0 where it has gone."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
