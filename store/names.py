"""Many names by number, in some 5 bytes each beside their text (15 where many are looked for)."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

_ODD: Final = "surrogatepass"
"""Names that are no UTF-8 can be asked for, too."""

_END: Final = b"\0"

FEW: Final = 32
"""Names that are looked for in the text; for more of them there is a table."""


class Names:
    """Names that come once each, numbered from 0 as they come; none holds a NUL.

    They stand one after another, with a NUL before each and behind the last one.
    """

    def __init__(self) -> None:
        self._text = bytearray(_END)
        self._ends = array("I")
        self._places = array("i")
        """By hash, where there is such a table: it is made when many were looked for."""
        self._looks = 0
        self._last = b""
        self.in_order = True
        """Whether they came in the order of their code points."""

    @staticmethod
    def read(plain: Any) -> Names:
        """Return what `plain` gave; no more can be added."""
        names = Names()
        names._text, ends, names.in_order = plain
        names._ends.frombytes(ends)
        return names

    def plain(self) -> Any:
        """Return plain values that it can be made of again."""
        return (self._text, self._ends.tobytes(), self.in_order)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        return self._key(number).decode("utf-8", _ODD)

    def __iter__(self) -> Iterator[str]:
        text = self._text[1:-1].decode("utf-8", _ODD)
        return iter(text.split("\0") if self._ends else ())

    def add(self, name: str) -> int:
        """Add a name that is not there and return its number."""
        return self.add_bytes(name.encode("utf-8", _ODD))

    def add_bytes(self, key: bytes) -> int:
        """Add a name as UTF-8."""
        number = len(self._ends)
        self.in_order = self.in_order and (key > self._last or not number)
        self._last = key
        self._text += key
        self._ends.append(len(self._text))
        self._text += _END
        if self._places:
            if 2 * number > len(self._places):
                self._places = array("i")  # it is made anew, larger, when it is needed
            else:
                self._places[self._free(key)] = number
        return number

    def follows(self, key: bytes) -> bool:
        """Say whether a name would be in order."""
        return key > self._last or not self._ends

    def find(self, name: str) -> int:
        """Return the number of a name, -1 where it is not there."""
        key = name.encode("utf-8", _ODD)
        if not self._places:
            self._looks += 1
            if self._looks <= FEW:
                return self._found(key)
            self._places = array("i", [-1]) * (4 << max(4, len(self._ends).bit_length()))
            for number in range(len(self._ends)):
                self._places[self._free(self._key(number))] = number
        places, ends, text = self._places, self._ends, self._text
        mask = len(places) - 1
        place = hash(key) & mask
        while (number := places[place]) >= 0:
            if text[ends[number - 1] + 1 if number else 1 : ends[number]] == key:
                return number
            place = (place + 1) & mask
        return -1

    def sorted(self) -> range | list[int]:
        """Return all numbers by name; UTF-8 sorts as code points do."""
        numbers = range(len(self._ends))
        return numbers if self.in_order else sorted(numbers, key=self._key)

    def _found(self, key: bytes) -> int:
        """Return the number of a name that is looked for in the text."""
        at = -1 if _END in key else self._text.find(b"%b%b%b" % (_END, key, _END))
        return -1 if at < 0 else bisect_left(self._ends, at + 1 + len(key))

    def _key(self, number: int) -> bytes:
        return bytes(self._text[self._ends[number - 1] + 1 if number else 1 : self._ends[number]])

    def _free(self, key: bytes) -> int:
        """Return the place for a name that is not there yet."""
        places = self._places
        mask = len(places) - 1
        place = hash(key) & mask
        while places[place] >= 0:
            place = (place + 1) & mask
        return place
