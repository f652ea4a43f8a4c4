"""What takes long to start, started before it is certain that a build needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.graph import Graph
from engine.picking import make_executor, make_wall
from engine.plan import Cached, Plan
from executors.base import Executor
from store.errors import BnError
from store.spans import span
from store.store import Store

if TYPE_CHECKING:
    from executors.sandbox import Sandbox
    from executors.wall import Wall


class Ahead:
    """The executor of a build, by name, made early where something is likely to run: its wall as
    soon as a source has changed, a first cell as soon as a target turns out to be new.

    Where it is known that no source has changed since the last build (`will_run` is False), no wall
    is started before a target turns out to be new.
    """

    def __init__(self, store: Store, name: str, will_run: bool | None = None) -> None:
        self._store = store
        self._name = name
        self._waits = will_run is False
        self._tried = False
        self._wall: Wall | None = None
        self._sandbox: Sandbox | None = None

    def start(self) -> None:
        """Start the wall, once, where something is likely to run."""
        if not self._waits:
            self._start()

    def _start(self) -> None:
        if self._name == "sandbox" and not self._tried:
            self._tried = True
            with span("start the wall"):
                self._wall = make_wall(self._store)

    def prepare(self, graph: Graph, labels: Iterable[str]) -> None:
        """Have a first cell made where one of these steps came to nothing yet: it will hardly go
        without running it."""
        actions = self._store.actions
        fresh = (one for one in labels if actions.realisation(graph.digest_of(one)) is None)
        label = next(fresh, None)
        if label is None:
            return
        self._start()
        if self._wall is None:
            return
        with span("load the executor"):
            from engine.execution import limits_of
            from executors.sandbox import Sandbox

            self._sandbox = Sandbox(self._store, self._wall)
            self._wall = None
        with span("prepare"), contextlib.suppress(BnError):  # the action will say what is wrong
            recipe = graph.recipes[label]
            self._sandbox.prepare(recipe.toolchains, limits_of(recipe))

    def executor(self, plan: Plan) -> Executor | None:
        """Return the executor that runs what the plan says, None where nothing has to run. It is
        the caller's to end."""
        if all(isinstance(step, Cached) for step in plan.others.values()):
            self.drop()
            return None
        found, self._sandbox = self._sandbox, None
        if found is not None:
            return found
        with span("load the executor"):
            if self._wall is not None:
                from executors.sandbox import Sandbox

                wall, self._wall = self._wall, None
                return Sandbox(self._store, wall)
            return make_executor(self._name, self._store)

    def drop(self) -> None:
        """End what was started for nothing."""
        if self._sandbox is not None:
            self._sandbox.drop()
        elif self._wall is not None:
            self._wall.drop()
        self._sandbox = self._wall = None
