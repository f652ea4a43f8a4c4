"""The timeline on disk: one JSON line an event, appended as it happens."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.timeline.events import Event, to_document
from store.errors import host_error

NAME = "timeline.jsonl"


def new_build_id() -> str:
    """Return a name for a build that sorts by time and that no other process takes."""
    now = time.time_ns()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now // 10**9))
    return f"{stamp}-{now % 10**9 // 1000:06d}-{os.getpid()}"


class TimelineLog:
    """Appends events to `builds/<id>/timeline.jsonl` under the store."""

    def __init__(self, root: Path, build: str) -> None:
        directory = root / "builds" / build
        try:
            directory.mkdir(parents=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._handle = os.open(directory / NAME, flags, 0o644)
        except OSError as error:
            raise host_error(error, "cannot write the timeline") from error

    def __call__(self, event: Event) -> None:
        """Append one event. Raises HostError where it cannot be written."""
        document = to_document(event, time.time())
        view = memoryview(json.dumps(document, separators=(",", ":")).encode() + b"\n")
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise host_error(error, "cannot write the timeline") from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def append(root: Path, build: str, events: Iterable[Event]) -> None:
    """Append what happened after a build's end. It is left out where it cannot be written."""
    lines = [json.dumps(to_document(event, time.time()), separators=(",", ":")) for event in events]
    if lines:
        with contextlib.suppress(OSError), open(root / "builds" / build / NAME, "ab") as file:
            file.write("".join(f"{line}\n" for line in lines).encode())


def builds(root: Path) -> list[str]:
    """Return the names of the recorded builds, the last one first."""
    try:
        return sorted(os.listdir(root / "builds"), reverse=True)
    except FileNotFoundError:
        return []


def read_timeline(root: Path, build: str) -> Iterator[dict[str, Any]]:
    """Yield the events of a build; a last line that was cut off by a kill is left out.

    Steps that were told of together come one by one, each as a `StepCached`.
    """
    try:
        text = (root / "builds" / build / NAME).read_text()
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            return
        if isinstance(event, dict) and event.get("event") == "StepsCached":
            yield from _one_by_one(event)
        else:
            yield event


def _one_by_one(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = ("labels", "actions", "outputs")
    columns = [event[name] for name in names if isinstance(event.get(name), list)]
    if len(columns) < len(names):
        return
    for label, action, outputs in zip(*columns, strict=False):
        one = {"label": label, "action": action, "outputs": outputs}
        yield {"event": "StepCached", "time": event.get("time"), **one}
