"""A build in few words: a fold over its timeline."""

from __future__ import annotations

import collections
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from attrs import define, field

UNKNOWN: Final = "no end is known"
"""How a build ended that was killed, or that still goes on."""

_ENDED: Final = {"StepCached": "cached", "StepSkipped": "skipped", "StepRefused": "failed"}


@define(kw_only=True)
class Summary:
    """What a build was and came to; `began` in seconds since 1970, counts of steps by how they
    ended."""

    build: str
    spec: str = ""
    targets: tuple[str, ...] = ()
    began: float = 0.0
    status: str = UNKNOWN
    seconds: float = 0.0
    steps: int = 0
    counts: collections.Counter[str] = field(factory=collections.Counter)
    events: int = 0

    @property
    def day(self) -> str:
        """When it began, in local time."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.began))


def summary(build: str, events: Iterable[Mapping[str, Any]]) -> Summary:
    """Return what a build's events come to."""
    found = Summary(build=build)
    for event in events:
        found.events += 1
        match event:
            case {"event": "BuildStarted"}:
                found.spec = str(event.get("spec", ""))
                found.targets = tuple(event.get("targets", ()))
                found.began = float(event.get("time", 0.0))
                found.steps = int(event.get("steps", 0))
            case {"event": "StepFinished", "outputs": outputs}:
                found.counts["failed" if outputs is None else "built"] += 1
            case {"event": "BuildFinished", "status": status, "seconds": seconds}:
                found.status, found.seconds = str(status), float(seconds)
            case {"event": str(name)} if name in _ENDED:
                found.counts[_ENDED[name]] += 1
    return found
