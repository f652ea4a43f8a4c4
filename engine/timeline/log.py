"""The timeline on disk: one JSON line an event, appended as it happens, each linked to the one
before (`engine.timeline.chain`). What the last one was is noted in the index at the build's end."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.timeline.chain import Chain, Head, beginning, taken_apart
from engine.timeline.events import Event, StepsCached, TurnsTaken, to_document
from store.encoding import made_ready
from store.errors import host_error
from store.index import Table, Write, to_json
from store.store import Store

NAME = "timeline.jsonl"

_encoded = made_ready(json.JSONEncoder(separators=(",", ":")))


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
        self._build = build
        self._chain = Chain(beginning(build))
        self._held = b""
        """Lines that are written with the next one."""

    def __call__(self, event: Event) -> None:
        """Append one event; one that tells of turns together with the next one, which tells of what
        became of them. Raises HostError where it cannot be written."""
        line = self._chain.line(_body(event))
        if isinstance(event, TurnsTaken):
            self._held += line
            return
        if self._held:
            line, self._held = self._held + line, b""
        self._write(line)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            raise host_error(error, "cannot write the timeline") from error

    def close(self) -> Write:
        """Close the file and return what is to be noted of its end in the index."""
        if self._held:
            self._write(self._held)
        os.close(self._handle)
        return noted(self._build, self._chain.head)


def append(store: Store, build: str, events: Iterable[Event]) -> None:
    """Append what happened after a build's end. It is left out where it cannot be written."""
    bodies = [_body(event) for event in events]
    if not bodies:
        return
    with contextlib.suppress(OSError), open(store.root / "builds" / build / NAME, "r+b") as file:
        *_, last = file.read().splitlines() or [b""]
        linked = taken_apart(last)
        if linked is None:
            return
        chain = Chain(Head(linked.number, linked.link))
        file.write(b"".join(map(chain.line, bodies)))
        store.index.later([noted(build, chain.head)])


def _body(event: Event) -> bytes:
    if isinstance(event, StepsCached):
        return _together(event, time.time())
    return _encoded(to_document(event, time.time())).encode()


def _together(event: StepsCached, now: float) -> bytes:
    """Return the same for many steps; digests are written as they are."""
    columns = (("actions", event.actions), ("outputs", event.outputs), ("recipes", event.recipes))
    texts = []
    for name, some in columns:
        text = '","'.join(some)
        texts.append(f'"{name}":["{text}"]' if some else f'"{name}":[]')
    start = _encoded({"event": "StepsCached", "time": round(now, 6), "labels": event.labels})
    return ",".join([start[:-1], *texts]).encode() + b"}"


def noted(build: str, head: Head) -> Write:
    """Return the write that notes how a build's timeline ended."""
    return Table.TIMELINES, build, to_json({"events": head.events, "link": head.link})


def noted_head(store: Store, build: str) -> Head | None:
    """Return how a build's timeline ended; None where that was not noted: bn was killed before."""
    match store.index.get_json(Table.TIMELINES, build):
        case {"events": int(events), "link": str(link)}:
            return Head(events, link)
    return None


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
        file = open(root / "builds" / build / NAME, "rb")  # noqa: SIM115 closed below
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                event = json.loads(line)
            except ValueError:
                return
            if not isinstance(event, dict):
                return
            event.pop("chain", None)
            if event.get("event") == "StepsCached":
                yield from _one_by_one(event)
            else:
                yield event


def _one_by_one(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    names = ("labels", "actions", "outputs")
    columns = [event[name] for name in names if isinstance(event.get(name), list)]
    if len(columns) < len(names):
        return
    recipes = event.get("recipes")
    keys = recipes if isinstance(recipes, list) else [None] * len(columns[0])
    for label, action, outputs, recipe in zip(*columns, keys, strict=False):
        one = {"label": label, "action": action, "outputs": outputs, "recipe": recipe}
        yield {"event": "StepCached", "time": event.get("time"), **one}
