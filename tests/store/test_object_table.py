"""Tests of objects in tables: who sees them when, what becomes of them on failures and damage."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from store.cas import MissingBlob
from store.digest import Digest, digest_bytes
from store.gc import collect
from store.index import Table
from store.object_table import DIRECTORY, LARGEST, ObjectTable
from store.objects import ActionResult, Directory, File, Tree
from store.roots import artifact_root
from store.store import Store
from store.tiers import EPOCH_NS, TierSpec
from store.verify import verify
from tests.store.results import blobs, is_whole, make, seen_by_another, spoil

OLD = 1_000_000_000.0


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
