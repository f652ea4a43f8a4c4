"""Refused digests: a file that only grows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from store.digest import digest_bytes
from store.errors import HostError
from store.index import Table
from store.refused import NAME, pair, read_refused, refuse
from store.store import Store
from tests.store.results import make

A, B, C = (digest_bytes(text) for text in (b"a", b"b", b"c"))


def test_nothing_is_refused_at_first(tmp_path: Path) -> None:
    assert read_refused(tmp_path) == frozenset()
    refuse(tmp_path, [], "why")
    assert not (tmp_path / NAME).exists()


def test_what_is_refused_stays_so_and_says_why(tmp_path: Path) -> None:
    refuse(tmp_path / "new", [A, A], "made of\nsomething bad")
    refuse(tmp_path / "new", [B, A], "too")
    assert read_refused(tmp_path / "new") == {A, B}
    text = (tmp_path / "new" / NAME).read_text()
    assert text == f"{A} made of something bad\n{B} too\n"


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(f"{A} why\n{B[:20]}")
    refuse(tmp_path, [C], "why")
    assert read_refused(tmp_path) == {A, C}


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    os.mkdir(tmp_path / NAME)
    with pytest.raises(HostError):
        read_refused(tmp_path)
    with pytest.raises(HostError):
        refuse(tmp_path, [A], "why")


def test_a_pair_is_of_both(tmp_path: Path) -> None:
    assert len({pair(A, B), pair(B, A), pair(A, A), pair(A, C)}) == 4


def test_the_index_made_again_has_nothing_that_is_refused(tmp_path: Path) -> None:
    from store.rebuild import rebuild

    root = tmp_path / "store"
    with Store(root) as store:
        good, bad = make(store, "good"), make(store, "bad", observed=True)
        store.actions.commit()
        realisation = store.index.get(Table.REALISATIONS, bad.recipe)
        assert realisation
        refuse(root, [bad.result.digest()], "why")
        refuse(root, [digest_bytes(b"unknown")], "why")
        cas = store.cas
    rebuild(root, cas)
    with Store(root) as store:
        assert store.actions.result_of(good.digest) == good.result
        assert store.actions.result_of(bad.digest) is None
        assert store.actions.realisation(good.recipe) is not None
