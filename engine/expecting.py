"""What executors get ready, while one step runs, for those that wait for it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from engine.finished import Running
from engine.graph import Graph
from engine.waits import Waits
from executors.base import Executor
from store.digest import Digest

Expect: TypeAlias = Callable[[tuple[str, ...], tuple[str, ...], Iterable[str]], Iterator[bool]]
"""Gets ready for an action with this command, these outputs, and directories of these names among
its inputs, a part of it for each True."""


class Expecting:
    """Tells an executor of each step once, when a step that it needs runs."""

    def __init__(self, executor: Executor, graph: Graph, waits: Waits) -> None:
        self._expect: Expect | None = getattr(executor, "expect", None)
        self._graph = graph
        self._waits = waits
        self._told: set[str] = set()

    def chores(self, running: Mapping[Digest, Running]) -> Iterator[Callable[[], bool]]:
        """Yield what is to be done, again and again as long as it returns True, while all of these
        run."""
        if self._expect is None:
            return
        for action, one in running.items():
            for label in self._waits.after(one.labels[0]):
                if label not in self._told:
                    self._told.add(label)
                    parts = self._parts(self._expect, label, running, action)
                    yield functools.partial(next, parts, False)

    def _parts(
        self, expect: Expect, label: str, running: Mapping[Digest, Running], action: Digest
    ) -> Iterator[bool]:
        recipe = self._graph.recipes[label]
        inputs = {need.stage for need in recipe.needs if need.pattern is None}
        for more in expect(recipe.command, recipe.outputs, inputs):
            if action not in running:
                return
            yield more
