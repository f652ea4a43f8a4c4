"""What waits for its turn, by rank: as a heap, or for thousands whose ranks are known beforehand in
a few bytes each."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, TypeAlias

Entry: TypeAlias = tuple[float, str, str, bytes, float]
"""A step: its rank, negative; its label, the reason for which it runs, the digest of its inputs,
and since when it waits."""

MANY: Final = 256
"""Steps of a build from which on `Ranked` is worth while."""

_LENGTH: Final = 32


class Line(Protocol):
    """Steps that wait: the one of the highest rank is the first, of equal ones by label."""

    def __len__(self) -> int: ...

    def push(self, entry: Entry) -> None:
        """Let a step wait."""

    def pop(self) -> Entry:
        """Take out the first one. Raises IndexError where there is none."""
        ...

    def remove(self, label: str) -> Entry:
        """Take out a step that waits."""
        ...


class Heap:
    """Steps of which nothing is known before they come."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, entry: Entry) -> None:
        """Let a step wait."""
        heapq.heappush(self._heap, entry)

    def pop(self) -> Entry:
        """Take out the first one. Raises IndexError where there is none."""
        return heapq.heappop(self._heap)

    def remove(self, label: str) -> Entry:
        """Take out a step that waits."""
        (entry,) = (one for one in self._heap if one[1] == label)
        self._heap.remove(entry)
        heapq.heapify(self._heap)
        return entry


class Ranked:
    """Steps whose ranks are known: each has a place in the order of all, and waits there."""

    def __init__(
        self, labels: Sequence[str], numbers: Mapping[str, int], ranks: Sequence[float]
    ) -> None:
        """Take all steps by number; `ranks` are those with which they will come."""
        order = sorted(range(len(labels)), key=labels.__getitem__)
        order.sort(key=ranks.__getitem__, reverse=True)
        self._labels, self._numbers, self._ranks = labels, numbers, ranks
        self._order = array("i", order)
        self._places = array("i", [0]) * len(order)
        for place, number in enumerate(order):
            self._places[number] = place
        self._waits = bytearray(len(order))
        self._first = 0
        """Nothing waits at a place before this one."""
        self._many = 0
        self._reasons: dict[str, int] = {}
        self._texts: list[str] = []
        self._why = array("i", [0]) * len(order)
        self._inputs = bytearray(_LENGTH * len(order))
        self._since = array("d", [0.0]) * len(order)

    def __len__(self) -> int:
        return self._many

    def push(self, entry: Entry) -> None:
        """Let a step wait."""
        _, label, reason, inputs, since = entry
        number = self._numbers[label]
        place = self._places[number]
        why = self._reasons.setdefault(reason, len(self._texts))
        if why == len(self._texts):
            self._texts.append(reason)
        self._why[number] = why
        self._inputs[_LENGTH * number : _LENGTH * (number + 1)] = inputs
        self._since[number] = since
        self._many += not self._waits[place]
        self._waits[place] = 1
        self._first = min(self._first, place)

    def pop(self) -> Entry:
        """Take out the first one. Raises IndexError where there is none."""
        place = self._waits.find(1, self._first)
        if place < 0:
            raise IndexError
        self._first = place
        return self._take(place)

    def remove(self, label: str) -> Entry:
        """Take out a step that waits."""
        return self._take(self._places[self._numbers[label]])

    def _take(self, place: int) -> Entry:
        number = self._order[place]
        self._many -= self._waits[place]
        self._waits[place] = 0
        return (
            -self._ranks[number],
            self._labels[number],
            self._texts[self._why[number]],
            bytes(self._inputs[_LENGTH * number : _LENGTH * (number + 1)]),
            self._since[number],
        )
