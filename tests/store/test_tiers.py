"""Blobs over several tiers: demotion, promotion, heat, and tiers that leave."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import evolve

from store.cas import TOUCH_SECONDS, MissingBlob
from store.departure import clear
from store.digest import Digest, digest_bytes
from store.heat import hot_blobs, take_heat, warm
from store.index import Table
from store.migrate import migrate, plan_departure, plan_migration
from store.objects import File, Tree
from store.policy import Policy
from store.store import Store
from store.tiers import HDD, NVME, RAM, SSD, Form, Tier, TierSpec

Open = Callable[..., Store]
TEXT = b"some text " * 1000


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a store over tiers that are given as name=level, or as specs."""
    stores: list[Store] = []

    def open_store(*specs: TierSpec, policy: Policy | None = None, **levels: int) -> Store:
        named = [
            TierSpec(name=name, path=tmp_path / name, level=level) for name, level in levels.items()
        ]
        store = Store(tmp_path / "store", [*specs, *named], policy)
        stores.append(store)
        return store

    yield open_store
    for store in stores:
        store.index.close()


def tier(store: Store, name: str) -> Tier:
    """Return a tier by name."""
    return next(one for one in store.cas.tiers if one.name == name)


def later(hours: float) -> float:
    """Return the time in so many hours, in seconds since 1970."""
    return time.time() + hours * 3600


def move_all(store: Store) -> None:
    """Let everything be cold and migrate."""
    migrate(store, plan_migration(store, later(10**5)))


def test_cold_blobs_move_down_packed_and_come_back(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT, executable=True)
    moved = migrate(store, plan_migration(store, later(10**5)))
    assert (moved.blobs, moved.bytes, moved.kept) == (1, len(TEXT), 0)
    assert tier(store, "fast").find(digest) is None
    packed = tier(store, "slow").status(digest, Form.PACKED)
    assert packed is not None
    assert packed.st_size < len(TEXT) / 10
    assert store.cas.get_bytes(digest) == TEXT
    assert not store.cas.is_near(digest)
    path = store.cas.local(digest, executable=True, size=len(TEXT))
    assert os.access(path, os.X_OK)
    assert store.cas.is_near(digest)


