"""What a plan says of its steps, in some 50 bytes each beside their labels."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from engine.remembered import Cached
from store.digest import Digest
from store.records import field, frozen

_LENGTH: Final = 32
_NONE: Final = bytes(_LENGTH)
_CACHED, _RUN, _BLOCKED, _OTHER = range(4)


@frozen
class Run:
    """The step would run now, for this reason.

    Of the action only the digest of its inputs is kept, as bytes: the rest stands in the recipe.
    """

    reason: str
    input_root: bytes | None = field(default=None, eq=False, repr=False)


@frozen
class Blocked:
    """The step waits for others; whether it runs shows when their outputs are known."""

    waits_for: tuple[str, ...]


Step: TypeAlias = Cached | Run | Blocked


class Steps(Mapping[str, Step]):
    """Steps by label, in the order in which they were put; each is made when it is asked for."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.numbers: dict[str, int] = {}
        """The number of each label in that order."""
        self._kinds = bytearray()
        self._digests = bytearray()
        """Of inputs, or outputs."""
        self._more = array("i")
        """The number of the reason or of the action's digest, or where a row of `_waits` begins."""
        self._actions = bytearray()
        self._reasons: dict[str, int] = {}
        self._texts: list[str] = []
        self._waits = array("i")
        """The numbers of those that blocked steps wait for, each row after how many they are."""
        self._others: dict[int, Step] = {}

    def put(self, label: str, step: Step) -> None:
        """Put a step behind all others; once for each label."""
        number = self.numbers[label] = len(self.labels)
        self.labels.append(label)
        kind, digest, more = _OTHER, _NONE, 0
        if isinstance(step, Cached):
            kind, digest = _CACHED, bytes.fromhex(step.outputs)
            more = len(self._actions) // _LENGTH
            self._actions += bytes.fromhex(step.action)
        elif isinstance(step, Run) and step.input_root is not None:
            kind, digest = _RUN, step.input_root
            more = self._reasons.setdefault(step.reason, len(self._texts))
            if more == len(self._texts):
                self._texts.append(step.reason)
        elif isinstance(step, Blocked) and all(map(self.numbers.__contains__, step.waits_for)):
            kind, more = _BLOCKED, len(self._waits)
            self._waits.append(len(step.waits_for))
            self._waits.extend(map(self.numbers.__getitem__, step.waits_for))
        else:
            self._others[number] = step
        self._kinds.append(kind)
        self._digests += digest
        self._more.append(more)

    def is_cached(self, label: str) -> bool:
        """Say whether a step is cached. Raises KeyError where there is none."""
        return self._kinds[self.numbers[label]] == _CACHED

    @property
    def cached(self) -> int:
        """How many steps are cached."""
        return self._kinds.count(_CACHED)

    def __getitem__(self, label: str) -> Step:
        return self._step(self.numbers[label])

    def __contains__(self, label: object) -> bool:
        return label in self.numbers

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    def _step(self, number: int) -> Step:
        kind = self._kinds[number]
        if kind == _OTHER:
            return self._others[number]
        if kind == _BLOCKED:
            start = self._more[number] + 1
            numbers = self._waits[start : start + self._waits[start - 1]]
            return Blocked(tuple(map(self.labels.__getitem__, numbers)))
        digest = bytes(self._digests[_LENGTH * number : _LENGTH * (number + 1)])
        more = self._more[number]
        if kind == _RUN:
            return Run(self._texts[more], digest)
        action = self._actions[_LENGTH * more : _LENGTH * (more + 1)]
        return Cached(Digest(digest.hex()), Digest(action.hex()))
