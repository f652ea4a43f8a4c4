"""The janitor: quotas, the reserve of the disk, old entries, the collector."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import define, field

from engine.http import janitor as module
from engine.http import reserve as reserve_module
from engine.http.janitor import HOUR_SECONDS, Janitor, keep_house
from engine.http.message import Failure
from engine.http.observing import Observer, make_run
from engine.http.reserve import Reserve, quota_of
from store.entries import Entries, Put
from store.reaping import Reaper
from store.store import Store
from store.tiers import TierSpec

MB = 1_000_000


@define
class Disk:
    """A disk of 100 MB, as the reserve sees it: `taken` by others, the rest by the store."""

    store: Store
    taken: int = 0
    now: float = 0.0

    def free(self, _: object) -> int:
        """Return what is free."""
        return 100 * MB - self.taken - held(self.store)


@define
class House:
    """A janitor with all that it looks after."""

    store: Store
    disk: Disk
    janitor: Janitor
    entries: Entries
    observer: Observer
    made: list[str] = field(factory=list)

    def put(self, name_space: str, size: int = MB) -> str:
        """Store an entry; return its key."""
        data = os.urandom(size)
        digest = self.store.cas.put_bytes(data)
        key = f"{len(self.made):04}"
        self.made.append(key)
        self.entries.put([Put(name_space, "generic", key, digest, size)])
        time.sleep(0.002)  # their times of use differ
        return key

    def keys(self, name_space: str) -> list[str]:
        """Return what is there."""
        return [key for key, _ in self.entries.each(name_space, "generic")]

    def counted(self, what: str, of: str = "") -> float:
        """Return what was counted."""
        return self.observer.all().counts.get((what, of), 0)

    def step(self, seconds: float = 1.0) -> None:
        """Let the janitor do what is due after some time."""
        self.disk.now += seconds
        self.janitor.step()


def held(store: Store) -> int:
    """Return the bytes of the blobs' files."""
    blobs = Path(store.cas.root) / "blobs"
    return sum(path.stat().st_size for path in blobs.rglob("*") if path.is_file())


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., House]]:
    """Return what makes a house, with quotas and with bytes of the disk kept back."""
    root = tmp_path / "store"
    monkeypatch.setattr(reserve_module, "LOOK_SECONDS", 0.0)
    with Store(root, [TierSpec(name="store", path=root, level=1)]) as store:
        disk = Disk(store)
        monkeypatch.setattr(reserve_module, "free_bytes", disk.free)
        entries = store.entries()
        reaper = Reaper(store, entries)

        def make(quotas: Mapping[str, int] | None = None, reserve: int = 0) -> House:
            observer = Observer()
            made = Janitor(
                store=store,
                entries=entries,
                quotas=quotas or {},
                keep_days=30,
                reserve=Reserve(root, reserve),
                observer=observer,
                reaper=reaper,
                clock=lambda: disk.now,
            )
            return House(store, disk, made, entries, observer)

        yield make
        reaper.close()


def test_a_smaller_quota_lets_the_oldest_go(house: Callable[..., House]) -> None:
    one = house({"small": 3 * MB, "*": 8 * MB})
    for _ in range(10):
        one.put("small")
        one.put("other")
    one.step()
    assert one.keys("small") == ["0014", "0016", "0018"]
    assert len(one.keys("other")) == 8
    assert held(one.store) == 11 * MB, "the disk is freed at once"
    assert one.counted("evicted_entries", "small") == 7
    assert one.counted("evicted_bytes", "other") == 2 * MB
    assert one.counted("freed_bytes") == 9 * MB


def test_without_quotas_all_stays(house: Callable[..., House]) -> None:
    one = house()
    for _ in range(5):
        one.put("any")
    one.step()
    assert len(one.keys("any")) == 5


def test_what_was_used_lately_stays(house: Callable[..., House]) -> None:
    one = house({"*": 2 * MB})
    first, _, _ = one.put("any"), one.put("any"), one.put("any")
    assert one.entries.find("any", "generic", first) is not None
    one.step()
    assert first in one.keys("any")
    assert len(one.keys("any")) == 2


