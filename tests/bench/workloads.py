"""The named workloads of the bench and how large each of them is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from engine.units import parse_size
from store.errors import BnError
from tests.bench.c_files import c_files
from tests.bench.model import Workload
from tests.bench.projects import project
from tests.bench.shapes import chain, large, layers, many, wide

PROJECTS: Final = ("brotli", "lua", "mbedtls")

SIZES: Final[Mapping[str, str]] = {
    "W1": "1000",
    "W2": "200",
    "W3": "10x100x3",
    "W4": "300",
    "W5": "1000+10000+50000",
    "W6": "1GiB",
    "W7": "20000",
}
"""Independent actions; length; depth × width × inputs; C files (× headers × functions); actions;
bytes; files."""

SMALL: Final[Mapping[str, str]] = {
    "W1": "20",
    "W2": "6",
    "W3": "3x5x2",
    "W4": "6",
    "W5": "10+30",
    "W6": "1MiB",
    "W7": "50",
}
"""Sizes that show soon whether everything works; the C projects have theirs."""

NAMES: Final = (*SIZES, *PROJECTS, "W4c")


def parse_sizes(text: str, sizes: Mapping[str, str]) -> dict[str, str]:
    """Return `sizes` with those of `text`, as `W1=500,W3=20x50x4,W5=100+1000`.

    Raises ValueError for a workload that is not there or a size that is none.
    """
    found = dict(sizes)
    for part in filter(None, text.split(",")):
        name, _, size = part.partition("=")
        if name not in SIZES:
            raise ValueError(f"{name!r} has no size; those that have: {', '.join(SIZES)}")
        found[name] = size
        if name == "W6":
            parse_size(size)
        elif not all(_numbers(one) for one in size.split("+")):
            raise ValueError(f"{part!r}: not a size")
    return found


def _numbers(text: str, *defaults: int) -> list[int]:
    """Return the numbers of a size as `10x100`, and `defaults` for those that are not there."""
    numbers = [int(one) for one in text.split("x")]
    if min(numbers) < 1:
        raise ValueError(f"{text!r}: not a size")
    return [*numbers, *defaults[len(numbers) :]]


def make(
    name: str, sizes: Mapping[str, str], seed: int, every: bool, say: Callable[[str], None]
) -> Iterator[Workload]:
    """Yield the workloads of a name: one, or for W4 and W5 several.

    A project whose sources cannot be had is said and left out.
    """
    size = sizes.get(name, "")
    match name:
        case "W1":
            yield wide(_numbers(size)[0], every=every)
        case "W2":
            yield chain(_numbers(size)[0])
        case "W3":
            depth, width, fan, *_ = _numbers(size, 10, 100, 3)
            yield layers(depth, width, fan, seed)
        case "W4":
            for each in PROJECTS:
                yield from _project(each, say)
            yield from make("W4c", sizes, seed, every, say)
        case "W4c":
            files, headers, functions, *_ = _numbers(sizes["W4"], 300, 0, 12)
            yield c_files(files, headers, functions, seed)
        case "W5":
            for one in size.split("+"):
                number = _numbers(one)[0]
                name = f"W5-{number:,}"
                phases = ("cold", "noop", "leaf")
                yield wide(number, name, phases=phases, cold_once=True)
        case "W6":
            yield large(parse_size(size), seed)
        case "W7":
            yield many(_numbers(size)[0])
        case _:
            yield from _project(name, say)


def _project(name: str, say: Callable[[str], None]) -> Iterator[Workload]:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        try:
            yield project(name, Path(scratch) / "store", Path(scratch) / "sources")
        except BnError as error:
            say(f"{name} left out: {error}")


def known(names: Sequence[str]) -> list[str]:
    """Return names of workloads that there are; raises ValueError for any other."""
    for name in names:
        if name not in NAMES:
            raise ValueError(f"no workload {name!r}; there are {', '.join(NAMES)}")
    return list(names)
