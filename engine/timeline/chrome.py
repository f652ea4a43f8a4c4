"""A timeline as a Chrome trace, which Perfetto and chrome://tracing open.

The format is Google's "Trace Event Format": an object with `traceEvents`, times in microseconds.
Nodes are processes; in each the actions lie on as few rows as have room for them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

BUILD: Final = 0
"""The process of what belongs to no node."""

_SHOWN: Final = ("action", "outputs", "status", "reason", "exit_code", "cpu_seconds", "peak_memory")


def to_chrome(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the trace of a build's events."""
    rows = _Rows()
    made: list[dict[str, Any]] = []
    for event in events:
        made += rows.take(event)
    made += rows.unfinished()
    made.sort(key=lambda one: (one["ph"] != "M", one.get("ts", 0)))
    return {"traceEvents": made, "displayTimeUnit": "ms"}


class _Rows:
    """Which row of which node each action has."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._now = 0.0
        self._nodes: dict[str, int] = {}
        self._free: dict[str, list[int]] = {}
        self._used: dict[str, int] = {}
        self._open: dict[str, tuple[str, int, Mapping[str, Any]]] = {}

    def take(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield what one event adds."""
        time = float(event.get("time", 0.0))
        if self._start is None:
            self._start = time
            yield _named("process_name", BUILD, 0, f"build {event.get('build', '')}")
        self._now = max(self._now, time)
        match event:
            case {"event": "StepStarted", "label": str(label)}:
                yield from self._begin(label, event)
            case {"event": "StepFinished", "label": str(label)} if label in self._open:
                yield self._end(label, event)
            case {"event": "StepCached"}:
                return
            case {"event": str(name)}:
                values = {key: v for key, v in event.items() if key not in ("event", "time")}
                at = {"pid": BUILD, "tid": 0, "ts": self._micro(time)}
                yield {"name": name, "ph": "i", "s": "g", **at, "args": values}
        if event.get("event") in ("StepStarted", "StepFinished"):
            at = {"pid": BUILD, "tid": 0, "ts": self._micro(time)}
            yield {"name": "running", "ph": "C", **at, "args": {"actions": len(self._open)}}

    def unfinished(self) -> Iterator[dict[str, Any]]:
        """Yield the actions of which no end is known."""
        for label in list(self._open):
            yield self._end(label, {"time": self._now, "status": "no end is known"})

    def _begin(self, label: str, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        placement = event.get("placement")
        node = str(placement.get("node", "")) if isinstance(placement, dict) else ""
        if node not in self._nodes:
            self._nodes[node] = len(self._nodes) + 1
            yield _named("process_name", self._nodes[node], 0, f"node {node or 'local'}")
        free = self._free.setdefault(node, [])
        if free:
            row = heapq.heappop(free)
        else:
            row = self._used[node] = self._used.get(node, 0) + 1
            yield _named("thread_name", self._nodes[node], row, f"{row}")
        self._open[label] = (node, row, event)

    def _end(self, label: str, event: Mapping[str, Any]) -> dict[str, Any]:
        node, row, began = self._open.pop(label)
        heapq.heappush(self._free[node], row)
        first, last = float(began["time"]), float(event["time"])
        values = {key: event[key] for key in _SHOWN if key in event}
        return {
            "name": label,
            "cat": "action",
            "ph": "X",
            "pid": self._nodes[node],
            "tid": row,
            "ts": self._micro(first),
            "dur": round((last - first) * 1e6),
            "args": {"why": began.get("reason"), "placement": began.get("placement"), **values},
        }

    def _micro(self, time: float) -> int:
        return round((time - (self._start or 0.0)) * 1e6)


def _named(kind: str, process: int, row: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": process, "tid": row, "args": {"name": name}}
