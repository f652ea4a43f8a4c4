"""Memos of a process whose answer somebody waits for: small ones are written after that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.memo import MOST_HELD, memo_path, read_memo, write_memo
from executors import leaving


@pytest.fixture(autouse=True)
def _leaving_is_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(leaving, "_held", None)
    yield
    leaving.release()


def test_a_small_one_is_written_at_the_end_as_it_was(tmp_path: Path) -> None:
    path = memo_path(tmp_path, "kind", "a")
    leaving.hold()
    value = bytearray(b"one")
    write_memo(path, ("value", value))
    value[:] = b"two"
    assert read_memo(path) is None
    leaving.release()
    assert read_memo(path) == ("value", b"one")


def test_the_last_one_of_a_name_stays(tmp_path: Path) -> None:
    path = memo_path(tmp_path, "kind", "a")
    leaving.hold()
    for number in range(3):
        write_memo(path, number)
    leaving.release()
    assert read_memo(path) == 2


def test_a_large_one_is_written_at_once(tmp_path: Path) -> None:
    path = memo_path(tmp_path, "kind", "a")
    leaving.hold()
    value = (["small"] * 3, bytes(MOST_HELD), {"more": 1})
    write_memo(path, value)
    assert read_memo(path) == value
