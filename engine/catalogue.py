"""The catalogue of a store: its artifacts and recorded builds, for the view of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.timeline.log import NAME, builds, read_timeline
from fuse.catalogue import Build, Step
from store.digest import Digest
from store.errors import BnError
from store.index import Table
from store.objects import ActionResult
from store.roots import ARTIFACT, roots
from store.store import Store

_KEPT = 256


class StoreCatalogue:
    """Reads names from the index and builds from their timelines, anew when these change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._builds: dict[str, tuple[tuple[int, int], Build]] = {}

    def artifacts(self) -> Mapping[str, Digest]:
        """Return the trees of the named results."""
        named = (root for root in roots(self._store.index) if root.key.startswith(ARTIFACT))
        return {root.name: root.tree for root in named}

    def builds(self) -> Sequence[str]:
        """Return the names of the recorded builds, the last one first."""
        return builds(self._store.root)

    def build(self, name: str) -> Build | None:
        """Return a recorded build as far as it has come, None if there is none of that name."""
        path = self._store.root / "builds" / name / NAME
        try:
            status = path.stat()
        except OSError:
            return None
        mark = (status.st_mtime_ns, status.st_size)
        known = self._builds.get(name)
        if known is not None and known[0] == mark:
            return known[1]
        steps: dict[str, Step] = {}
        for event in read_timeline(self._store.root, name):
            if step := self._step(event):
                steps[step.label] = step
        build = Build(name=name, timeline=path, steps=tuple(steps.values()))
        if len(self._builds) >= _KEPT:
            self._builds.clear()
        self._builds[name] = (mark, build)
        return build

    def _step(self, event: Mapping[str, Any]) -> Step | None:
        match event:
            case {"event": "StepStarted", "label": str(label), "action": str(action)}:
                return Step(label=label, action=Digest(action))
            case {"event": "StepFinished", "label": str(label), "action": str(action)}:
                log, outputs = event.get("log"), event.get("outputs")
                return Step(
                    label=label,
                    action=Digest(action),
                    log=Digest(log) if log else None,
                    outputs=Digest(outputs) if outputs else None,
                )
            case {"event": "StepCached", "label": str(label), "action": str(action)}:
                return Step(
                    label=label,
                    action=Digest(action),
                    log=self._log_of(action),
                    outputs=Digest(event["outputs"]),
                )
        return None

    def _log_of(self, action: str) -> Digest | None:
        """Return the log that the cached result of an action has."""
        result = self._store.index.get(Table.ACTION_CACHE, action)
        try:
            data = self._store.cas.get_bytes(Digest(result.decode())) if result else b""
            return ActionResult.decode(data).log
        except BnError:
            return None
