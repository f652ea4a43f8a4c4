"""Tests of objects in tables: who sees them when, what becomes of them on failures and damage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import store.environment
from store.archive import closure_of, export, import_
from store.cas import MissingBlob
from store.departure import clear
from store.digest import Digest, digest_bytes
from store.errors import HostError, IntegrityError
from store.gc import collect
from store.index import Table
from store.migrate import migrate, plan_departure, plan_migration
from store.object_table import DIRECTORY, LARGEST, ObjectTable
from store.objects import ActionResult, Directory, File, Tree
from store.policy import Policy
from store.rebuild import rebuild
from store.roots import artifact_root
from store.store import Store
from store.tiers import EPOCH_NS, Form, TierSpec
from store.verify import verify
from tests.store.results import blobs, is_whole, lose, make, one_file, spoil

OLD = 1_000_000_000.0

SEES = """
import sys
from pathlib import Path
from store.store import Store
with Store(Path(sys.argv[1])) as store:
    print(*(store.cas.has(digest) for digest in sys.argv[2:]))
"""


def seen_by_another(root: Path, *digests: str) -> list[str]:
    """Return whether another process sees these blobs."""
    command = [sys.executable, "-I", "-c", SEES, str(root), *digests]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def files(root: Path) -> list[Path]:
    return list(root.glob("blobs/??/*"))


def table_of(store: Store) -> ObjectTable:
    table = store.cas.primary.table
    assert table is not None
    return table


def aged(store: Store, monkeypatch: pytest.MonkeyPatch, data: bytes = b"old") -> Digest:
    """Put an object that was used last long ago."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: OLD)
        digest = store.cas.put_object(data)
        store.cas.commit_objects()
    store.cas.begin_use()
    return digest


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Store]:
    """A store with two tiers that have tables."""
    specs = [
        TierSpec(name="fast", path=tmp_path / "fast", level=1),
        TierSpec(name="slow", path=tmp_path / "slow", level=3),
    ]
    with Store(tmp_path / "two", specs) as opened:
        yield opened


def test_object_is_seen_here_at_once_and_by_others_when_it_is_committed(store: Store) -> None:
    digest = store.cas.put_object(b"an object")
    assert store.cas.has(digest)
    assert store.cas.get_bytes(digest) == b"an object"
    assert seen_by_another(store.root, digest) == ["False"]
    store.cas.commit_objects()
    assert seen_by_another(store.root, digest) == ["True"]
    assert store.cas.get_bytes(digest) == b"an object"
    assert not files(store.root)


def test_index_names_only_what_others_see(store: Store) -> None:
    tree = store.cas.put_tree(Tree())
    store.index.write([artifact_root("app", "app", tree)])
    assert seen_by_another(store.root, tree) == ["True"]


def test_closing_a_store_commits(store: Store) -> None:
    digest = store.cas.put_object(b"an object")
    store.close()
    assert seen_by_another(store.root, digest) == ["True"]


def test_result_makes_no_file_of_its_own(store: Store) -> None:
    before = {store.cas.put_bytes(data) for data in (b"source of x", b"log of x", b"recipe of x")}
    made = make(store, "x")
    store.actions.commit()
    outputs = {digest_bytes(b"x".ljust(100, b".")), digest_bytes(b"x".ljust(100, b".") + b"x")}
    assert {path.parent.name + path.name[:62] for path in files(store.root)} == before | outputs
    assert is_whole(store, made)


def test_store_with_objects_as_files_is_read(store: Store) -> None:
    inner = Tree({"f": File(store.cas.put_bytes(b"x"), 1)})
    outer = Tree({"d": Directory(store.cas.put_bytes(inner.encode()))})
    result = ActionResult(
        action=digest_bytes(b"action"),
        outputs=store.cas.put_bytes(outer.encode()),
        log=store.cas.put_bytes(b"log"),
    )
    reference = store.cas.put_bytes(result.encode())
    store.index.write([(Table.ACTION_CACHE, result.action, reference.encode())])
    assert not (store.root / DIRECTORY).exists()
    assert store.actions.result_of(result.action) == result
    assert store.cas.get_tree(result.outputs) == outer
    assert verify(store).problems == ()
    assert collect(store)
    assert not files(store.root)


def test_long_objects_are_files(store: Store) -> None:
    digest = store.cas.put_object(bytes(LARGEST + 1))
    assert Path(store.cas.path(digest)).stat().st_size == LARGEST + 1
    store.cas.commit_objects()
    assert table_of(store).read(digest) is None


@pytest.mark.parametrize("level", [0, 4])
def test_ram_and_network_have_only_files(tmp_path: Path, level: int) -> None:
    with Store(tmp_path / "s", [TierSpec(name="t", path=tmp_path / "t", level=level)]) as store:
        store.cas.tier_set.open(store.cas.primary)
        made = make(store, "made")
        store.actions.commit()
        assert is_whole(store, made)
        assert not (tmp_path / "t" / DIRECTORY).exists()