def test_a_disk_near_its_end_takes_from_each_name_space(house: Callable[..., House]) -> None:
    one = house(reserve=10 * MB)
    for _ in range(20):
        one.put("large")
    for _ in range(5):
        one.put("small")
    one.step()
    assert len(one.keys("large")) == 20
    one.disk.taken = 60 * MB  # 15 MB are free, 20 wanted
    one.step()
    assert len(one.keys("large")) == 16
    assert len(one.keys("small")) == 4
    assert one.keys("large")[0] == "0004"
    assert one.disk.free(None) >= 20 * MB
    one.step()
    assert len(one.keys("large")) == 16, "no more than is needed"


def test_in_vain_it_waits_longer_and_longer(house: Callable[..., House]) -> None:
    """Others need the same blobs, so that nothing is freed."""
    one = house({}, reserve=10 * MB)
    data = [os.urandom(MB) for _ in range(30)]
    digests = [one.store.cas.put_bytes(part) for part in data]
    for number, digest in enumerate(digests):
        one.entries.put([Put("pinned", "generic", f"{number:04}", digest, MB)])
        one.entries.put([Put("other", "generic", f"{number:04}", digest, MB)])
    one.disk.taken = 55 * MB  # 15 MB are free, 20 wanted: each time 5 MB of entries go
    left = []
    for _ in range(12):
        one.step()
        left.append(len(one.keys("pinned")) + len(one.keys("other")))
    assert left[0] < 60
    steps = [number for number in range(1, 12) if left[number] < left[number - 1]]
    assert len(steps) < 8, left


def test_a_full_disk_of_others_garbage_is_collected(house: Callable[..., House]) -> None:
    one = house(reserve=10 * MB)
    one.store.cas.put_bytes(os.urandom(5 * MB))  # nobody needs it
    for path in (Path(one.store.cas.root) / "blobs").rglob("*"):
        if path.is_file():
            os.utime(path, ns=(0, 0))
    one.disk.taken = 80 * MB
    one.step()
    assert one.counted("collections") == 1
    assert one.disk.free(None) >= 20 * MB


def test_each_hour_it_collects(house: Callable[..., House]) -> None:
    one = house()
    one.put("any")
    one.step()
    assert one.counted("collections") == 0, "not at the start"
    one.step(HOUR_SECONDS + 1)
    assert one.counted("collections") == 1
    assert len(one.keys("any")) == 1, "entries keep their blobs"
    assert held(one.store) == MB
    one.step()
    assert one.counted("collections") == 1


def test_what_nobody_used_for_long_goes(
    house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = house()
    one.put("any")
    one.step()
    assert len(one.keys("any")) == 1
    later = time.time() + 31 * 86400
    monkeypatch.setattr("time.time", lambda: later)
    one.step(1000)
    assert one.keys("any") == []
    assert one.counted("expired_entries") == 1


def test_quotas_by_name_or_for_all_others() -> None:
    assert quota_of({"a": 1, "*": 2}, "a") == 1
    assert quota_of({"a": 1, "*": 2}, "b") == 2
    assert quota_of({"a": 1}, "b") is None


def test_the_reserve_refuses_and_says_why(house: Callable[..., House]) -> None:
    one = house(reserve=10 * MB)
    reserve = one.janitor.reserve
    reserve.check(80 * MB)
    with pytest.raises(Failure) as caught:
        reserve.check(91 * MB)
    assert caught.value.status == 507
    assert caught.value.headers["retry-after"]
    assert "kept back" in caught.value.message
    one.disk.taken = 91 * MB
    with pytest.raises(Failure):
        reserve.check()


def test_the_default_reserve_is_a_share_of_the_disk(tmp_path: Path) -> None:
    total = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    assert Reserve(tmp_path).size == min(2 * 10**9, int(total * 0.05))
    assert Reserve(tmp_path / "gone").free == 0
    assert Reserve(tmp_path, 0).is_short() is False


def test_one_of_several_janitors_works_and_each_ends_when_told(tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store(root).close()
    run = make_run(root)
    pids = []
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                module.STEP_SECONDS = 0.05  # type: ignore[misc]
                with Store(root) as store:
                    keep_house(store, {"*": 0}, 30, Reserve(root, 0), run)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    with Store(root) as store:
        entries = store.entries()
        digest = store.cas.put_bytes(b"x" * 300_000)
        entries.put([Put("any", "generic", "k", digest, 300_000)])
        observer = Observer(run)
        end = time.monotonic() + 30
        while observer.all().counts.get(("evicted_entries", "any"), 0) != 1:
            assert time.monotonic() < end, "nobody keeps house"
            time.sleep(0.05)
        assert entries.find("any", "generic", "k") is None
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0
