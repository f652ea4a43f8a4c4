"""A past build played again: its events go to a console at the times at which they happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.timeline.events import Event, from_document


def play(
    events: Iterable[Mapping[str, Any]],
    console: Callable[[Event], None],
    speed: float = 1.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Give events to a console, `speed` times as fast as they came.

    Events that this version does not know are left out.
    """
    before: float | None = None
    for document in events:
        now = float(document.get("time", 0.0))
        pause = 0.0 if before is None else max(0.0, now - before) / speed
        if pause > 0:
            sleep(pause)
        before = now
        event = from_document(document)
        if event is not None:
            console(event)
