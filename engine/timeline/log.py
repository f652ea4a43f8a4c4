"""The timeline on disk: one JSON line an event, appended as it happens."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from json.encoder import encode_basestring_ascii as quoted
from pathlib import Path
from typing import Any, Final

from engine.timeline.events import Event, StepCached, to_document
from store.errors import HostError, host_error

NAME = "timeline.jsonl"

_MOST_WAITING: Final = 4096


def new_build_id() -> str:
    """Return a name for a build that sorts by time and that no other process takes."""
    now = time.time_ns()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now // 10**9))
    return f"{stamp}-{now % 10**9 // 1000:06d}-{os.getpid()}"


class TimelineLog:
    """Appends events to `builds/<id>/timeline.jsonl` under the store."""

    def __init__(self, root: Path, build: str) -> None:
        self._waiting: list[str] = []
        directory = root / "builds" / build
        try:
            directory.mkdir(parents=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._handle = os.open(directory / NAME, flags, 0o644)
        except OSError as error:
            raise host_error(error, "cannot write the timeline") from error

    def __call__(self, event: Event) -> None:
        """Append one event. Steps that were cached, which come by the thousand, are written with
        the next event of another kind."""
        if isinstance(event, StepCached):
            self._waiting.append(
                f'{{"event":"StepCached","time":{time.time():.6f},"label":{quoted(event.label)},'
                f'"action":"{event.action}","outputs":"{event.outputs}"}}\n'
            )
            if len(self._waiting) < _MOST_WAITING:
                return
        else:
            document = to_document(event, time.time())
            self._waiting.append(json.dumps(document, separators=(",", ":")) + "\n")
        self._flush()

    def _flush(self) -> None:
        data, self._waiting = "".join(self._waiting).encode(), []
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise host_error(error, "cannot write the timeline") from error

    def close(self) -> None:
        """Write what waits, as far as that is possible, and close the file."""
        with contextlib.suppress(HostError):
            self._flush()
        os.close(self._handle)


def builds(root: Path) -> list[str]:
    """Return the names of the recorded builds, the last one first."""
    try:
        return sorted(os.listdir(root / "builds"), reverse=True)
    except FileNotFoundError:
        return []


def read_timeline(root: Path, build: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a build; a last line that was cut off by a kill is left out."""
    try:
        text = (root / "builds" / build / NAME).read_text()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
