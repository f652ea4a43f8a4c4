"""Tests of syncs afterwards: what was committed is durable by itself, whoever syncs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import store.syncing
from store.digest import digest_bytes
from store.entries import Entries, Put
from store.store import Store
from store.syncing import Syncer


@pytest.fixture
def relaxed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(store.syncing, "EVERY", 0.05)
    with Store(tmp_path / "store") as made:
        made.relax()
        yield made


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What syncers did."""
    done: list[str] = []
    for name in ("_sync", "_follow"):
        before: Callable[[Syncer], None] = getattr(Syncer, name)

        def noted(
            self: Syncer, name: str = name, before: Callable[[Syncer], None] = before
        ) -> None:
            before(self)
            done.append(name)

        monkeypatch.setattr(Syncer, name, noted)
    return done


def wait(looks: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not looks():
        assert time.monotonic() < end
        time.sleep(0.01)


def commit(store: Store, entries: Entries, name: str) -> int:
    """Store something, and return the number of the transaction of its row."""
    data = name.encode()
    digest = digest_bytes(data)
    store.cas.primary.write_objects({digest: data})
    entries.put([Put("team", "generic", name, digest, len(data))])
    return entries.environment.version()


def test_the_tables_are_made_ready_before_the_first_commit(relaxed: Store) -> None:
    entries = relaxed.entries()
    table = relaxed.cas.primary.table
    assert table is not None
    syncer = Syncer(relaxed.cas.tier_set, entries)
    wait(lambda: entries.environment.is_ahead and table.is_ahead)
    syncer.close()
    assert not entries.environment.is_behind
    assert not table.is_ahead


def test_what_was_committed_is_durable_by_itself(relaxed: Store, syncs: list[str]) -> None:
    entries = relaxed.entries()
    syncer = Syncer(relaxed.cas.tier_set, entries)
    for name in "abc":
        number = commit(relaxed, entries, name)
        wait(lambda number=number: entries.environment.is_kept(number))  # type: ignore[misc]
    assert "_sync" in syncs
    syncer.close()


def test_what_another_made_durable_is_not_synced_again(relaxed: Store, syncs: list[str]) -> None:
    entries = relaxed.entries()
    syncer = Syncer(relaxed.cas.tier_set, entries)
    wait(lambda: entries.environment.is_ahead)
    number = commit(relaxed, entries, "a")
    wait(lambda: "_sync" in syncs)
    wait(lambda: entries.environment.is_kept(number))
    syncer._try(number)
    assert syncs[-1] == "_follow"
    number = commit(relaxed, entries, "b")
    relaxed.cas.primary.unsynced = True  # a file, of which only this process knows
    syncer._try(number)
    assert syncs[-1] == "_sync"
    syncer.close()
