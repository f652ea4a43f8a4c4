"""Tests of objects in tables on several tiers: failures, moves, archives."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import store.environment
from store.archive import closure_of, export
from store.departure import clear
from store.digest import Digest, digest_bytes
from store.errors import HostError, IntegrityError
from store.index import Table
from store.migrate import migrate, plan_departure, plan_migration
from store.object_table import DIRECTORY, ObjectTable
from store.objects import Tree
from store.policy import Policy
from store.rebuild import rebuild
from store.store import Store
from store.tiers import Form, TierSpec
from store.unarchive import import_
from store.verify import verify
from tests.store.results import is_whole, lose, make, one_file, seen_by_another


def table_of(store: Store) -> ObjectTable:
    table = store.cas.primary.table
    assert table is not None
    return table


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Store]:
    """A store with two tiers that have tables."""
    specs = [
        TierSpec(name="fast", path=tmp_path / "fast", level=1),
        TierSpec(name="slow", path=tmp_path / "slow", level=3),
    ]
    with Store(tmp_path / "two", specs) as opened:
        yield opened


# failures


def test_objects_go_to_the_tier_that_takes_over(
    two: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(two, "made")
    fast = two.cas.primary.table

    def full(table: ObjectTable, objects: object) -> int:
        assert table is fast
        raise OSError(errno.ENOSPC, "no space", str(table.path))

    put = ObjectTable.put
    monkeypatch.setattr(
        ObjectTable, "put", lambda table, new: (full if table is fast else put)(table, new)
    )
    two.actions.commit()
    assert [incident.state for incident in two.cas.incidents()] == ["full"]
    assert two.cas.primary.name == "slow"
    assert is_whole(two, made)
    assert not (two.cas.tiers[0].root / DIRECTORY).exists()


@pytest.mark.parametrize("early", [False, True])
def test_objects_survive_a_tier_that_fails_at_the_sync(
    two: Store, monkeypatch: pytest.MonkeyPatch, early: bool
) -> None:
    tree = two.cas.put_tree(Tree())
    made = make(two, "made")
    fast = two.cas.primary

    def fails() -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(fast, "sync", fails)
    was_safe = two.cas.sync() if early else True
    two.actions.commit_with([], was_safe)
    assert was_safe is not early
    assert two.cas.primary.name == "slow"
    assert two.cas.get_bytes(tree) == Tree().encode()
    assert not is_whole(two, made), "its files are lost"
    assert two.index.get(Table.ACTION_CACHE, made.digest) is None


def test_what_cannot_be_written_is_said_and_not_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = store.cas.put_object(b"x")
    with monkeypatch.context() as patch:

        def full(table: ObjectTable, objects: object) -> int:
            raise OSError(errno.ENOSPC, "no space left on device", str(table.path))

        patch.setattr(ObjectTable, "put", full)
        with pytest.raises(HostError, match="no space"):
            store.actions.commit_with([(Table.META, "a", b"b")])
        assert store.index.get(Table.META, "a") is None
    assert store.cas.get_bytes(digest) == b"x"
    store.cas.commit_objects()
    assert seen_by_another(store.root, digest) == ["True"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_disk_that_fills_up_is_full_and_still_read(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "t", str(disk)], check=True)
    try:
        table = ObjectTable(disk)
        table.put({digest_bytes(b"first"): b"first"})
        many = {digest_bytes(data): data for data in (os.urandom(4000) for _ in range(1000))}
        with pytest.raises(OSError, match="cannot write") as caught:
            table.put(many)
        assert caught.value.errno == errno.ENOSPC
        assert table.read(digest_bytes(b"first")) == b"first"
        assert len(table.held()) == 1
        table.close()
        assert ObjectTable(disk).read(digest_bytes(b"first")) == b"first"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_map_grows_while_another_thread_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store.environment, "MAP_SIZE", 1 << 20)
    table = ObjectTable(tmp_path)
    first = digest_bytes(b"first")
    table.put({first: b"first"})
    ended = threading.Event()

    def write() -> None:
        for _ in range(10):
            table.put({digest_bytes(data): data for data in (os.urandom(4000) for _ in range(99))})
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        assert table.read(first) == b"first"
    thread.join()
    assert len(table.held()) == 991
    table.close()


def test_table_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ObjectTable(tmp_path)
    digest = digest_bytes(b"x")
    table.put({digest: b"x"})
    table.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    again = ObjectTable(tmp_path)
    assert again.read(digest) == b"x"
    with pytest.raises(OSError, match="read-only"):
        again.put({digest: b"x"})
    again.close()


@pytest.mark.parametrize("page", range(0, 40, 3))
def test_damaged_table_is_mended_with_what_is_good(store: Store, page: int) -> None:
    made = [make(store, f"{number}", observed=True) for number in range(20)]
    store.actions.commit()
    store.close()
    data = store.root / DIRECTORY / "data.mdb"
    pages = data.stat().st_size // 4096
    with data.open("r+b") as file:
        file.seek(page % pages * 4096)
        file.write(os.urandom(4096))
    try:
        Store(store.root).close()
    except IntegrityError as error:
        assert "rebuild-index" in error.hint  # noqa: PT017
        assert rebuild(store.root, store.cas).results >= 10
        assert list((store.root / "quarantine").glob("objects.*"))
    with Store(store.root) as again:
        verify(again, repair=True)
        assert verify(again).problems == ()
        assert sum(is_whole(again, one) for one in made) >= 10
        for one in made:
            make(again, one.action.command[1], observed=True)
        again.actions.commit()
        assert all(is_whole(again, one) for one in made)


# tiers and archives


def test_objects_stay_where_they_are_when_files_get_cold(two: Store) -> None:
    made = make(two, "made")
    two.actions.commit()
    two.policy = Policy(cold_hours=0)
    moves = plan_migration(two)
    assert made.result.outputs not in {move.digest for move in moves}
    assert migrate(two, moves).blobs == len(moves) > 0
    assert is_whole(two, made)
    assert verify(two).problems == ()


@pytest.mark.parametrize("level", [3, 4])
def test_objects_leave_a_tier_that_is_taken_out(tmp_path: Path, level: int) -> None:
    fast = TierSpec(name="fast", path=tmp_path / "fast", level=1)
    other = TierSpec(name="other", path=tmp_path / "other", level=level)
    with Store(tmp_path / "store", [fast, other]) as store:
        made = make(store, "made")
        store.actions.commit()
        moves = plan_departure(store, store.cas.tiers[0])
        moved = migrate(store, moves)
        assert moved.blobs == len(moves) >= 8
        assert moved.kept == 0
        assert not list(store.cas.tiers[0].held())
    with Store(tmp_path / "store", [other]) as store:
        assert is_whole(store, made)
        assert verify(store).problems == ()
        objects = [held for held in store.cas.primary.held() if held.form is Form.OBJECT]
        assert bool(objects) == (level == 3)


def test_clearing_a_tier_keeps_what_is_there_alone(two: Store) -> None:
    made = make(two, "made")
    two.actions.commit()
    fast, slow = two.cas.tiers
    assert slow.table
    tree = two.cas.get_bytes(made.result.outputs)
    slow.table.put({made.result.outputs: tree})
    done = clear(two, fast)
    assert (done.removed, done.lost, done.bytes) == (1, 0, len(tree))
    assert is_whole(two, made)


def test_archive_carries_objects(store: Store, tmp_path: Path) -> None:
    made = make(store, "made")
    store.actions.commit()
    contents = closure_of(store, {"app": made.result.outputs}, [made.digest])
    export(store, contents, tmp_path / "app.bn")
    with Store(tmp_path / "other") as other:
        import_(other, tmp_path / "app.bn")
        assert is_whole(other, made)
        assert table_of(other).read(made.result.outputs)
        assert verify(other).problems == ()


def test_digests_that_begin_so(store: Store) -> None:
    tree = one_file(store, "f", b"x")
    store.cas.commit_objects()
    everything = {held.digest for held in store.cas.primary.held()}
    for length in (2, 3, 4, 64):
        assert tree in store.cas.digests(tree[:length])
        assert store.cas.digests(tree[:length]) == {
            digest for digest in everything if digest.startswith(tree[:length])
        }
    lose(store, tree)
    assert store.cas.digests(tree) == set()


def test_no_digest_is_not_there(store: Store) -> None:
    store.cas.put_object(b"x")
    store.cas.commit_objects()
    assert not store.cas.has(Digest("no digest"))
