"""What the cache saved: a fold over the timelines of the recorded builds."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from engine.timeline.log import NAME, builds
from store.index import Index, Table

_CACHED: Final = re.compile(rb'\{"event":"StepCached".*?"action":"([0-9a-f]{64})"')
_FINISHED: Final = b'{"event":"StepFinished"'


@frozen(kw_only=True)
class Saved:
    """What builds came to: steps found cached, and those that ran, with how that ended.

    `saved` are the seconds that the cached ones took when they last ran here, as far as that is
    `known`; `spent` are those of the ones that ran.
    """

    builds: int
    first: str
    """The name of the oldest build; it begins with its time, in UTC. Empty where there is none."""
    cached: int
    known: int
    ran: int
    failed: int
    saved: float
    spent: float

    @property
    def rate(self) -> float:
        """The share of the steps that was cached, 0 where there were none."""
        return self.cached / max(1, self.cached + self.ran)


def saved(root: Path, index: Index, last: int | None = None) -> Saved:
    """Return what the last builds recorded in the store at `root` came to, or all of them."""
    names = builds(root)[:last]
    cached: Counter[str] = Counter()
    took = dict(_remembered(index))
    spent, ran, failed = 0.0, 0, 0
    for name in reversed(names):
        for line in _lines(root / "builds" / name / NAME):
            if found := _CACHED.match(line):
                cached[found[1].decode()] += 1
            elif line.startswith(_FINISHED) and (event := _event(line)):
                ran += 1
                spent += float(event["seconds"])
                if event["status"] == "succeeded":
                    took[str(event["action"])] = float(event["seconds"])
                else:
                    failed += 1
    return Saved(
        builds=len(names),
        first=names[-1] if names else "",
        cached=cached.total(),
        known=sum(number for action, number in cached.items() if action in took),
        ran=ran,
        failed=failed,
        saved=sum(took.get(action, 0.0) * number for action, number in cached.items()),
        spent=spent,
    )


def _remembered(index: Index) -> Iterator[tuple[str, float]]:
    """Yield the actions of all steps' histories, and how long they took."""
    for _, value in index.items(Table.HISTORY):
        try:
            for row in json.loads(value):
                if row["seconds"]:
                    yield row["action"], float(row["seconds"])
        except (ValueError, TypeError, KeyError):
            continue


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError:
        return []


def _event(line: bytes) -> dict[str, Any] | None:
    """Return an event, None where its line was cut off by a kill."""
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event
