"""The actions of a build: those that run, and by digest those that ran."""

from __future__ import annotations

from array import array
from typing import Final

from engine.resolve import Resolved
from engine.seats import Turn
from store.digest import Digest
from store.records import field, frozen

_LENGTH: Final = 32


@frozen
class Running:
    """An execution under way and the steps that wait for it: identical actions run once."""

    turn: Turn
    resolved: Resolved
    labels: list[str] = field(factory=list)


class Finished:
    """Which step an action was that ran already: a hash table in some 60 bytes an action."""

    def __init__(self, most: int) -> None:
        """Make room for `most` actions."""
        self._labels: list[str] = []
        self._digests = bytearray()
        self._mask = (1 << (2 * most).bit_length()) - 1
        self._places = array("l", [-1]) * (self._mask + 1)

    def step(self, action: Digest) -> str | None:
        """Return the step that the action was; None where it did not run."""
        number = self._places[self._place(bytes.fromhex(action))]
        return None if number < 0 else self._labels[number]

    def note(self, action: Digest, label: str) -> None:
        """Note that an action ran, as this step."""
        digest = bytes.fromhex(action)
        self._places[self._place(digest)] = len(self._labels)
        self._labels.append(label)
        self._digests += digest

    def _place(self, digest: bytes) -> int:
        """Return where a digest stands, or would stand."""
        place = int.from_bytes(digest[:8], "little") & self._mask
        while (number := self._places[place]) >= 0:
            if self._digests.startswith(digest, _LENGTH * number):
                break
            place = (place + 1) & self._mask
        return place
