"""Faults of a spec: what is wrong, where, and what was probably meant."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from store.errors import InputError
from store.records import frozen

KeyPath: TypeAlias = tuple[str | int, ...]
"""Where a value stands in a TOML document: table and key names, and positions in arrays."""


@frozen
class Fault:
    """One thing that is wrong in the spec file `file` at `path` (of its key, with `at_key`)."""

    file: Path
    path: KeyPath
    message: str
    hint: str = ""
    at_key: bool = False


@frozen
class PlacedFault:
    """A fault with its line and column, both from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str

    def render(self) -> str:
        """Return `file:line:column: message` and, indented, the hint."""
        text = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text


class SpecError(InputError):
    """All faults that were found in a spec and the files that it names."""

    def __init__(self, faults: Iterable[PlacedFault]) -> None:
        self.faults = sorted(set(faults), key=lambda f: (f.file, f.line, f.column, f.message))
        super().__init__("\n".join(fault.render() for fault in self.faults))


def spec_error(faults: Iterable[Fault]) -> SpecError:
    """Return the error that shows `faults` at their places."""
    from engine.spec.position import Positions

    texts: dict[Path, Positions] = {}
    placed = []
    for fault in faults:
        if fault.file not in texts:
            texts[fault.file] = Positions(fault.file)
        line, column = texts[fault.file].find(fault.path, at_key=fault.at_key)
        placed.append(PlacedFault(shown(fault.file), line, column, fault.message, fault.hint))
    return SpecError(placed)


def located(fault: Fault) -> str:
    """Return `file:line:column: message` of a fault."""
    return spec_error([fault]).faults[0].render()


def shown(path: Path) -> str:
    """Return `path` as a person would write it: relative where it lies below here."""
    text = os.path.relpath(path)
    return str(path) if text.startswith("..") else text


def nearest(name: str, names: Iterable[str], what: str = "") -> str:
    """Return the hint that names what `name` may have meant, else what there is."""
    import difflib

    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not known:
        return f"there are no {what}" if what else ""
    more = ", …" if len(known) > 8 else ""
    return f"{what or 'known'}: {', '.join(known[:8])}{more}"
