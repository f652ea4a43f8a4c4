"""Tests of the service: what adapters get, what is refused, and what is never given out."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import pytest
import trio

from engine.http.message import Failure, Stored
from engine.http.opening import SMALL
from engine.http.service import Item, Service
from store.commits import Arrival, Committer
from store.digest import digest_bytes
from store.entries import Entries, Usage
from store.errors import NoSpace
from store.migrate import migrate, plan_migration
from store.object_table import LARGEST
from store.policy import Policy
from store.reaping import Reaper
from store.store import Store
from store.tiers import TierSpec
from store.verify import verify

BIG = 3_000_000


class Parts:
    """A body that comes in parts, and may break off."""

    def __init__(
        self, parts: Iterable[bytes], length: int | None = None, fails: bool = False
    ) -> None:
        self.length = length
        self._parts = parts
        self._fails = fails

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await trio.lowlevel.checkpoint()
            yield part
        if self._fails:
            raise Failure(400, "the client went away")

    async def read(self, limit: int) -> bytes:
        return b"".join([part async for part in self])


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    made = Service(store, quotas={"small": 1_000_000})
    yield made
    await made.aclose()


def bytes_of(stored: Stored | None) -> bytes:
    assert stored is not None
    if stored.data is not None:
        return stored.data
    try:
        with open(stored.descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        stored.close()


def blob_files(store: Store) -> list[Path]:
    return [path for path in (store.root / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, 4096, SMALL, SMALL + 1, LARGEST, LARGEST + 1, BIG])
@pytest.mark.parametrize("part", [1000, 65536])
async def test_what_was_put_is_found(service: Service, size: int, part: int) -> None:
    data = os.urandom(size)
    parts = Parts(data[at : at + part] for at in range(0, size, part))
    sha256 = hashlib.sha256(data).hexdigest()
    row = await service.put("team", "sha256", sha256, parts, sha256=sha256, meta={"a": "b"})
    assert (row.size, row.digest, row.meta) == (size, digest_bytes(data), {"a": "b"})
    found = await service.get("team", "sha256", sha256)
    assert found is not None
    assert (found.size, found.digest, found.meta) == (size, row.digest, {"a": "b"})
    assert (found.data is None) == (size > LARGEST)
    assert bytes_of(found) == data
    assert bytes_of(await service.get("team", "sha256", sha256)) == data
    assert await service.get("other", "sha256", sha256) is None
    assert await service.read("team", "sha256", sha256, limit=BIG) == data
    assert service.store.cas.unfinished() == []


@pytest.mark.parametrize("size", [10, BIG])
async def test_other_digest_is_refused(service: Service, store: Store, size: int) -> None:
    data = os.urandom(size)
    for other in ({"blake3": digest_bytes(b"x")}, {"sha256": "0" * 64}):
        with pytest.raises(Failure) as caught:
            await service.put("team", "generic", "k", data, **other)
        assert caught.value.status == 400
    with pytest.raises(Failure):
        await service.put_many(
            "team",
            [Item("generic", "a", b"good"), Item("generic", "b", data, {}, digest_bytes(b"x"))],
        )
    assert service.usage("team") == Usage()
    assert blob_files(store) == []
    assert store.cas.unfinished() == []


@pytest.mark.parametrize("size", [10, BIG])
async def test_body_that_breaks_off_leaves_nothing(
    service: Service, store: Store, size: int
) -> None:
    with pytest.raises(Failure, match="went away"):
        await service.put("team", "generic", "k", Parts([bytes(size)] * 3, 4 * size, fails=True))
    with trio.move_on_after(0.01) as scope:
        await service.put("team", "generic", "k", Parts(iter(lambda: bytes(size), 1)))
    assert scope.cancelled_caught
    assert await service.get("team", "generic", "k") is None
    await trio.sleep(0.05)
    assert blob_files(store) == []
    assert store.cas.unfinished() == []


@pytest.mark.parametrize("length", [None, 2_000_000])
async def test_too_large_is_refused(service: Service, store: Store, length: int | None) -> None:
    for name_space, limit in (("small", None), ("team", 1_500_000)):
        parts = Parts([bytes(100_000)] * 20, length)
        with pytest.raises(Failure) as caught:
            await service.put(name_space, "generic", "k", parts, limit=limit)
        assert caught.value.status == 413
    assert store.cas.unfinished() == []
    with pytest.raises(Failure) as caught:
        await service.put("team", "generic", "x" * 5000, b"")
    assert caught.value.status == 400


async def test_full_disk_is_507(
    service: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NoSpace("full")

    with monkeypatch.context() as patched:
        patched.setattr(Entries, "put", fail)
        with pytest.raises(Failure) as caught:
            await service.put("team", "generic", "k", bytes(BIG))
        assert caught.value.status == 507
    with pytest.raises(Failure) as caught:
        await service.put("team", "generic", "k", Parts([], 10**15))
    assert caught.value.status == 507
    assert blob_files(store) == []
    await service.put("team", "generic", "k", bytes(BIG))


async def test_quota_lets_the_oldest_go(service: Service, store: Store) -> None:
    for number in range(30):
        await service.put("small", "generic", f"{number}", os.urandom(300_000))
        assert service.usage("small").bytes <= 1_000_000
        assert service.find("small", "generic", "0") is not None or number > 10
    assert service.find("small", "generic", "0") is not None
    assert service.find("small", "generic", "29") is not None
    assert service.evicted["small"].entries == 27
    for _ in range(500):
        if len(blob_files(store)) == 3:
            break
        await trio.sleep(0.01)
    assert len(blob_files(store)) == 3


async def test_gone_blobs_are_misses(service: Service, store: Store) -> None:
    row = await service.put("team", "blob", digest_bytes(bytes(BIG)), bytes(BIG))
    os.unlink(store.cas.path(row.digest))
    assert await service.missing("team", [row.digest, row.digest]) == [row.digest]
    assert not service.is_there("team", "blob", [row.digest])
    assert await service.open(row) is None
    await service.put("team", "generic", "other", b"after that")
    assert service.find("team", "blob", row.digest) is None
    await service.put("team", "blob", row.digest, bytes(BIG))
    assert await service.missing("team", [row.digest]) == []
    assert service.is_there("team", "blob", [row.digest])


def spoil(path: Path, how: str) -> None:
    os.chmod(path, 0o644)
    with path.open("r+b") as file:
        if how == "bytes":
            file.seek(BIG // 2)
            file.write(b"x")
        if how == "size":
            file.truncate(BIG - 1)
    if how == "time":
        os.utime(path)
    else:
        os.utime(path, ns=(315532800 * 10**9,) * 2)


@pytest.mark.parametrize("how", ["bytes", "time", "size"])
async def test_damaged_file_is_never_given_out(store: Store, how: str) -> None:
    first = Service(store)
    data = os.urandom(BIG)
    row = await first.put("team", "generic", "k", data)
    path = Path(store.cas.path(row.digest))
    spoil(path, how)
    for service in (first, Service(store)):
        assert await service.get("team", "generic", "k") is None
    assert len(list((store.root / "quarantine").iterdir())) == 1
    assert blob_files(store) == []
    await first.put("team", "generic", "k", data)
    assert bytes_of(await first.get("team", "generic", "k")) == data
    assert verify(store).problems == ()
    await first.aclose()
    await service.aclose()


async def test_damaged_object_is_never_given_out(store: Store) -> None:
    service = Service(store)
    row = await service.put("team", "generic", "k", b"right")
    table = store.cas.primary.table
    assert table is not None
    table.put({row.digest: b"wrong"})
    assert await service.get("team", "generic", "k") is None
    assert table.read(row.digest) is None
    assert len(list((store.root / "quarantine").iterdir())) == 1
    await service.aclose()


async def test_file_is_checked_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.put("team", "generic", "k", os.urandom(BIG))
    bytes_of(await service.get("team", "generic", "k"))

    def refuse(_: int) -> str:
        raise AssertionError

    monkeypatch.setattr("engine.http.opening._digest", refuse)
    bytes_of(await service.get("team", "generic", "k"))


async def test_file_of_long_ago_shows_its_use(service: Service, store: Store) -> None:
    row = await service.put("team", "generic", "k", os.urandom(BIG))
    data = bytes_of(await service.get("team", "generic", "k"))
    path = store.cas.path(row.digest)
    later = time.time() + 7 * 3600
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("engine.http.opening.time.time", lambda: later)
        before = os.stat(path).st_ctime_ns
        await trio.sleep(0.02)
        assert bytes_of(await service.get("team", "generic", "k")) == data
        assert os.stat(path).st_ctime_ns > before


async def test_memory_for_hot_blobs_is_bounded(store: Store) -> None:
    service = Service(store, hot_bytes=100_000)
    for number in range(100):
        await service.put("team", "generic", f"{number}", os.urandom(4000))
        await service.get("team", "generic", f"{number}")
    opener = service._opener
    assert 50_000 < opener.hot_bytes <= 100_000
    table = store.cas.primary.table
    assert table is not None
    found = service.find("team", "generic", "99")
    assert found is not None
    table.remove([found.digest])
    assert bytes_of(await service.get("team", "generic", "99"))
    await service.aclose()


async def test_removal(service: Service, store: Store) -> None:
    await service.put("team", "generic", "k", os.urandom(BIG))
    assert await service.remove("team", "generic", "k")
    assert not await service.remove("team", "generic", "k")
    assert not await service.remove("team", "generic", "never")
    assert await service.get("team", "generic", "k") is None
    for _ in range(500):
        if not blob_files(store):
            break
        await trio.sleep(0.01)
    assert blob_files(store) == []


async def test_what_has_no_row_is_out_of_sight(service: Service, store: Store) -> None:
    small = store.cas.put_object(b"an object")
    store.cas.commit_objects()
    large = store.cas.put_bytes(os.urandom(BIG))
    await service.put_many("team", [Item("blob", digest_bytes(b"theirs"), b"theirs")])
    for digest in (small, large, digest_bytes(b"theirs")):
        assert await service.get("default", "blob", digest) is None
        assert await service.missing("default", [digest]) == [digest]
        assert not await service.remove("default", "blob", digest)


async def test_entries_are_listed(service: Service) -> None:
    items = [Item("webdav", f"d/{number:03}", b"%d" % number) for number in range(600)]
    assert len(await service.put_many("team", items)) == 600
    assert await service.put_many("team", []) == []
    found = [key async for key, _ in service.each("team", "webdav", "d/1")]
    assert found == [f"d/{number}" for number in range(100, 200)]
    assert len([key async for key, _ in service.each("team", "webdav")]) == 600


async def test_many_uploads_at_once(service: Service, store: Store) -> None:
    values = {f"{number}": os.urandom(10 ** (1 + number % 6)) for number in range(120)}

    async def upload(name: str) -> None:
        await service.put("team", "generic", name, values[name])

    async with trio.open_nursery() as nursery:
        for name in values:
            nursery.start_soon(upload, name)
    for name, data in values.items():
        assert bytes_of(await service.get("team", "generic", name)) == data
    assert store.cas.unfinished() == []
    assert service.usage("team").entries == 120


async def test_closed_service_refuses(store: Store) -> None:
    service = Service(store)
    await service.put("team", "generic", "k", b"x")
    await service.aclose()
    with pytest.raises(Failure) as caught:
        await service.put("team", "generic", "l", b"y")
    assert caught.value.status == 503
    assert bytes_of(await service.get("team", "generic", "k")) == b"x"


async def test_same_again_is_not_committed_again(
    service: Service, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(BIG)
    row = await service.put("team", "generic", "k", data, meta={"a": "b"})
    commits = []
    together = Committer._together

    def counted(self: Committer, arrivals: Sequence[Arrival]) -> None:
        commits.append(len(arrivals))
        together(self, arrivals)

    monkeypatch.setattr(Committer, "_together", counted)
    assert await service.put("team", "generic", "k", data, meta={"a": "b"}) == row
    assert commits == []
    assert store.cas.unfinished() == []
    await service.put("team", "generic", "k", data)
    await service.put("team", "generic", "k", b"other")
    os.unlink(store.cas.path((await service.put("team", "generic", "l", data)).digest))
    await service.put("team", "generic", "l", data)
    assert commits == [1, 1, 1, 1]
    assert bytes_of(await service.get("team", "generic", "l")) == data


async def test_blob_of_a_slow_tier_is_there(tmp_path: Path) -> None:
    tiers = [
        TierSpec(name="fast", path=tmp_path / "fast", level=1),
        TierSpec(name="slow", path=tmp_path / "slow", level=3),
    ]
    with Store(tmp_path / "store", tiers, Policy(cold_hours=0)) as store:
        service = Service(store)
        data = bytes(BIG)
        row = await service.put("team", "blob", digest_bytes(data), data)
        service.close()
        migrate(store, plan_migration(store))
        assert [path.suffix for path in (tmp_path / "slow" / "blobs").rglob("*.zst")] == [".zst"]
        assert not list((tmp_path / "fast" / "blobs").glob("*/*"))
        assert await service.missing("team", [row.digest]) == []
        assert service.is_there("team", "blob", [row.digest])
        assert bytes_of(await service.get("team", "blob", row.digest)) == data
        again = Service(store)
        assert await again.remove("team", "blob", row.digest)
        await again.aclose()
        Reaper(store, store.entries()).reap()
        assert not list(tmp_path.glob("*/blobs/*/*"))
        assert verify(store).problems == ()
