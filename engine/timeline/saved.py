"""What the cache saved: a fold over the timelines of the recorded builds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from engine.durations import durations
from engine.timeline.log import NAME, builds
from store.index import Index

_WANTED: Final = tuple(
    b'{"event":"%s"' % name
    for name in (b"StepCached", b"StepsCached", b"StepFinished", b"RemoteFound")
)


@frozen(kw_only=True)
class Saved:
    """What builds came to: steps found cached, and those that ran, with how that ended. Of the
    cached ones `remote` were found by remote caches in that build, the others were here.

    `saved` are the seconds that the cached ones took when they last ran here, or where a remote's
    result was built, as far as that is `known`; `saved_remote` are those of the ones that remotes
    found, `spent` those of the ones that ran.
    """

    builds: int
    first: str
    """The name of the oldest build; it begins with its time, in UTC. Empty where there is none."""
    cached: int
    remote: int
    known: int
    ran: int
    failed: int
    saved: float
    saved_remote: float
    spent: float

    @property
    def rate(self) -> float:
        """The share of the steps that was cached, 0 where there were none."""
        return self.cached / max(1, self.cached + self.ran)


def saved(root: Path, index: Index, last: int | None = None) -> Saved:
    """Return what the last builds recorded in the store at `root` came to, or all of them."""
    names = builds(root)[:last]
    took = durations(index)
    here: list[str] = []
    fetched: list[str] = []
    spent, ran, failed = 0.0, 0, 0
    for name in reversed(names):
        cached: dict[str, str] = {}
        at_remotes: set[str] = set()
        for event in _events(root / "builds" / name / NAME):
            match event:
                case {"event": "StepCached", "label": str(label), "action": str(action)}:
                    cached[label] = action
                case {"event": "StepsCached", "labels": list(labels), "actions": list(actions)}:
                    cached |= dict(zip(labels, actions, strict=False))
                case {"event": "RemoteFound", "labels": list(labels)}:
                    at_remotes.update(labels)
                case {"event": "StepFinished", "action": str(action), "seconds": seconds}:
                    ran += 1
                    spent += seconds
                    if event.get("status") == "succeeded":
                        took[action] = seconds
                    else:
                        failed += 1
        for label, action in cached.items():
            (fetched if label in at_remotes else here).append(action)
    saved_remote = sum(took.get(action, 0.0) for action in fetched)
    return Saved(
        builds=len(names),
        first=names[-1] if names else "",
        cached=len(here) + len(fetched),
        remote=len(fetched),
        known=sum(action in took for action in (*here, *fetched)),
        ran=ran,
        failed=failed,
        saved=sum(took.get(action, 0.0) for action in here) + saved_remote,
        saved_remote=saved_remote,
        spent=spent,
    )


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events that matter here; a line that a kill cut off, or that is noise, is left
    out."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith(_WANTED):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event
