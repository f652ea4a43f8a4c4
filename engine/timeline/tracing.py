"""Causes with all that a store and a spec say of them: parameters, and what actions read."""

from __future__ import annotations

from collections.abc import Collection

from engine.timeline.causes import Causes, no_parameters
from engine.timeline.parameters import settings
from engine.timeline.recorded import Recorded
from store.digest import Digest
from store.store import Store


def tracing(store: Store, recorded: Recorded, new: str, old: str) -> Causes:
    """Return what tells the causes of steps of build `new`, compared with `old`."""

    def observed(action: Digest) -> Collection[str] | None:
        result = store.actions.result_of(action)
        return None if result is None else result.observed

    known = settings(recorded.course(new), recorded.course(old))
    return Causes(store.cas, recorded, new, old, known or no_parameters, observed)
