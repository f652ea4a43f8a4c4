"""Names by number: found in their text, or by a table where many are looked for."""

from __future__ import annotations

import marshal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.names import Names

ANY = st.text(st.characters(exclude_characters="\0", codec=None))


@pytest.mark.parametrize("few", [0, 3, 1000])
@given(st.lists(ANY, unique=True), st.lists(st.text()))
def test_a_name_is_found_where_it_was_put(few: int, names: list[str], others: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.names.FEW", few)
        made = Names()
        for number, name in enumerate(names):
            assert made.find(name) == -1
            assert made.add(name) == number
            assert made.find(name) == number
        again = Names.read(marshal.loads(marshal.dumps(made.plain())))
        for all_names in (made, again):
            assert list(all_names) == names
            assert len(all_names) == len(names)
            for name in (*names, *others, *(name[1:] for name in names)):
                expected = names.index(name) if name in names else -1
                assert all_names.find(name) == expected
        assert [names[number] for number in again.sorted()] == sorted(names)


def test_no_name_goes_over_the_end_of_another_one() -> None:
    names = Names()
    for name in ("a", "b", ""):
        names.add(name)
    assert [names.find(name) for name in ("a\0b", "\0", "a\0", "", "ab")] == [-1, -1, -1, 2, -1]
