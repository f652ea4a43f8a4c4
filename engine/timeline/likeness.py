"""Likeness: how likely each of the changes since a step last passed is what made it fail.

Every change begins with the same weight; what the log says of it, how far away it lies and whether
others pass in spite of it multiply that. The shares of the weights are the likeness. Part of the
whole is left for what no record shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from attrs import field, frozen

from engine.explain import Change
from engine.timeline.decisive import Line

UNSEEN: Final = 0.15
"""The weight of what nobody recorded."""

NEAR: Final = 3
"""Lines by which the log may be off the changed one and still mean it."""

PART: Final = 5
COMMON: Final = frozenset(("added", "removed", "changed", "error", "default"))
"""Letters of a part of a flag that may be found in a log, and words that say nothing."""

_CHANGED_LINE: Final = re.compile(r"\(line (\d+)\)")


@frozen(kw_only=True)
class Candidate:
    """What may have made a step fail: the change, the steps between where it happened and the
    failed one, its likeness (0 to 1), and what speaks for it and against it."""

    change: Change
    between: tuple[str, ...] = ()
    likeness: float = 0.0
    because: tuple[str, ...] = ()
    weight: float = field(default=1.0, repr=False)

    def __str__(self) -> str:
        """Return it as a phrase: the way from the failed step down to the change."""
        return " ← ".join([*self.between, str(self.change)])


def weighed(
    change: Change, between: Sequence[str], lines: Iterable[Line], others: int
) -> Candidate:
    """Return a candidate with its weight, given the decisive lines of the log and how many other
    steps have the same change and passed."""
    weight = 1.0
    because: list[str] = []
    for factor, reason in _by_log(change, between, list(lines)):
        weight *= factor
        because.append(reason)
    if between:
        weight *= 0.85 ** len(between)
        because.append(f"{len(between)} step{'s' if len(between) > 1 else ''} away")
    if others:
        weight /= 1 + 0.5 * others
        because.append(f"{others} other step{'s' if others > 1 else ''} passed with it")
    return Candidate(change=change, between=tuple(between), because=tuple(because), weight=weight)


def shared(candidates: Iterable[Candidate], most: int = 8) -> tuple[Candidate, ...]:
    """Return the likeliest candidates, with their likeness, the likeliest first."""
    ordered = sorted(candidates, key=lambda one: (-one.weight, len(one.between), str(one)))
    total = sum(one.weight for one in ordered) + UNSEEN
    return tuple(_with(one, one.weight / total) for one in ordered[:most])


def _with(one: Candidate, likeness: float) -> Candidate:
    return Candidate(
        change=one.change,
        between=one.between,
        likeness=round(likeness, 3),
        because=one.because,
        weight=one.weight,
    )


def _by_log(
    change: Change, between: Sequence[str], lines: list[Line]
) -> Iterable[tuple[float, str]]:
    """Yield what the log says for a change: a factor and the reason."""
    if change.kind == "file":
        yield from _file_in_log(change, lines)
    elif change.kind in ("flag", "variable", "parameter", "script"):
        words = [word for word in re.split(r"[\s=→:,]+", change.detail) if len(word) > 2]
        words += [change.name] if len(change.name) > 2 else []
        said = _first(lines, lambda line: any(word in line.text for word in words))
        if said is not None:
            yield 4.0, f"the log says it, line {said.number}"
        else:
            yield from _parts_in_log(change, lines)
    for label in between:
        item = label.partition("[")[2].rstrip("]")
        name = _name(item or label)
        stem = name.rpartition(".")[0] or name
        if _first(lines, lambda line, stem=stem: len(stem) > 1 and _word(stem, line.text)):  # type: ignore[misc]
            yield 2.0, f"the log speaks of {stem}"
            return


def _parts_in_log(change: Change, lines: list[Line]) -> Iterable[tuple[float, str]]:
    """Yield whether the log has a part of a flag or value, as `readline` of `-DUSE_READLINE`."""
    parts = re.split(r"[^a-z0-9]+", f"{change.name} {change.detail}".lower())
    for part in parts:
        if len(part) >= PART and part not in COMMON and any(part in x.text.lower() for x in lines):
            yield 2.5, f"the log speaks of {part}"
            return


def _file_in_log(change: Change, lines: list[Line]) -> Iterable[tuple[float, str]]:
    def is_it(line: Line) -> bool:
        return line.file is not None and _same_file(line.file, change.name)

    missing = _first(
        lines, lambda line: line.missing is not None and _same_file(line.missing, change.name)
    )
    if missing is not None and change.detail.startswith("removed"):
        yield 8.0, f"the log misses it, line {missing.number}"
        return
    named = _first(lines, is_it)
    if named is None:
        if _first(lines, lambda line: _word(_name(change.name), line.text)) is not None:
            yield 3.0, f"the log speaks of {_name(change.name)}"
        return
    yield 6.0, f"the log names it, line {named.number}"
    place = _CHANGED_LINE.search(change.detail)
    if place is None:
        return
    changed = int(place[1])
    near = _first(
        lines,
        lambda line: is_it(line) and line.line is not None and abs(line.line - changed) <= NEAR,
    )
    if near is not None:
        yield 2.0, "where it changed" if near.line == changed else "near to where it changed"


def _first(lines: list[Line], test: Callable[[Line], bool]) -> Line | None:
    return next((line for line in lines if test(line)), None)


def _same_file(said: str, path: str) -> bool:
    """Say whether a log that names `said` means the input at `path`."""
    said = said.removeprefix("/build/").removeprefix("./")
    return path == said or path.endswith(f"/{said}") or said.endswith(f"/{path}")


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _word(word: str, text: str) -> bool:
    return bool(word) and re.search(rf"(?<![\w.]){re.escape(word)}(?![\w])", text) is not None
