"""What the cache saved: counted from timelines and from what steps took."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli.cache.stat import local_lines
from engine.history import History, Past
from engine.timeline.events import (
    BuildStarted,
    Event,
    RemoteFound,
    StepCached,
    StepFinished,
    cached_together,
)
from engine.timeline.log import TimelineLog
from engine.timeline.saved import saved
from store.digest import Digest, digest_bytes
from store.index import Table, to_json
from store.store import Store


def action(name: str) -> Digest:
    return digest_bytes(name.encode())


def ran(name: str, seconds: float, status: str = "succeeded") -> StepFinished:
    return StepFinished(
        label=name,
        action=action(name),
        status=status,
        exit_code=0,
        reason="",
        log=action("log"),
        outputs=action("outputs"),
        kept=None,
        seconds=seconds,
        cpu_seconds=seconds,
        peak_memory=1,
    )


def cached(name: str) -> StepCached:
    return StepCached(label=name, action=action(name), outputs=action("outputs"))


def build(store: Store, number: int, *events: Event) -> None:
    """Record a build."""
    log = TimelineLog(store.root, f"20261121-12000{number}-000000-1")
    log(BuildStarted(build=f"{number}", spec="s", targets=(), steps=9, cached=0))
    for event in events:
        log(event)
    log.close()


def test_of_nothing(store: Store) -> None:
    found = saved(store.root, store.index)
    assert (found.builds, found.rate, found.saved) == (0, 0.0, 0.0)
    assert list(local_lines("here", found)) == ["here: no builds are recorded"]


def test_cached_steps_save_what_they_took_when_they_ran(store: Store) -> None:
    build(store, 1, ran("a", 10.0), ran("b", 5.0), ran("c", 1.0, "failed"))
    build(store, 2, cached("a"), cached("b"), ran("c", 2.0))
    build(store, 3, cached("a"), cached("b"), cached("c"))
    found = saved(store.root, store.index)
    assert (found.builds, found.cached, found.known) == (3, 5, 5)
    assert (found.ran, found.failed) == (4, 1)
    assert found.saved == pytest.approx(10 + 5 + 10 + 5 + 2)
    assert found.spent == pytest.approx(18.0)
    assert found.rate == pytest.approx(5 / 9)
    lines = list(local_lines("here", found))
    assert lines == [
        "here: 3 builds since 2026-11-21",
        "steps  9: 5 cached (55.6%), 4 ran, 1 failed",
        "saved  at least 32 s of 50 s",
    ]


def test_what_ran_before_the_recorded_builds_is_known_from_history(store: Store) -> None:
    history = History(store, Path("/spec.toml"))
    past = Past(action=action("a"), build="0", ran=True, seconds=7.0)
    store.index.write([history.note("a", past)])
    build(store, 1, cached("a"), cached("unknown"))
    found = saved(store.root, store.index)
    assert (found.cached, found.known, found.saved) == (2, 1, 7.0)
    assert "nobody knows what 1 took" in list(local_lines("here", found))[-1]


def test_what_remotes_found_is_counted_and_took_what_they_say(store: Store) -> None:
    origin = {"remote": "http://x", "result": action("r"), "time": 1, "seconds": 40.0}
    store.index.write([(Table.ORIGINS, action("a"), to_json(origin))])
    build(store, 0, ran("here", 5.0))
    names = ("a", "b", "here")
    found_there = RemoteFound(remote="http://x", labels=("a", "b", "unused"), seconds=1.0)
    build(store, 1, *cached_together((name, action(name), "o", "r") for name in names), found_there)
    build(store, 2, *cached_together((name, action(name), "o", "r") for name in names))
    found = saved(store.root, store.index)
    assert (found.cached, found.remote, found.known, found.ran) == (6, 2, 4, 1)
    assert (found.saved, found.saved_remote) == (90.0, 40.0)
    _, steps, times = local_lines("here", found)
    assert steps == "steps  7: 6 cached (85.7%, 2 of them by remote caches), 1 ran"
    assert times.startswith("saved  at least 1 min 30 s of 1 min 35 s, 40 s of it by remote caches")
    assert times.endswith("(nobody knows what 2 took: not counted)")


def test_of_the_last_builds_only(store: Store) -> None:
    build(store, 1, ran("a", 3.0))
    build(store, 2, cached("a"))
    found = saved(store.root, store.index, last=1)
    assert (found.builds, found.cached, found.ran) == (1, 1, 0)


def test_lines_that_were_cut_off_or_are_noise(store: Store) -> None:
    build(store, 1, ran("a", 3.0), cached("a"))
    (path,) = (store.root / "builds").rglob("timeline.jsonl")
    data = path.read_bytes()
    path.write_bytes(data + b'\xff\xfe\n{"event":"StepFinished","ti')
    found = saved(store.root, store.index)
    assert (found.ran, found.cached) == (1, 1)
