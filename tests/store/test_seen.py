"""What was seen of a directory, packed, is what was noted."""

from __future__ import annotations

import marshal

from hypothesis import given
from hypothesis import strategies as st

from store.digest import Digest
from store.objects import File, Link
from store.records import evolve
from store.seen import Mark, Seen, replace

NUMBERS = st.integers(-(2**62), 2**62)
MARKS = st.tuples(NUMBERS, NUMBERS, st.integers(0, 2**62), st.integers(0, 2**64 - 1))
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
ENTRIES = st.one_of(
    st.none(),
    st.builds(File, DIGESTS, st.integers(0, 2**62), st.booleans()),
    st.builds(Link, st.text(st.characters(codec="utf-8"), min_size=1)),
)


NAMES = st.text(st.characters(exclude_characters="\0"))
NOTED = st.dictionaries(NAMES, st.tuples(MARKS, ENTRIES))


def made(noted: dict[str, tuple[Mark, File | Link | None]]) -> Seen:
    seen = Seen()
    for path, (mark, entry) in noted.items():
        seen.note(path, mark, entry)
    return seen


@given(NOTED)
def test_all_is_as_it_was_noted(noted: dict[str, tuple[Mark, File | Link | None]]) -> None:
    seen = made(noted)
    assert dict(seen.marks) == {path: mark for path, (mark, _) in noted.items()}
    files = {path: entry for path, (_, entry) in noted.items() if entry is not None}
    assert dict(seen.files) == files
    assert len(seen.files) == len(files)
    assert all((path in seen.files) == (path in files) for path in noted)


@given(NOTED)
def test_it_is_read_as_it_was_written(noted: dict[str, tuple[Mark, File | Link | None]]) -> None:
    seen = made(noted)
    plain = marshal.loads(marshal.dumps(seen.plain()))
    again = Seen.read(plain, seen.packed_marks())
    assert list(again.files.items()) == list(seen.files.items())
    assert list(again.marks.items()) == list(seen.marks.items())
    assert again.unlike(seen) == set()


@given(NOTED, st.data())
def test_contents_are_renewed(
    noted: dict[str, tuple[Mark, File | Link | None]], data: st.DataObject
) -> None:
    seen = made(noted)
    numbers = [n for n in range(len(noted)) if seen.is_file(n)]
    chosen = data.draw(st.sets(st.sampled_from(numbers)) if numbers else st.just(set[int]()))
    news = {number: File(Digest("5" * 64), number, False) for number in chosen}
    marks = bytearray(seen.packed_marks())
    for number in chosen:
        replace(marks, number, (1, 2, 3, 4))
    now = seen.renewed(bytes(marks), news)
    names = list(seen.names)
    fresh = {names[number]: file for number, file in news.items()}
    assert dict(now.files) == {**seen.files, **fresh}
    assert dict(now.marks) == {**seen.marks, **dict.fromkeys(fresh, (1, 2, 3, 4))}
    assert seen.unlike(now) == {path for path in fresh if seen.files[path] != fresh[path]}


def test_what_has_other_names_or_kinds_is_no_renewal() -> None:
    mark = (1, 2, 3, 4)
    file, link = File(Digest("5" * 64), 1, False), Link("there")
    seen = made({"": (mark, None), "a": (mark, file), "l": (mark, link)})
    assert seen.unlike(made({"": (mark, None), "b": (mark, file), "l": (mark, link)})) is None
    assert seen.unlike(made({"": (mark, None), "a": (mark, link), "l": (mark, link)})) is None
    assert seen.unlike(made({"": (mark, None), "a": (mark, None), "l": (mark, link)})) is None
    changed = made(
        {"": (mark, None), "a": (mark, evolve(file, executable=True)), "l": (mark, Link("x"))}
    )
    assert seen.unlike(changed) == {"a", "l"}
