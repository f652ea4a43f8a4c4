"""The store and its index: opened again, refused, swept, damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.errors import HostError
from store.index import Table, Write, to_json
from store.store import FORMAT, Store, remove_tree


def dead_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-I", "-c", ""])
    process.wait()
    return process.pid


def test_what_was_written_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    with Store(tmp_path / "a/b/store") as store:
        digest = store.cas.put_bytes(b"data")
        store.index.write([(Table.ALIASES, "x", b"1"), (Table.STATS, "x", b"2")])
        store.index.write([(Table.ALIASES, "x", b"3"), (Table.ALIASES, "é", b"")])
    with Store(tmp_path / "a/b/store") as store:
        assert store.cas.get_bytes(digest) == b"data"
        assert store.index.get(Table.ALIASES, "x") == b"3"
        assert store.index.get(Table.STATS, "x") == b"2"
        assert store.index.get(Table.DERIVED, "x") is None
        assert list(store.index.items(Table.ALIASES)) == [("x", b"3"), ("é", b"")]


def test_a_write_is_whole_or_not_at_all(store: Store) -> None:
    def broken() -> Iterator[Write]:
        yield (Table.ALIASES, "a", b"1")
        raise KeyError

    with pytest.raises(KeyError):
        store.index.write(broken())
    assert store.index.get(Table.ALIASES, "a") is None
    store.index.write([(Table.ALIASES, "a", b"2")])
    assert store.index.get(Table.ALIASES, "a") == b"2"


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1,", b"nul"])
def test_a_damaged_value_is_none(store: Store, data: bytes) -> None:
    store.index.write([(Table.STATS, "a", data)])
    assert store.index.get(Table.STATS, "a") == data
    assert store.index.get_json(Table.STATS, "a") is None
    store.index.write([(Table.STATS, "a", to_json({"b": [1, None]}))])
    assert store.index.get_json(Table.STATS, "a") == {"b": [1, None]}


def test_a_lost_index_loses_no_blob(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        digest = store.cas.put_bytes(b"data")
    remove_tree(tmp_path / "index")
    with Store(tmp_path) as store:
        assert store.cas.get_bytes(digest) == b"data"


@pytest.mark.parametrize("found", ["0", "3", "", "1.0", "x"])
def test_another_format_is_refused(tmp_path: Path, found: str) -> None:
    (tmp_path / "format").write_text(found)
    with pytest.raises(HostError, match=r"the store has format '.*', this bn knows '2'"):
        Store(tmp_path)
    assert os.listdir(tmp_path) == ["format"]
    assert (tmp_path / "format").read_text() == found


def test_the_format_is_written_down(store: Store) -> None:
    assert (store.root / "format").read_text() == f"{FORMAT}\n"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    for path in (tmp_path / "store", tmp_path / "store" / "below"):
        with pytest.raises(HostError):
            Store(path)


def test_what_dead_processes_left_is_swept(tmp_path: Path) -> None:
    dead, alive = dead_process(), os.getpid()
    with Store(tmp_path) as store:
        work, temporaries = store.work(), store.cas.primary.temporaries
        for owner in (dead, alive):
            for place in temporaries.directories()[:2]:
                Path(place, f"{owner}-0").write_text("half a blob")
            (work / f"{owner}-1/build/locked").mkdir(parents=True)
            (work / f"{owner}-1/build/locked/file").touch()
            (work / f"{owner}-1/build/locked").chmod(0o000)
        (work / "kept").mkdir()
    with Store(tmp_path) as store:
        left = [os.path.basename(path) for path in store.cas.unfinished()]
        assert left == [f"{alive}-0", f"{alive}-0"]
        assert sorted(os.listdir(store.work())) == sorted([f"{alive}-1", "kept"])
    remove_tree(work)
    assert not work.exists()


def test_trees_are_removed_whatever_they_hold(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/link").symlink_to(outside)
    (tree / "a/b/file").touch()
    (tree / "a/b").chmod(0o500)
    (tree / "a").chmod(0)
    os.mkfifo(tree / "pipe")
    remove_tree(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "file").exists()
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "none")
    assert os.listdir(tmp_path) == ["outside"]


def test_trees_deeper_than_a_path_are_removed(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    here = os.getcwd()
    try:
        os.chdir(tmp_path / "deep")
        for _ in range(1500):
            os.mkdir("directory")
            os.chdir("directory")
    finally:
        os.chdir(here)
    remove_tree(tmp_path / "deep")
    assert os.listdir(tmp_path) == []
