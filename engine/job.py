"""What a build is about: one record, made by the session, read by all that have a part in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from engine.begun import Asked
from engine.graph import Graph
from engine.history import History
from engine.placement import Node
from engine.places import Places
from engine.plan import Plan
from engine.timeline.events import Event
from executors.base import Executor
from store.records import frozen
from store.store import Store

if TYPE_CHECKING:
    from engine.remote.sharing import Sharing
    from engine.seats import Seats


@frozen(kw_only=True)
class Options:
    """How to go about a build: what runs at a time, what to do after a failure."""

    node: Node | None = None
    """Where it runs, if that is all that there is to say of it; else `places` says more."""
    places: Places | None = None
    keep_going: bool = False
    keep_failed: bool = False
    sharing: Sharing | None = None
    """The part of remote caches, where there are any."""
    asked: Asked = Asked()
    look: Iterator[bool] = iter(())
    """Looks at what was taken for granted, for whenever there is time before the end: False, where
    something is not as it was taken to be."""
    around: Callable[[Job, Seats], Seats] | None = None
    """Makes seats that stand in front of the build's: a debugger's."""


@frozen(kw_only=True)
class Job:
    """A build by name: what `plan` says of the steps of `graph`, done by `executor`, with all that
    happens told to `emit`."""

    build: str
    graph: Graph
    plan: Plan
    store: Store
    executor: Executor
    history: History
    options: Options
    emit: Callable[[Event], None]

    @property
    def places(self) -> Places:
        """Where it runs."""
        options = self.options
        if options.places is not None:
            return options.places
        assert options.node is not None
        return Places(nodes=(options.node,), memory=options.node.memory)