def test_what_was_used_lately_stays(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    store.cas.put_bytes(TEXT)
    assert plan_migration(store, later(store.policy.cold_hours - 1)) == []
    assert len(plan_migration(store, later(store.policy.cold_hours + 1))) == 1


def test_tier_over_its_limit_gives_the_oldest(opened: Open, tmp_path: Path) -> None:
    small = TierSpec(name="fast", path=tmp_path / "fast", level=NVME, max_size=2500)
    store = opened(small, slow=SSD)
    blobs = []
    for number in range(4):
        blobs.append(store.cas.put_bytes(bytes([number]) * 1000))
        time.sleep(0.02)
    moves = plan_migration(store)
    assert [move.digest for move in moves] == blobs[:2]
    assert {move.why for move in moves} == {"full"}


def test_policies_of_tiers(opened: Open, tmp_path: Path) -> None:
    spec = TierSpec(name="fast", path=tmp_path / "fast", level=NVME, max_size=10)
    never = opened(evolve(spec, cleanup_policy="none"), slow=SSD)
    never.cas.put_bytes(TEXT)
    assert plan_migration(never, later(10**5)) == []
    never.index.close()
    by_age = opened(evolve(spec, cleanup_policy="age", retention_days=2), slow=SSD)
    assert plan_migration(by_age, later(47)) == []
    assert len(plan_migration(by_age, later(49))) == 1


def test_nothing_moves_that_a_running_build_may_use(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    store.cas.put_bytes(TEXT)
    now = later(10**5)
    with store.lease("build"):
        assert plan_migration(store, now) == []
    assert len(plan_migration(store, now)) == 1
    assert TOUCH_SECONDS > 0


def test_what_is_linked_to_stays(opened: Open, tmp_path: Path) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT)
    store.cas.link_out(File(digest, len(TEXT)), str(tmp_path / "link"))
    assert plan_migration(store, later(10**5)) == []


def test_used_between_plan_and_move_stays(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT)
    moves = plan_migration(store, later(10**5))
    time.sleep(0.02)
    tier(store, "fast").touch(digest, Form.PLAIN)
    assert migrate(store, moves).kept == 1
    assert tier(store, "fast").find(digest)


def test_damaged_blob_is_not_moved(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT)
    path = tier(store, "fast").path(digest)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.write(b"X")
    assert migrate(store, plan_migration(store, later(10**5))).blobs == 0
    assert tier(store, "slow").find(digest) is None


def test_damaged_copy_below_is_found_and_the_blob_missing(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT)
    move_all(store)
    path = tier(store, "slow").path(digest, Form.PACKED)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(12)
        file.write(b"XXXX")
    with pytest.raises(MissingBlob):
        store.cas.promote(digest)
    assert not store.cas.has(digest)


def test_slow_tier_takes_the_place_of_the_only_fast_one(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    old = store.cas.put_bytes(TEXT)
    move_all(store)
    tier(store, "fast").root.rename(tier(store, "fast").root.with_name("away"))
    new = store.cas.put_bytes(b"new")
    assert store.cas.primary.name == "slow"
    assert [one.tier for one in store.cas.incidents()] == ["fast"]
    assert store.cas.get_bytes(new) == b"new"
    with open(store.cas.local(old, size=len(TEXT)), "rb") as file:
        assert file.read() == TEXT


def test_all_forms_are_read_whatever_a_tier_is_now(opened: Open, tmp_path: Path) -> None:
    alone = opened(disk=HDD)
    plain = alone.cas.put_bytes(b"plain")
    alone.index.close()
    both = opened(fast=NVME, disk=HDD)
    assert both.cas.get_bytes(plain) == b"plain"
    packed = both.cas.put_bytes(TEXT)
    move_all(both)
    both.index.close()
    again = opened(disk=HDD)
    assert again.cas.get_bytes(packed) == TEXT


def test_hot_blobs_come_to_the_ram_disk_and_may_vanish(opened: Open, tmp_path: Path) -> None:
    store = opened(ram=RAM, main=NVME)
    tree = store.cas.put_tree(Tree({}))
    hot = store.cas.put_bytes(TEXT)
    for number in range(3):
        store.cas.get_bytes(hot)
        writes, now_hot = take_heat(store.cas, store.index, store.policy)
        store.index.write(writes)
        assert (hot in now_hot) == (number == 2)
    assert list(hot_blobs(store.index, store.policy)) == [hot]
    assert warm(store.cas, [hot], seconds=60) == 1
    assert warm(store.cas, [hot], seconds=60) == 0
    ram = tier(store, "ram")
    assert ram.find(hot)
    assert store.cas.tier_set.reading(hot)[0] is ram
    assert store.cas.tier_set.reading(tree)[0] is not ram
    ram.root.rename(tmp_path / "vanished")
    assert store.cas.get_bytes(hot) == TEXT


def test_uses_long_ago_do_not_add_up(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(main=NVME, policy=Policy(hot_accesses=2, hot_hours=24.0))
    digest = store.cas.put_bytes(TEXT)
    for moment in (later(0), later(48), later(96)):
        monkeypatch.setattr(time, "time", itertools.repeat(moment).__next__)
        store.cas.get_bytes(digest)
        writes, hot = take_heat(store.cas, store.index, store.policy)
        store.index.write(writes)
        assert hot == []
    assert store.index.get(Table.HEAT, digest)


def test_ram_disk_makes_room_by_last_use(opened: Open, tmp_path: Path) -> None:
    ram = TierSpec(name="ram", path=tmp_path / "ram", level=RAM, max_size=2500)
    store = opened(ram, main=NVME)
    blobs = [store.cas.put_bytes(bytes([number]) * 1000) for number in range(3)]
    for digest in blobs:
        assert warm(store.cas, [digest], seconds=60) == 1
        time.sleep(0.02)
    kept = [digest for digest in blobs if tier(store, "ram").find(digest)]
    assert kept == blobs[1:]
    assert sum(held.size for held in tier(store, "ram").held()) <= 2500


def test_only_copy_on_the_ram_disk_is_brought_back(opened: Open) -> None:
    store = opened(ram=RAM, main=NVME)
    digest = store.cas.put_bytes(TEXT)
    warm(store.cas, [digest], seconds=60)
    tier(store, "main").remove(digest)
    assert store.cas.has(digest)
    assert tier(store, "main").find(digest)


def test_clear_keeps_what_nothing_else_has(opened: Open) -> None:
    store = opened(ram=RAM, main=NVME, other=SSD)
    alone = store.cas.put_bytes(b"alone")
    both = store.cas.put_bytes(b"both")
    tier(store, "other").write(both, b"both", False)
    warm(store.cas, [alone, both], seconds=60)
    assert clear(store, tier(store, "ram")).removed == 2
    done = clear(store, tier(store, "main"))
    assert (done.removed, done.kept, done.lost) == (1, 1, 0)
    assert store.cas.get_bytes(both) == b"both"
    done = clear(store, tier(store, "main"), force=True)
    assert (done.removed, done.lost) == (1, 1)
    assert not store.cas.has(alone)


def test_departure_leaves_nothing_alone(opened: Open) -> None:
    store = opened(main=NVME, other=SSD)
    digest = store.cas.put_bytes(TEXT)
    moves = plan_departure(store, tier(store, "main"))
    assert migrate(store, moves).blobs == 1
    assert tier(store, "other").find(digest)
    assert plan_departure(store, tier(store, "main")) == []


def test_migration_killed_between_copy_and_removal_loses_nothing(opened: Open) -> None:
    store = opened(fast=NVME, slow=HDD)
    digest = store.cas.put_bytes(TEXT)
    fast, slow = tier(store, "fast"), tier(store, "slow")
    with fast.open(digest) as reading:
        assert reading is not None
        slow.copy_in(digest, reading, executable=False)
    assert migrate(store, plan_migration(store, later(10**5))).blobs == 1
    assert fast.find(digest) is None
    assert store.cas.get_bytes(digest) == TEXT
    assert digest == Digest(digest_bytes(TEXT))


def test_of_many_blobs_those_used_most_are_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.cas._USES_KEPT", 8)
    often, twice, *once = (store.cas.put_bytes(b"%d" % number) for number in range(30))
    for _ in range(3):
        store.cas.get_bytes(often)
    for _ in range(2):
        store.cas.get_bytes(twice)
    for digest in once:
        store.cas.get_bytes(digest)
        assert len(store.cas.uses) <= 8
    assert (store.cas.uses[often], store.cas.uses[twice]) == (3, 2)
