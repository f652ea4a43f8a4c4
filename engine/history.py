"""History: what each step of a spec was when it was last looked at, and how long it took."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from store.digest import Digest, digest_bytes
from store.errors import BnError
from store.index import Table, Write, to_json
from store.objects import Action
from store.records import field_names, frozen
from store.store import Store

KEPT = 8
"""Actions that are remembered for a step, newest first."""


RECENT: Final = 16
"""Steps whose pasts are kept at hand."""

TOGETHER: Final = 4096
"""Steps that are looked for at once."""


@frozen(kw_only=True)
class Past:
    """One action that a step was: in which build it was seen last, whether it ran there, and, from
    the last time that it ran, its duration in seconds, its peak memory in bytes, its log, and the
    speed of a processor of the node where it ran (BPU; 0: nobody measured it)."""

    action: Digest
    build: str
    ran: bool = False
    failed: bool = False
    seconds: float = 0.0
    peak_memory: int = 0
    log: Digest | None = None
    speed: float = 0.0


_MEMBERS = dict.fromkeys(field_names(Past)).keys()
_ALWAYS = dict.fromkeys(("action", "build")).keys()
"""What is noted also where it says nothing."""

_OF_RUNS: Final = ("seconds", "peak_memory", "log", "speed")


class _Numbered:
    """A set of labels, each of which has a number: a byte for each number."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self._there = bytearray(len(numbers))

    def __contains__(self, label: object) -> bool:
        number = self._numbers.get(label) if isinstance(label, str) else None
        return number is not None and self._there[number] == 1

    def update(self, labels: Iterable[str]) -> None:
        """Put in labels that have numbers."""
        for label in labels:
            self._there[self._numbers[label]] = 1

    def discard(self, label: str) -> None:
        """Take out a label."""
        if label in self:
            self._there[self._numbers[label]] = 0


class History:
    """The past of the steps of one spec."""

    def __init__(self, store: Store, spec: Path) -> None:
        self._store = store
        self._spec = spec
        self._new: set[str] | _Numbered = set()
        """Steps that are known to have no past."""
        self._recent: dict[str, list[Past]] = {}
        """The pasts of steps that were asked for last: most are asked for twice."""

    def look(self, labels: Iterable[str], numbers: Mapping[str, int] | None = None) -> None:
        """Find out which of many steps have no past, in the order in which that is quickest: to
        look for each by itself takes longer the larger the store is. `numbers` count all labels
        that there are, from 0; then less has to be kept."""
        if numbers is not None:
            self._new = _Numbered(numbers)
        pending = iter(labels)
        while some := list(itertools.islice(pending, TOGETHER)):
            keys = {self._key(label): label for label in some}
            there = self._store.index.there(Table.HISTORY, keys)
            self._new.update(label for key, label in keys.items() if key not in there)

    def is_new(self, label: str) -> bool:
        """Say whether a step is known to have no past."""
        return label in self._new

    def of(self, label: str) -> Sequence[Past]:
        """Return the remembered actions of a step, the last one first."""
        if label in self._new:
            return []
        pasts = self._recent.get(label)
        if pasts is None:
            pasts = [Past(**row) for row in self._rows(self._key(label))]
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[label] = pasts
        return pasts

    def actions(self, pasts: Iterable[Past]) -> Iterator[Action]:
        """Yield those remembered actions that are still in the store."""
        for past in pasts:
            try:
                yield Action.decode(self._store.cas.get_bytes(past.action))
            except BnError:
                continue

    def seconds(self, label: str, default: float = 1.0, neutral: float = 1.0) -> float:
        """Return how long the step took when it ran last, as `cost` does."""
        return self.cost(label, default, neutral)[0]

    def cost(self, label: str, default: float = 1.0, neutral: float = 1.0) -> tuple[float, int]:
        """Return how long the step took when it ran last, and its peak of memory in bytes when it
        last succeeded, else when it last ran; 0 where that is not known.

        The seconds are those at speed 1 (BPU); where it ran at a speed that nobody had measured,
        that counts as `neutral`.
        """
        pasts = self.of(label)
        ran = next((past for past in pasts if past.seconds), None)
        seconds = default if ran is None else ran.seconds * (ran.speed or neutral)
        peaks = [past for past in pasts if past.peak_memory]
        good = next((past for past in peaks if not past.failed), peaks[0] if peaks else None)
        return seconds, good.peak_memory if good else 0

    def news(self, actions: Mapping[str, Digest]) -> set[str]:
        """Return the labels of those steps that were another action when they were noted last."""
        keys = {label: self._key(label) for label in actions}
        rows = self._store.index.get_many(Table.HISTORY, keys.values())
        return {
            label
            for label, action in actions.items()
            if not rows.get(keys[label], b"").startswith(b'[{"action":"%s"' % action.encode())
        }

    def note(self, label: str, past: Past) -> Write:
        """Return the write that puts `past` in front of the step's history."""
        key = self._key(label)
        rows = [] if label in self._new else self._rows(key)
        self._new.discard(label)
        self._recent.pop(label, None)
        first = {
            name: value for name in _MEMBERS if (value := getattr(past, name)) or name in _ALWAYS
        }
        for row in rows:
            if row["action"] == past.action and not past.ran:
                first |= {name: row[name] for name in _OF_RUNS if name in row}
        others = [row for row in rows if row["action"] != past.action]
        return (Table.HISTORY, key, to_json([first, *others[: KEPT - 1]]))

    def _rows(self, key: str) -> list[dict[str, Any]]:
        data = self._store.index.get(Table.HISTORY, key)
        try:
            rows: list[dict[str, Any]] = json.loads(data) if data else []
            return rows if all(_ALWAYS <= row.keys() <= _MEMBERS for row in rows) else []
        except (ValueError, AttributeError, TypeError):
            return []

    def _key(self, label: str) -> str:
        return digest_bytes(f"{self._spec}\0{label}".encode())
