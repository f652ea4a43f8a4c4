"""Tests of the index: several processes and threads, a map that is too small, read-only."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import store.environment
from store.errors import HostError
from store.index import Index, Table
from store.tiers import EPOCH_NS

GROW = """
import resource, sys
from pathlib import Path
import store.environment
from store.index import Index, Table
if sys.argv[2]:
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
index = Index(Path(sys.argv[1]))
print(index.map_size)
for turn in range(int(sys.argv[3])):
    index.write([(Table.META, f"{turn}-{n}", bytes(1000)) for n in range(1000)])
print(index.map_size, len(list(index.items(Table.META))))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "index").mkdir()
    return tmp_path / "index"


def child(directory: Path, limit: str, turns: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", GROW, str(directory), limit, str(turns)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_small_map_grows_by_itself(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.environment, "MAP_SIZE", 1 << 20)
    index = Index(directory)
    assert index.map_size == 1 << 20
    for turn in range(4):
        index.write([(Table.META, f"{turn}-{n}", bytes(1000)) for n in range(1000)])
    assert index.map_size > 4 << 20
    assert len(list(index.items(Table.META))) == 4000
    index.close()


def test_map_grown_by_another_process_is_followed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.environment, "MAP_SIZE", 1 << 20)
    index = Index(directory)
    index.write([(Table.META, "mine", b"1")])
    assert child(directory, "", 5).returncode == 0
    assert index.get(Table.META, "4-999") == bytes(1000)
    index.write([(Table.META, "mine", b"2")])
    assert index.get(Table.META, "mine") == b"2"
    index.close()


def test_limited_address_space_takes_a_smaller_map(directory: Path) -> None:
    done = child(directory, str(700 << 20), 5)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(256 << 20), str(256 << 20), "5000"]


def test_map_that_cannot_grow_is_a_host_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.environment, "MAP_SIZE", 1 << 20)
    index = Index(directory)
    monkeypatch.setattr(store.environment.Environment, "_reopen", lambda self, sizes: None)
    with pytest.raises(HostError, match="bytes of address space") as caught:
        index.write([(Table.META, f"{n}", bytes(1000)) for n in range(4000)])
    assert "ulimit -v" in caught.value.hint
    assert index.get(Table.META, "1") is None, "all or nothing"
    index.close()


def test_one_thread_reads_while_another_writes_and_the_map_grows(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.environment, "MAP_SIZE", 1 << 20)
    index = Index(directory)
    index.write([(Table.META, "stays", b"x")])
    failures: list[BaseException] = []
    ended = threading.Event()

    def write() -> None:
        try:
            for turn in range(20):
                index.write([(Table.META, f"{turn}-{n}", bytes(1000)) for n in range(200)])
        except BaseException as error:
            failures.append(error)
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    reads = 0
    while not ended.is_set():
        assert index.get(Table.META, "stays") == b"x"
        reads += 1
    thread.join()
    assert not failures
    assert reads
    index.close()


def test_numbers_add_up(directory: Path) -> None:
    index = Index(directory)
    assert index.number("used/a") is None
    index.write([], {"used/a": 5})
    index.write([], {"used/a": -2, "used/b": 1})
    index.write([], {"used/b": -5})
    assert index.number("used/a") == 3
    assert index.number("used/b") == 0
    index.close()


def test_edit_sees_the_value_of_the_moment(directory: Path) -> None:
    index = Index(directory)
    index.write([(Table.META, name, name.encode()) for name in ("keep", "drop", "change")])
    new = {"keep": b"keep", "drop": None, "change": b"changed"}
    keys = [*new, "unknown"]
    assert index.edit(Table.META, keys, lambda key, value: new[key]) == 1
    assert dict(index.items(Table.META)) == {"keep": b"keep", "change": b"changed"}
    index.close()


def test_read_only_index_reads_and_refuses_to_write(directory: Path) -> None:
    index = Index(directory)
    index.write([(Table.META, "a", b"b")])
    index.close()
    again = Index(directory, readonly=True)
    assert again.get(Table.META, "a") == b"b"
    with pytest.raises(HostError, match="read-only"):
        again.write([(Table.META, "a", b"c")])
    again.close()


def test_table_that_is_not_there_yet_is_empty_when_read_only(directory: Path) -> None:
    import lmdb

    environment = lmdb.open(str(directory), max_dbs=4)
    environment.open_db(b"meta")
    environment.close()
    os.utime(directory / "data.mdb", ns=EPOCH_NS)
    again = Index(directory, readonly=True)
    assert again.get(Table.ROOTS, "a") is None
    assert list(again.items(Table.ROOTS)) == []
    again.close()


def test_readers_that_were_killed_are_forgotten(directory: Path) -> None:
    Index(directory).close()
    script = (
        "import sys, os; from pathlib import Path; import lmdb\n"
        "environment = lmdb.open(sys.argv[1], max_dbs=16, max_readers=1024)\n"
        "transactions = [environment.begin() for _ in range(100)]\n"
        "os.kill(os.getpid(), 9)\n"
    )
    for _ in range(12):
        subprocess.run([sys.executable, "-I", "-c", script, str(directory)], check=False)
    index = Index(directory)
    index.write([(Table.META, "a", b"b")])
    assert index.get(Table.META, "a") == b"b"
    index.close()


def test_a_version_is_told_to_whom_was_alone(directory: Path) -> None:
    index = Index(directory)
    start = index.version()
    assert index.version_if_alone(start) == start
    index.later([(Table.META, "later", b"1")])
    mine = index.version_if_alone(start)
    assert mine == index.version() != start
    assert child(directory, "", 1).returncode == 0
    assert index.version_if_alone(start) is None
    since = index.version()
    index.write([(Table.META, "mine", b"1")])
    assert index.version_if_alone(start) is None
    assert index.version_if_alone(since) == index.version()
    index.close()
