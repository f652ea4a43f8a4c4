"""What was done to a timeline is found, at the event to which it was done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.timeline.chain import Head, beginning, following, taken_apart
from engine.timeline.events import BuildFinished, BuildStarted, Event, StepSkipped
from engine.timeline.log import NAME, TimelineLog, append, noted_head, read_timeline
from engine.timeline.verify import Verified, check, verify
from store.errors import InputError
from store.store import Store

BUILD = "20261121-120000-000000-1"
SKIPPED = [StepSkipped(label=f"step {number}", because="x") for number in range(10)]
EVENTS: list[Event] = [
    BuildStarted(build=BUILD, spec="s", targets=("x",), steps=10, cached=0),
    *SKIPPED,
    BuildFinished(build=BUILD, status="ok", counts={}, seconds=1.0),
]
COUNT = len(EVENTS)


def written() -> tuple[list[bytes], Head]:
    """Return the lines of a timeline, and its head."""
    from engine.timeline.chain import Chain
    from engine.timeline.events import to_document

    chain = Chain(beginning(BUILD))
    bodies = [json.dumps(to_document(event, 1.5), separators=(",", ":")) for event in EVENTS]
    lines = [chain.line(body.encode()) for body in bodies]
    return lines, chain.head


LINES, HEAD = written()
places = st.integers(0, COUNT - 1)


def checked(lines: list[bytes], head: Head | None = HEAD) -> Verified:
    return check(BUILD, b"".join(lines), head)


def numbers(lines: list[bytes], head: Head | None = HEAD) -> list[int]:
    return [fault.number for fault in checked(lines, head).faults]


def test_a_timeline_as_it_was_written() -> None:
    found = checked(LINES)
    assert (found.events, found.ended, found.faults) == (COUNT, True, ())


@given(places, st.data())
def test_any_other_byte_is_found_at_its_event(place: int, data: st.DataObject) -> None:
    line = LINES[place]
    at = data.draw(st.integers(0, len(line) - 2))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (line[at], 10)))
    changed = line[:at] + bytes([other]) + line[at + 1 :]
    found = numbers([*LINES[:place], changed, *LINES[place + 1 :]])
    assert found
    # a link that is another one shows at the event itself and at the next
    assert found[0] in (place + 1, place) or at > line.rindex(b'"chain"')


@given(places, st.integers(1, 4))
def test_events_cut_out_are_found(place: int, count: int) -> None:
    found = checked([*LINES[:place], *LINES[place + count :]])
    assert found.faults[0].number == place + 1
    assert "missing" in found.faults[0].problem
    assert len(found.faults) == 1


@given(places, places)
def test_swapped_events_are_found(one: int, other: int) -> None:
    one, other = sorted((one, other))
    lines = list(LINES)
    lines[one], lines[other] = lines[other], lines[one]
    found = checked(lines).faults
    if one == other:
        assert not found
        return
    assert found[0].number == one + 1
    assert f"stands after event {other + 1}" in found[0].problem
    assert all("changed" not in fault.problem for fault in found)


@given(places)
def test_an_event_that_stands_twice_is_found(place: int) -> None:
    found = checked([*LINES[: place + 1], LINES[place], *LINES[place + 1 :]]).faults
    assert [(fault.number, "twice" in fault.problem) for fault in found] == [(place + 1, True)]


@given(places)
def test_an_event_linked_anew_is_found_at_the_next(place: int) -> None:
    """Somebody who knows how links are made changed one event and its own link."""
    before = taken_apart(LINES[place - 1].strip()) if place else None
    body = b'{"event":"StepSkipped","label":"other"}'
    link = following(before.link if before else beginning(BUILD).link, body)
    line = body[:-1] + b',"chain":"%d-%b"}\n' % (place + 1, link.encode())
    found = checked([*LINES[:place], line, *LINES[place + 1 :]]).faults
    assert [fault.number for fault in found] == [min(place + 2, COUNT)]


def test_a_timeline_linked_anew_to_its_end_is_found() -> None:
    _, head = LINES, Head(COUNT, "0" * 32)
    (fault,) = checked(LINES, head).faults
    assert (fault.number, "noted" in fault.problem) == (COUNT, True)


def test_the_timeline_of_another_build_is_found() -> None:
    assert check("another", b"".join(LINES), HEAD).faults[0].number == 1


@given(st.integers(0, sum(map(len, LINES))))
def test_a_kill_leaves_it_whole_as_far_as_it_came(length: int) -> None:
    data = b"".join(LINES)[:length]
    found = check(BUILD, data, None)
    assert (found.events, found.ended) == (data.count(b"\n"), False)
    assert not found.faults


@given(st.integers(0, sum(map(len, LINES)) - 1))
def test_an_end_cut_off_is_found_where_an_end_was_noted(length: int) -> None:
    data = b"".join(LINES)[:length]
    (fault,) = check(BUILD, data, HEAD).faults
    assert fault.number == data.count(b"\n") + 1


def test_lines_that_are_none_are_found() -> None:
    found = checked([*LINES[:3], b"noise\n", *LINES[4:]]).faults
    assert [(fault.number, "noise" in fault.problem) for fault in found] == [(4, True)]


def test_timelines_without_chain(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no chain"):
        check(BUILD, b'{"event":"BuildStarted"}\n', None)


def test_what_happened_after_the_end_is_chained(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        log = TimelineLog(store.root, BUILD)
        log(EVENTS[0])
        assert not verify(store, BUILD).ended
        store.index.write([log.close()])
        assert noted_head(store, BUILD) == Head(1, verify_head(store))
        append(store, BUILD, SKIPPED[:2])
        assert len(list(read_timeline(store.root, BUILD))) == 3
        found = verify(store, BUILD)
        assert (found.events, found.ended, found.faults) == (3, True, ())
        path = store.root / "builds" / BUILD / NAME
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
        assert [fault.number for fault in verify(store, BUILD).faults] == [3]


def verify_head(store: Store) -> str:
    (line,) = (store.root / "builds" / BUILD / NAME).read_bytes().splitlines()
    linked = taken_apart(line)
    assert linked is not None
    return linked.link
