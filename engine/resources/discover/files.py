"""Small files of /proc and /sys as text, numbers and lists of processors; None where absent."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


def text(path: Path) -> str | None:
    """Return what a file holds, stripped; None where it cannot be read or is empty."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip("\0 \t\n") or None
    except OSError:
        return None


def number(path: Path) -> int | None:
    """Return the whole number in a file, None where there is none."""
    return whole(text(path))


def whole(word: str | None) -> int | None:
    """Return a word as a whole number, decimal or 0x…; None where it is none."""
    try:
        return int(word, 0) if word else None
    except ValueError:
        return int(word) if word and re.fullmatch(r"0\d+", word) else None


def cpu_list(written: str | None) -> tuple[int, ...] | None:
    """Return the processors in a list as `0-3,8`; None where nothing is written."""
    if written is None:
        return None
    cpus: set[int] = set()
    for part in filter(None, re.split(r"[,\s]+", written)):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cpus))


def cpu_mask(written: str | None) -> tuple[int, ...] | None:
    """Return the processors in a mask as `00000000,0000000f`; None where nothing is written."""
    if written is None:
        return None
    try:
        bits = int(written.replace(",", ""), 16)
    except ValueError:
        return None
    return tuple(at for at in range(bits.bit_length()) if bits >> at & 1)


def cpus_of(directory: Path, lists: str, mask: str) -> tuple[int, ...] | None:
    """Return the processors that a directory tells in the file `lists`, or else in `mask`."""
    return cpu_list(text(directory / lists)) or cpu_mask(text(directory / mask))


def numbered(directory: Path, prefix: str) -> Iterator[tuple[int, Path]]:
    """Yield the entries of a directory that are called PREFIX and a number, in order of these."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    found = (re.fullmatch(rf"{re.escape(prefix)}(\d+)", name) for name in names)
    for match in sorted((one for one in found if one), key=lambda one: int(one[1])):
        yield int(match[1]), directory / match[0]


def fields(path: Path) -> dict[str, str]:
    """Return the lines `name: value` of a file, the first of each name."""
    found: dict[str, str] = {}
    for line in (text(path) or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found
