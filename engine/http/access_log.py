"""The access log: a JSON line for each request, to a file or to the standard error.

Lines wait in memory and are written together by a thread, so that a slow disk or a reader that
stopped reading holds up no request. With more than `MOST_WAITING` bytes waiting, further lines are
left out, and counted.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from engine.http.hooks import Ended

MOST_WAITING: Final = 4 * 2**20
"""Bytes of lines that may wait to be written."""

LONGEST: Final = 2048
"""Characters of a path that are logged."""

_PIECE: Final = 4096
"""Bytes that go into a pipe undivided, whoever else writes to it."""


class AccessLog:
    """Writes to the file at `path`, or to descriptor 2. Each process has one of its own: lines
    are appended whole. A file that cannot be opened raises OSError."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._handle = self._open()
        self._waiting: list[str] = []
        self._size = 0
        self._lock = threading.Lock()
        self.dropped = 0
        """Lines that were left out."""

    def line(self, ended: Ended) -> None:
        """Note a request that ended."""
        if self._size > MOST_WAITING:
            self.dropped += 1
            return
        path = ended.path
        if len(path) > LONGEST:
            path = f"{path[:LONGEST]}…"
        text = (
            f'{{"time":{time.time():.6f},"peer":{quoted(ended.peer)},'
            f'"identity":{quoted(ended.identity)},"name_space":{quoted(ended.name_space)},'
            f'"adapter":{quoted(ended.adapter)},"method":{quoted(ended.method)},'
            f'"path":{quoted(path)},"status":{ended.status},"received":{ended.received},'
            f'"sent":{ended.sent},"seconds":{ended.seconds:.6f},'
            f'"outcome":{quoted(ended.outcome)},"request":{quoted(ended.request)}'
        )
        text += f',"why":{quoted(ended.why)}}}\n' if ended.why else "}\n"
        self._waiting.append(text)
        self._size += len(text)

    @property
    def waits(self) -> bool:
        """Whether lines wait to be written."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what waits; blocks, so it is called in a thread. What cannot be written is left
        out."""
        with self._lock:
            lines, self._waiting = self._waiting, []
            self._size = 0
            if not lines:
                return
            try:
                regular = stat.S_ISREG(os.fstat(self._handle).st_mode)
                for piece in ["".join(lines)] if regular else _pieces(lines):
                    view = memoryview(piece.encode())
                    while view:
                        view = view[os.write(self._handle, view) :]
            except OSError:
                self.dropped += len(lines)

    def reopen(self) -> None:
        """Open the file again, as it was moved away; where that fails the old one goes on."""
        self.flush()
        if self._path is None:
            return
        with self._lock, contextlib.suppress(OSError):
            handle, old = self._open(), self._handle
            self._handle = handle
            os.close(old)

    def close(self) -> None:
        """Write what waits, and close the file."""
        self.flush()
        if self._path is not None:
            os.close(self._handle)

    def _open(self) -> int:
        if self._path is None:
            return 2
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path, flags, 0o640)


def _pieces(lines: list[str]) -> list[str]:
    """Return the lines, joined as far as a pipe takes them undivided."""
    pieces = [""]
    for line in lines:
        if len(pieces[-1]) + len(line) > _PIECE:
            pieces.append("")
        pieces[-1] += line
    return pieces
