"""Processors given to actions and taken back: never one to two of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.places import Places, Thread


class Pins:
    """The processors of each node, the preferred ones first, and which of them are free."""

    def __init__(self, threads: Mapping[str, Sequence[Thread]], own: bool) -> None:
        self._own = own
        self._all = {name: tuple(one.cpu for one in some) for name, some in threads.items()}
        self._threads = threads
        self._taken: set[int] = set()

    @classmethod
    def of(cls, places: Places) -> Pins | None:
        """Return the pins of a build, None where actions are not pinned."""
        return cls(places.threads, places.own) if places.threads else None

    def take(self, node: str, count: int) -> tuple[int, ...]:
        """Return the processors for an action that holds `count` of a node's."""
        if not self._own:
            return self._all[node]
        free = [one for one in self._threads[node] if one.cpu not in self._taken]
        cpus = tuple(one.cpu for one in choose(free, count))
        self._taken.update(cpus)
        return cpus

    def hold(self, cpus: Iterable[int]) -> None:
        """Take these processors."""
        if self._own:
            self._taken.update(cpus)

    def give(self, cpus: Iterable[int]) -> None:
        """Take them back."""
        self._taken.difference_update(cpus)


def choose(free: Sequence[Thread], count: int) -> list[Thread]:
    """Return `count` of the free processors, less where there are not so many.

    One comes in order of preference. Several come from one NUMA node if one has enough, from the
    one that has least more; whole cores first.
    """
    if count <= 1:
        return list(free[:count])
    by_numa: dict[int | None, list[Thread]] = {}
    for one in free:
        by_numa.setdefault(one.numa, []).append(one)
    enough = [some for some in by_numa.values() if len(some) >= count]
    some = min(enough, key=len) if enough else list(free)
    siblings: dict[int, int] = {}
    for one in some:
        siblings[one.core] = siblings.get(one.core, 0) + 1
    first: dict[int, int] = {}
    for place, one in enumerate(some):
        first.setdefault(one.core, place)
    some = sorted(some, key=lambda one: (-siblings[one.core], first[one.core]))
    return some[:count]
