"""Upkeep after a build: what it moves is told in the build's timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

import store.migrate as store_migrate
from engine import upkeep
from engine.timeline.events import BuildStarted
from engine.timeline.log import TimelineLog, read_timeline
from store.migrate import Move, Moved

if TYPE_CHECKING:
    import pytest

    from store.store import Store


def test_what_upkeep_moves_is_told_in_the_timeline(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TimelineLog(store.root, "b")
    log(BuildStarted(build="b", spec="/s", targets=("x",), steps=1, cached=0))
    store.index.put([log.close()])
    (main, *_), two = store.cas.tiers, ("cold", "full", "cold")
    digest = store.cas.put_bytes(b"some")
    moves = [Move(digest, main, main, 4, 0.0, why) for why in two]

    def migrate(_: Store, moves: list[Move], seconds: float, *, wait: bool) -> Moved:
        assert 0 < seconds <= upkeep.DEMOTION_SECONDS
        return Moved(len(moves), sum(one.size for one in moves))

    monkeypatch.setattr(upkeep, "_is_over", lambda *_: True)
    monkeypatch.setattr(store_migrate, "plan_migration", lambda _: moves)
    monkeypatch.setattr(store_migrate, "migrate", migrate)
    monkeypatch.setattr(store.cas, "tiers", (main, main))
    upkeep.look_after(store, "b")
    _, cold, full = read_timeline(store.root, "b")
    assert (cold["event"], cold["why"], cold["blobs"], cold["bytes"]) == (
        "BlobsMoved",
        "cold",
        2,
        8,
    )
    assert (full["why"], full["blobs"], full["source"]) == ("full", 1, main.name)
