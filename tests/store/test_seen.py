"""What was seen of a directory, packed, is what was noted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.digest import Digest
from store.objects import File, Link
from store.seen import Mark, Seen

NUMBERS = st.integers(-(2**62), 2**62)
MARKS = st.tuples(NUMBERS, NUMBERS, st.integers(0, 2**62), st.integers(0, 2**64 - 1))
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
ENTRIES = st.one_of(
    st.none(),
    st.builds(File, DIGESTS, st.integers(0, 2**62), st.booleans()),
    st.builds(Link, st.text(st.characters(codec="utf-8"), min_size=1)),
)


@given(st.dictionaries(st.text(), st.tuples(MARKS, ENTRIES)))
def test_all_is_as_it_was_noted(noted: dict[str, tuple[Mark, File | Link | None]]) -> None:
    seen = Seen()
    for path, (mark, entry) in noted.items():
        seen.note(path, mark, entry)
    assert dict(seen.marks) == {path: mark for path, (mark, _) in noted.items()}
    files = {path: entry for path, (_, entry) in noted.items() if entry is not None}
    assert dict(seen.files) == files
    assert len(seen.files) == len(files)
    assert all((path in seen.files) == (path in files) for path in noted)
