"""The stock: what bytes mean, worked out before they are needed; a process has it from the one that
it was forked from.

A value is kept under the bytes that it is made of, or their digest, and is a function of nothing
else. So it makes nothing true that is not: who uses it has read these bytes, or their digest, just
now, from the place that counts. Values are shared and must not be changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar

Value = TypeVar("Value")

MEMO: Final = "memo"
"""The digest at the head of a memo → its value."""
ROW: Final = "row"
"""The bytes of a row of the stat cache → its value."""
TREE: Final = "tree"
"""The digest of a tree → the tree."""
CELL: Final = "cell"
"""The kind of the first sandbox that was asked for: only ever missed."""

EARLY: Final = "early"
"""That what was asked for had been worked out before: only ever missed."""

LARGE: Final = 4096
"""Bytes from which on something is worth keeping."""

MOST_NOTED: Final = 8 << 20
"""Bytes of what was missed that are noted: the last ones."""

_values: dict[tuple[str, Hashable], Any] = {}
_missed: deque[tuple[str, str | bytes]] | None = None
_bytes = 0


def known(kind: str, key: Hashable) -> Any:
    """Return what is in stock, else None."""
    return _values.get((kind, key))


def made(kind: str, key: Hashable, source: str | bytes, make: Callable[[], Value]) -> Value:
    """Return what is in stock, else what `make` gives, noting that it was made of `source`."""
    value: Value | None = _values.get((kind, key))
    if value is None:
        value = make()
        missed(kind, source)
    return value


def missed(kind: str, source: str | bytes) -> None:
    """Note what it would have been well to have: a memo's path, a kind of sandbox, or large
    bytes."""
    global _bytes
    if _missed is None or (kind in (ROW, TREE) and len(source) < LARGE):
        return
    _missed.append((kind, source))
    _bytes += len(source)
    while _bytes > MOST_NOTED:
        _bytes -= len(_missed.popleft()[1])


def note() -> None:
    """Begin to note what is missed."""
    global _missed, _bytes
    _missed, _bytes = deque(), 0


def noted() -> list[tuple[str, str | bytes]]:
    """Return what was missed."""
    return list(_missed or ())


def put(kind: str, key: Hashable, value: Any) -> None:
    """Take a value into stock."""
    _values[kind, key] = value


def drop(kind: str, key: Hashable) -> None:
    """Take a value out of stock."""
    _values.pop((kind, key), None)
