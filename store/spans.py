"""Spans: where bn's own time goes, for `bn build --profile-bn`. Free while nobody records.

Written as Chrome's trace events ("Trace Event Format", the JSON object form), which Perfetto and
chrome://tracing show: complete events (`"ph": "X"`) with times in microseconds since the start, and
what the main thread used of a processor meanwhile (`tdur`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from store.errors import InputError

MAIN = "bn"
"""The lane of what bn does itself, one thing at a time."""

_Row = tuple[str, str, int, int, int, dict[str, Any]]
"""Name, lane, begin, end, processor time (ns), details."""
_rows: list[_Row] | None = None
_started = 0
_NOTHING: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


def record() -> None:
    """Begin to record. What the process used until now is the first span."""
    global _rows, _started
    now = time.perf_counter_ns()
    used = time.process_time_ns()
    _started = now - used
    _rows = [("start-up", MAIN, _started, now, used, {})]


def span(name: str, lane: str = MAIN, **details: object) -> contextlib.AbstractContextManager[None]:
    """Return the context of one piece of work; lanes are shown below each other."""
    return _NOTHING if _rows is None else _Span(_rows, name, lane, details)


def write(path: Path) -> None:
    """Write what was recorded to `path` and end recording. Raises InputError where that fails."""
    global _rows
    rows, _rows = _rows or [], None
    names = dict.fromkeys([MAIN, *(row[1] for row in rows)])
    lanes = {lane: number for number, lane in enumerate(names)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": lane}}
        for lane, number in lanes.items()
    ]
    events += [
        {
            "ph": "X",
            "name": name,
            "pid": 1,
            "tid": lanes[lane],
            "ts": (begun - _started) / 1000,
            "dur": (ended - begun) / 1000,
            "tdur": used / 1000,
            "args": details,
        }
        for name, lane, begun, ended, used, details in rows
    ]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot write the profile: {error.strerror}") from error


class _Span:
    __slots__ = ("begun", "details", "lane", "name", "rows", "used")

    def __init__(self, rows: list[_Row], name: str, lane: str, details: dict[str, Any]) -> None:
        self.rows, self.name, self.lane, self.details = rows, name, lane, details

    def __enter__(self) -> None:
        self.begun, self.used = time.perf_counter_ns(), time.thread_time_ns()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        used = time.thread_time_ns() - self.used
        ended = time.perf_counter_ns()
        self.rows.append((self.name, self.lane, self.begun, ended, used, self.details))
