"""What kind of difference it is: recognised in the bytes around the first one.

A guess, and said to be one: each rule looks at what two outputs have at the same place.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from datetime import UTC, datetime
from typing import Final

AROUND: Final = 48
"""Bytes before and after a difference that are looked at."""

UNKNOWN: Final = "unknown"
"""How a kind begins that was not recognised."""

LARGEST: Final = 16 << 20
"""Bytes up to which files are looked at as a whole."""

_EPOCH: Final = re.compile(rb"(?<!\d)1[0-9]{9}(?:\.?\d{3,9})?(?!\d)")
_CLOCK: Final = re.compile(
    rb"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?|(?:19|20)\d\d[-/]?[01]\d[-/]?[0-3]\d"
    rb"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.? +\d"
    rb"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*\b"
)
_ADDRESS: Final = re.compile(rb"0x[0-9a-fA-F]{6,16}\b|\b(?:7f|55|56)[0-9a-f]{10}\b")
_PATH: Final = re.compile(rb"(?:/[\w.+@-]+){2,}/?")
_RANDOM: Final = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-fA-F]{16,}\b"
)
_NUMBER: Final = re.compile(rb"(?<![\d.])\d{1,7}(?![\d.])")
_WORD: Final = re.compile(rb"[\w.+-]+")


def kind_of(
    before: bytes, after: bytes, began: tuple[float | None, float], words: frozenset[str]
) -> str:
    """Return in words what kind of difference there is between two files.

    `began` are when the two actions ran, in seconds since 1970, None if that is unknown; `words`
    are those that stand for the surroundings, as host names.
    """
    at = first_difference(before, after)
    if max(len(before), len(after)) <= LARGEST:
        order = _order(before, after)
        if order:
            return order
    a, b = _window(before, at), _window(after, at)
    for found in (
        _host(a, b, words),
        _text_time(a, b),
        _binary_time(before, after, at, began),
        _binary_address(before, after, at),
        _differs_in(a, b, _ADDRESS, "an address in memory"),
        _differs_in(a, b, _RANDOM, "something random, an identifier say"),
        _differs_in(a, b, _PATH, "a path"),
        _number(a, b),
    ):
        if found:
            return found
    if len(before) != len(after):
        return f"{UNKNOWN} (sizes {len(before)} and {len(after)})"
    return f"{UNKNOWN}: random, or a race between threads"


def first_difference(before: bytes, after: bytes) -> int:
    """Return the offset of the first byte that is not the same; the shorter one's end at last."""
    low, high = 0, min(len(before), len(after))
    if before[:high] == after[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _window(data: bytes, at: int) -> bytes:
    return data[max(0, at - AROUND) : at + AROUND]


def _order(before: bytes, after: bytes) -> str:
    """Recognise the same parts in another order: lines, else words, else bytes in 16s."""
    if len(before) != len(after):
        return ""
    for parts, name in (
        ((before.splitlines(), after.splitlines()), "lines"),
        ((_WORD.findall(before), _WORD.findall(after)), "words"),
    ):
        if len(parts[0]) > 1 and Counter(parts[0]) == Counter(parts[1]) and parts[0] != parts[1]:
            return f"the order: the same {name}, in another one"
    blocks = [[data[n : n + 512] for n in range(0, len(data), 512)] for data in (before, after)]
    if len(blocks[0]) > 2 and Counter(blocks[0]) == Counter(blocks[1]):
        return "the order: the same blocks, in another one"
    return ""


def _host(a: bytes, b: bytes, words: frozenset[str]) -> str:
    for word in words:
        text = word.encode()
        if (text in a) != (text in b):
            return f"the host's name, {word!r}"
    return ""


def _text_time(a: bytes, b: bytes) -> str:
    for pattern in (_EPOCH, _CLOCK):
        ours, theirs = pattern.findall(a), pattern.findall(b)
        if ours and theirs and ours != theirs:
            one, other = (
                next((x, y) for x, y in zip(ours, theirs, strict=False) if x != y)
                if (len(ours) == len(theirs))
                else (ours[0], theirs[0])
            )
            return f"a time stamp: {one.decode()!r} and {other.decode()!r}"
    return ""


def _binary_time(before: bytes, after: bytes, at: int, began: tuple[float | None, float]) -> str:
    """Recognise four or eight bytes that are seconds near the two runs, in either byte order."""
    for start in range(max(0, at - 7), at + 1):
        for form, size in (("<I", 4), (">I", 4), ("<Q", 8), (">Q", 8)):
            pair = before[start : start + size], after[start : start + size]
            if len(pair[0]) < size or len(pair[1]) < size or pair[0] == pair[1]:
                continue
            seconds = [struct.unpack(form, one)[0] for one in pair]
            for unit in (1, 1000, 10**6, 10**9):
                scaled = [one / unit for one in seconds]
                if all(map(_is_near, scaled, began)):
                    stamp = datetime.fromtimestamp(scaled[0], UTC)
                    return f"a time stamp, in binary: {stamp:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def _is_near(seconds: float, when: float | None) -> bool:
    """Say whether a number of seconds may be a time near `when`; if unknown, since 2001."""
    return 1e9 < seconds < 4e9 if when is None else abs(seconds - when) < 3 * 86400


def _binary_address(before: bytes, after: bytes, at: int) -> str:
    """Recognise eight bytes that are addresses of a program or of its stack on 64-bit Linux."""
    for start in range(max(0, at - 7), at + 1):
        pair = [data[start : start + 8] for data in (before, after)]
        if all(len(one) == 8 for one in pair):
            numbers = [int.from_bytes(one, "little") for one in pair]
            if all(0x5500_0000_0000 <= one < 0x8000_0000_0000 for one in numbers):
                return f"an address in memory, in binary: {numbers[0]:#x} and {numbers[1]:#x}"
    return ""


def _differs_in(a: bytes, b: bytes, pattern: re.Pattern[bytes], what: str) -> str:
    ours, theirs = pattern.findall(a), pattern.findall(b)
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            return f"{what}: {_shown(one)} and {_shown(other)}"
    return ""


def _number(a: bytes, b: bytes) -> str:
    ours, theirs = _NUMBER.findall(a), _NUMBER.findall(b)
    if len(ours) != len(theirs):
        return ""
    for one, other in zip(ours, theirs, strict=True):
        if one != other:
            return (
                f"a number: {one.decode()} and {other.decode()} "
                "(a process id, a count of processors, something measured or random)"
            )
    return ""


def _shown(data: bytes) -> str:
    return repr(data.decode(errors="backslashreplace"))