def test_object_becomes_a_file_where_one_is_needed(store: Store, tmp_path: Path) -> None:
    for commit in (False, True):
        data = f"object {commit}".encode()
        digest = store.cas.put_object(data)
        if commit:
            store.cas.commit_objects()
        handle = store.cas.open(digest)
        assert os.fstat(handle).st_mtime_ns == EPOCH_NS[0]
        assert os.read(handle, 100) == data
        os.close(handle)
        assert not [path for path in files(store.root) if digest.endswith(path.name)]
        for executable in (False, True):
            target = tmp_path / f"{commit}{executable}"
            store.cas.link_out(File(digest, len(data), executable), str(target))
            assert target.read_bytes() == data
            assert target.stat().st_nlink == 2
            assert bool(target.stat().st_mode & 0o111) == executable
        other = store.cas.put_object(data + b"!")
        assert Path(store.cas.path(other)).read_bytes() == data + b"!"
        assert store.cas.complete(File(digest, len(data)))
    assert verify(store).problems == ()


def test_wrong_bytes_are_set_aside(store: Store) -> None:
    digest = store.cas.put_object(b"x" * 100)
    spoil(store, digest)
    with pytest.raises(MissingBlob):
        store.cas.get_bytes(digest)
    assert not store.cas.has(digest)
    assert len(list((store.root / "quarantine").iterdir())) == 1
    assert store.cas.get_bytes(store.cas.put_object(b"x" * 100)) == b"x" * 100


def test_good_file_takes_the_place_of_a_bad_object(store: Store) -> None:
    digest = store.cas.put_object(b"x" * 100)
    store.cas.put_bytes(b"x" * 100)
    spoil(store, digest)
    [problem] = verify(store, repair=True).problems
    assert problem.repaired == "quarantined; another copy is good"
    assert store.cas.get_bytes(digest) == b"x" * 100


# last use and the collector


def test_old_object_that_is_used_shows_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, other = aged(store, monkeypatch), aged(store, monkeypatch, b"older")
    found = table_of(store).look(digest)
    assert found
    assert found.used == OLD
    assert store.cas.has(digest)
    found, untouched = table_of(store).look(digest), table_of(store).look(other)
    assert found
    assert untouched
    assert found.used > time.time() - 60
    assert untouched.used == OLD
    assert {held.used for held in store.cas.primary.held(other)} == {OLD}
    assert {held.used for held in store.cas.primary.held(digest)} == {found.used}


def test_while_others_build_what_they_took_up_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    used, written, unused = (aged(store, monkeypatch, one) for one in (b"1", b"2", b"3"))
    with store.lease("build"):
        assert store.cas.has(used)
        store.cas.put_object(b"2")
        collect(store)
        assert blobs(store) == {used, written}
    collect(store)
    assert blobs(store) == set()
    assert unused


def test_use_between_census_and_removal_is_seen(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest, again = aged(store, monkeypatch), aged(store, monkeypatch, b"written again")
    before = {one: found.used for one, found in table_of(store).held()}
    assert store.cas.has(digest)
    table_of(store).put({again: b"written again"})
    gone = table_of(store).remove(before, lambda one, used: used == before[one])
    assert gone == {}


def test_touch_waits_while_the_gate_is_closed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = aged(store, monkeypatch)
    said: list[bool] = []
    with store.cas.gate.closed():
        thread = threading.Thread(target=lambda: said.append(store.cas.has(digest)))
        thread.start()
        thread.join(0.2)
        assert not said
        table_of(store).remove([digest])
    thread.join()
    assert said == [False]


def test_collected_object_is_stored_again(store: Store) -> None:
    digest = store.cas.put_object(b"again")
    store.cas.commit_objects()
    report = collect(store, dry_run=True)
    assert report
    assert report.removed["blobs"].bytes == 5
    assert store.cas.has(digest)
    collect(store)
    assert not store.cas.has(digest)
    store.cas.put_object(b"again")
    store.cas.commit_objects()
    assert seen_by_another(store.root, digest) == ["True"]


def test_lost_times_of_use_do_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = aged(store, monkeypatch)
    assert store.cas.has(digest)
    uses = store.root / DIRECTORY / "uses"
    for data in (uses.read_bytes()[:1000], b""):
        table_of(store).close()
        uses.write_bytes(data)
        assert table_of(store).look(digest)
        assert len(table_of(store).held()) == 1
    store.cas.begin_use()
    assert store.cas.has(digest)
    found = table_of(store).look(digest)
    assert found
    assert found.used > OLD


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


def test_objects_survive_a_tier_that_fails_at_the_sync(
    two: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = two.cas.put_tree(Tree())
    made = make(two, "made")
    fast = two.cas.primary

    def fails() -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(fast, "sync", fails)
    two.actions.commit()
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
