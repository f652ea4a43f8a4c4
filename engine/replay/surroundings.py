"""Ways to make the surroundings of an action other ones: `--perturb`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from typing import Final

from executors.perturbed import Surroundings, clock
from store.errors import InputError

KINDS: Final = {
    "host": "another host name",
    "processors": "another number of processors",
    "time": "another day (where libfaketime is installed)",
    "order": "directories that list their entries in another order",
    "addresses": "other addresses in memory",
    "load": "all processors busy",
}
"""What can be another one, in words."""

NAMES: Final = {
    "host": "the host's name",
    "processors": "the number of processors",
    "time": "a time stamp",
    "order": "the order in which a directory lists its entries",
    "addresses": "an address in memory",
}
"""What an output depends on that is another one for one of these alone."""

DAYS: Final = 400
"""How far the clock is ahead: another year, month, day of the month and of the week."""


def kinds_of(text: str) -> tuple[str, ...]:
    """Return the kinds that a list with commas names; `all` is every one. Raises InputError."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if names == ("all",):
        return tuple(KINDS)
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        raise InputError(f"--perturb {text}: unknown", f"one or more of {', '.join(KINDS)}, or all")
    return names


def possible(kinds: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return those of some kinds that this machine can do, and why it cannot do the others."""
    reasons: dict[str, str] = {}
    if clock() is None:
        reasons["time"] = "libfaketime is not installed: the clock only moves on as it does"
    if len(os.sched_getaffinity(0)) == 1:
        reasons["processors"] = "there is one processor only"
    left = tuple(kind for kind in kinds if kind not in reasons)
    return left, tuple(f"{kind}: {reasons[kind]}" for kind in kinds if kind in reasons)


def surroundings(kinds: Collection[str]) -> Surroundings:
    """Return the surroundings in which all of these are other ones."""
    usual = Surroundings()
    return Surroundings(
        host_name="another-host" if "host" in kinds else usual.host_name,
        processors=1 if "processors" in kinds else None,
        days=DAYS if "time" in kinds else 0,
        other_order="order" in kinds,
        addresses="addresses" in kinds,
    )


@contextlib.contextmanager
def load(kinds: Collection[str]) -> Iterator[None]:
    """Keep all processors busy while the context lasts, if that is one of the kinds."""
    number = len(os.sched_getaffinity(0)) if "load" in kinds else 0
    argv = [sys.executable, "-I", "-S", "-c", "while True: pass"]
    busy = [subprocess.Popen(argv, stdin=subprocess.DEVNULL) for _ in range(number)]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()
