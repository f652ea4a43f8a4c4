"""What takes long to start, started before it is certain that a build needs it, and before most of
what a build needs is loaded."""

from __future__ import annotations

import contextlib
import importlib
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.memo import memo_path, read_memo, write_memo
from engine.picking import make_executor, make_wall, wall_stands
from executors.base import Executor, Limits
from store.digest import Digest
from store.errors import BnError
from store.spans import span
from store.store import Store

if TYPE_CHECKING:
    from engine.graph import Graph
    from engine.plan import Plan
    from executors.cells import Kind
    from executors.sandbox import Sandbox
    from executors.wall import Wall


LOADED: Final = ("engine.modes", "engine.places", "executors.waiting", "wcmatch.glob")
"""Modules that run steps, whichever they are, and what a spec's patterns need."""

MOST_ASKED: Final = 8
"""Steps that are looked up to tell whether a build will run something."""

KIND: Final = "cell"
FORMAT: Final = "1"


def last_kind(store: Store, spec: Path) -> Kind | None:
    """Return the kind of the first cell of a spec's last build, None where it is not known. Raises
    HostError and MissingBlob."""
    from executors.cells import Kind
    from executors.stage import sandbox_root

    cell = read_memo(_memo(store, spec))
    if cell is None:
        return None
    toolchains, memory = cell
    return Kind.of(sandbox_root(store, map(Digest, toolchains)), Limits(memory=memory))


def _memo(store: Store, spec: Path) -> str:
    return memo_path(store.root, KIND, FORMAT, str(spec.absolute()))


class Ahead:
    """The executor of a build, by name, made early where something is likely to run: its wall as
    soon as a source has changed, with a first cell of the kind that the spec's last build began
    with, and another one as soon as a target turns out to be new and to need another kind.

    Where it is known whether a source has changed since the last build (`will_run`), the wall is
    started at once, or not before a target turns out to be new. Where it is not known, a wall that
    stands already is put to use at once.
    """

    def __init__(
        self, store: Store, name: str, spec: Path = Path(), will_run: bool | None = None
    ) -> None:
        self._store = store
        self._name = name
        self._will_run = will_run
        self._tried = False
        self._memo = _memo(store, spec)
        self._cell: Any = None
        """Toolchains and memory of the actions for which a cell is made."""
        self._wall: Wall | None = None
        self._sandbox: Sandbox | None = None
        self.held = contextlib.ExitStack()
        """The lease of the build, where that did not begin yet: nothing may be collected that was
        started with."""

    def begin(self) -> None:
        """Start the wall before anything else, where that is right."""
        if self._will_run or (self._will_run is None and wall_stands()):
            self.start()

    def start(self) -> None:
        """Start the wall, once, where something is likely to run."""
        if self._will_run is not False and not self._tried:
            self._start()
            cell = read_memo(self._memo) if self._wall is not None else None
            if cell is not None:
                self._make_cell(*cell)

    def load(self, wide: bool) -> None:
        """Start the wall, and load what runs steps, while all is evaluated anew and that waits for
        this machine: many of them side by side where it is `wide`."""
        self.start()
        with span("load ahead"):
            executor = "native" if self._name == "native" else "sandbox"
            for name in (*LOADED, f"executors.{executor}", *(("trio",) if wide else ())):
                importlib.import_module(name)

    def _start(self) -> None:
        if self._name == "sandbox" and not self._tried:
            self._tried = True
            with span("start the wall"):
                self._wall = make_wall(self._store)

    def prepare(self, graph: Graph, labels: Iterable[str]) -> None:
        """Have a first cell made where one of the first of these steps came to nothing yet: it will
        hardly go without running it."""
        actions = self._store.actions
        some = itertools.islice(labels, MOST_ASKED)
        fresh = (one for one in some if actions.realisation(graph.digest_of(one)) is None)
        label = next(fresh, None)
        if label is None:
            return
        self._start()
        recipe = graph.recipes[label]
        cell = [*recipe.toolchains], recipe.resources.memory
        if self._cell != cell and not (self._wall is None and self._sandbox is None):
            self._make_cell(*cell)
            write_memo(self._memo, cell)

    def _make_cell(self, toolchains: Sequence[str], memory: int | None) -> None:
        if self._sandbox is None:
            with span("load the executor"):
                from executors.sandbox import Sandbox

                self._sandbox = Sandbox(self._store, self._wall)
                self._wall = None
        self._cell = toolchains, memory
        with span("prepare"), contextlib.suppress(BnError):  # the action will say what is wrong
            self._sandbox.prepare(tuple(map(Digest, toolchains)), Limits(memory=memory))

    def executor(self, plan: Plan) -> Executor | None:
        """Return the executor that runs what the plan says, None where nothing has to run. It is
        the caller's to end."""
        from engine.plan import Cached

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
