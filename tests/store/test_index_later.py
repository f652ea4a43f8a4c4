"""Writes left for later: found by who reads, put with the next transaction or on closing."""

from pathlib import Path

import pytest

from store.index import Index, Table


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path


def test_left_writes_are_found_by_who_reads_their_table(path: Path) -> None:
    index = Index(path)
    index.later([(Table.STATS, "a", b"1"), (Table.HEAT, "b", b"2")])
    assert index.get_many(Table.HEAT, ["b", "c"]) == {"b": b"2"}
    index.later([(Table.STATS, "a", b"3")])
    assert index.get(Table.STATS, "a") == b"3"
    index.later([(Table.STATS, "d", b"4")])
    assert dict(index.items(Table.STATS)) == {"a": b"3", "d": b"4"}
    index.close()


def test_left_writes_go_with_the_next_ones_which_win(path: Path) -> None:
    index = Index(path)
    index.later([(Table.HEAT, "a", b"1")], {"used/x": 5})
    index.write([(Table.HEAT, "a", b"2"), (Table.ROOTS, "r", b"r")], {"used/x": 7})
    index.close()
    again = Index(path, readonly=True)
    assert again.get(Table.HEAT, "a") == b"2"
    assert again.number("used/x") == 12
    again.close()


def test_numbers_count_what_is_left_for_later(path: Path) -> None:
    index = Index(path)
    assert index.number("used/x") is None
    index.later([], {"used/x": 3})
    index.later([], {"used/x": 4})
    assert index.number("used/x") == 7
    index.write([], {"used/x": 1})
    assert index.number("used/x") == 8
    index.close()


def test_closing_puts_what_is_left(path: Path) -> None:
    index = Index(path)
    index.later([(Table.HEAT, "a", b"1")], {"used/x": 5})
    index.close()
    again = Index(path)
    assert again.get(Table.HEAT, "a") == b"1"
    assert again.number("used/x") == 5
    again.close()
