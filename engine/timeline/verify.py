"""Verification of a timeline: whether every event is there, as it was written, and in its place."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from engine.timeline.chain import Head, Linked, beginning, taken_apart
from engine.timeline.log import NAME, noted_head
from store.errors import InputError, host_error
from store.records import frozen
from store.store import Store

SHOWN: Final = 120
"""Bytes of a line that is no event which a fault shows at most."""


@frozen(kw_only=True)
class Fault:
    """Something wrong with a timeline: the number of the event it is about (from 1), and what."""

    number: int
    problem: str

    def __str__(self) -> str:
        """Return it as a phrase."""
        return f"event {self.number}: {self.problem}"


@frozen(kw_only=True)
class Verified:
    """What a timeline is: how many events were found, whether its end was noted (else bn was killed
    before, and it is as whole as it can be), and what is wrong with it, in order."""

    build: str
    events: int
    ended: bool
    faults: tuple[Fault, ...]


def verify(store: Store, build: str) -> Verified:
    """Check the timeline of a build. Raises InputError where it has no chain, HostError where it
    cannot be read."""
    path: Path = store.root / "builds" / build / NAME
    try:
        data = path.read_bytes()
    except OSError as error:
        raise host_error(error, "cannot read the timeline") from error
    return check(build, data, noted_head(store, build))


def check(build: str, data: bytes, head: Head | None) -> Verified:
    """Check the bytes of a timeline against what was noted of its end, if anything was."""
    *lines, torn = data.split(b"\n")
    links = [taken_apart(line) for line in lines]
    if lines and head is None and not any(links):
        raise InputError(
            f"build {build}: its timeline has no chain", "an earlier version of bn wrote it"
        )
    faults = [*_numbering(lines, links), *_changes(build, links)]
    last = max((one.number for one in links if one is not None), default=0)
    if head is not None:
        faults += _end(head, last, links, torn)
    faults.sort(key=lambda fault: fault.number)
    events = sum(one is not None for one in links)
    return Verified(build=build, events=events, ended=head is not None, faults=tuple(faults))


def _numbering(lines: Sequence[bytes], links: Sequence[Linked | None]) -> Iterator[Fault]:
    """Yield what the numbers of the events show: lost, moved and repeated ones, and lines that are
    none."""
    known = {one.number for one in links if one is not None}
    seen: set[int] = set()
    before = 0
    unreadable: set[int] = set()
    for line, one in zip(lines, links, strict=True):
        if one is None:
            before += 1
            unreadable.add(before)
            text = line[:SHOWN].decode(errors="backslashreplace")
            yield Fault(number=before, problem=f"is no event, but {text!r}")
            continue
        if one.number in seen:
            yield Fault(number=one.number, problem=f"{_name(one)} stands there twice")
        elif one.number < before:
            problem = f"{_name(one)} stands after event {before}"
            yield Fault(number=one.number, problem=problem)
        before = max(before, one.number)
        seen.add(one.number)
    lost = [n for n in range(1, before) if n not in known and n not in unreadable]
    for first, last in _runs(lost):
        text = "is missing" if first == last else f"and those up to {last} are missing"
        yield Fault(number=first, problem=text)


def _changes(build: str, links: Sequence[Linked | None]) -> Iterator[Fault]:
    """Yield the events that are not what was written after the one before."""
    link_of = {one.number: one.link for one in reversed(links) if one is not None}
    link_of[0] = beginning(build).link
    for one in links:
        if one is None or one.number - 1 not in link_of:
            continue
        if not one.follows(link_of[one.number - 1]):
            whole = "" if one.number == 1 else f", or event {one.number - 1} has another link"
            yield Fault(number=one.number, problem=f"{_name(one)} was changed{whole}")


def _end(head: Head, last: int, links: Sequence[Linked | None], torn: bytes) -> Iterator[Fault]:
    """Yield what is wrong with the end, given how it was noted."""
    if last < head.events:
        rest = "is" if last + 1 == head.events else f"and those up to {head.events} are"
        how = "cut off" if torn else "missing at the end"
        yield Fault(number=last + 1, problem=f"{rest} {how}")
    elif torn:
        yield Fault(number=last + 1, problem="was begun after the build's end")
    elif last > head.events:
        yield Fault(number=head.events + 1, problem="was not there at the build's end")
    elif not any(one and (one.number, one.link) == (last, head.link) for one in links):
        yield Fault(number=last, problem="has not the link that was noted at the build's end")


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of each run of numbers that follow each other."""
    first = None
    for position, number in enumerate(numbers):
        first = number if first is None else first
        if position + 1 == len(numbers) or numbers[position + 1] != number + 1:
            yield first, number
            first = None


def _name(one: Linked) -> str:
    """Return what an event says that it is."""
    try:
        event = json.loads(one.body)
    except ValueError:
        return "(unreadable)"
    label = event.get("label")
    return f"({event.get('event')}{f' of {label}' if label else ''})"
