"""Tests of uploads that are committed together, and of what is removed when entries go."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.commits import Arrival, Committer
from store.digest import Digest, digest_bytes
from store.entries import Entries
from store.errors import HostError, NoSpace
from store.gc import collect
from store.incoming import Incoming
from store.leases import Lease, holders
from store.object_table import LARGEST
from store.policy import Policy
from store.reaping import Reaper, still_there
from store.roots import artifact_root
from store.store import Store
from store.tierset import TierSet
from store.verify import verify
from tests.store.results import make

BIG = 2 * LARGEST


class Uploads:
    """A committer, and short ways to give it something."""

    def __init__(self, store: Store, quota: int | None = None) -> None:
        self.store = store
        self.entries: Entries = store.entries()
        self.committer = Committer(store, self.entries, {} if quota is None else {"*": quota})

    def incoming(self, data: bytes) -> Incoming:
        incoming = Incoming(self.store.cas)
        for at in range(0, len(data) or 1, 100_000):
            incoming.write(data[at : at + 100_000])
        incoming.finish()
        return incoming

    def put(self, **values: bytes) -> list[Arrival]:
        """Commit together and wait; raises what they failed with."""
        arrivals = [
            Arrival("team", "generic", name, self.incoming(data)) for name, data in values.items()
        ]
        done = threading.Event()
        self.committer.submit(arrivals, done.set)
        assert done.wait(60)
        for one in arrivals:
            if one.error is not None:
                raise one.error
        return arrivals

    def has(self, name: str) -> bool:
        row = self.entries.find("team", "generic", name)
        return row is not None and still_there(self.store.cas, row.digest)

    def reaped(self) -> bool:
        """Remove orphans, and say whether all of them went."""
        return not Reaper(self.store, self.entries).reap()


@pytest.fixture
def uploads(store: Store) -> Iterator[Uploads]:
    made = Uploads(store)
    yield made
    made.committer.close()


def files(root: Path) -> int:
    """Return how many blobs are files."""
    return sum(len(names) for _, _, names in os.walk(root / "blobs"))


def test_small_and_large_are_there_for_others(uploads: Uploads, store: Store) -> None:
    values = {"empty": b"", "small": b"x" * 4096, "edge": b"y" * LARGEST, "large": os.urandom(BIG)}
    for arrival in uploads.put(**values):
        assert arrival.row is not None
        assert arrival.row.digest == digest_bytes(values[arrival.key])
    assert files(store.root) == 1
    for name, data in values.items():
        row = uploads.entries.find("team", "generic", name)
        assert row is not None
        assert row.size == len(data)
        assert store.cas.get_bytes(row.digest) == data
    assert store.cas.unfinished() == []
    assert verify(store).problems == ()


def test_all_that_wait_share_one_sync(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    sync, begun, go_on = TierSet.sync, threading.Event(), threading.Event()

    def slow(self: TierSet) -> bool:
        syncs.append(1)
        begun.set()
        assert go_on.wait(60)
        return sync(self)

    monkeypatch.setattr(TierSet, "sync", slow)
    done = [threading.Event() for _ in range(20)]
    for number, event in enumerate(done):
        incoming = uploads.incoming(b"%d" % number)
        uploads.committer.submit([Arrival("team", "generic", f"{number}", incoming)], event.set)
        if not number:
            assert begun.wait(60)
    assert not any(event.is_set() for event in done)
    go_on.set()
    assert all(event.wait(60) for event in done)
    assert len(syncs) == 2


def test_upload_that_is_given_up_leaves_nothing(uploads: Uploads, store: Store) -> None:
    incoming = Incoming(store.cas, sha256=True)
    incoming.write(bytes(BIG))
    assert len(store.cas.unfinished()) == 1
    incoming.discard()
    assert store.cas.unfinished() == []
    assert files(store.root) == 0


def test_same_again_is_not_written_again(uploads: Uploads, store: Store) -> None:
    data = os.urandom(BIG)
    uploads.put(first=data, other=b"small")
    (path,) = (os.path.join(d, n) for d, _, names in os.walk(store.root / "blobs") for n in names)
    inode = os.stat(path).st_ino
    uploads.put(second=data, third=b"small")
    assert os.stat(path).st_ino == inode
    assert uploads.has("second")
    assert store.cas.unfinished() == []


def test_file_that_no_row_names_is_written_anew(uploads: Uploads, store: Store) -> None:
    data = os.urandom(BIG)
    store.cas.put_bytes(data)
    path = store.cas.path(digest_bytes(data))
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:  # what a power cut may leave
        file.write(b"garbage")
    os.utime(path, ns=(315532800 * 10**9,) * 2)
    uploads.put(name=data)
    assert store.cas.get_bytes(digest_bytes(data)) == data
    assert verify(store).problems == ()


def test_damaged_object_is_mended_by_the_next_upload(uploads: Uploads, store: Store) -> None:
    uploads.put(name=b"right")
    table = store.cas.primary.table
    assert table is not None
    table.put({digest_bytes(b"right"): b"wrong"})
    uploads.put(again=b"right")
    assert store.cas.get_bytes(digest_bytes(b"right")) == b"right"


def test_evicted_bytes_leave_the_disk(store: Store) -> None:
    uploads = Uploads(store, quota=3 * BIG)
    for number in range(8):
        uploads.put(**{f"{number}": os.urandom(BIG), f"small{number}": os.urandom(1000)})
    assert uploads.reaped()
    assert files(store.root) <= 3
    assert uploads.has("7")
    assert not uploads.has("0")
    (gone,) = uploads.committer.evicted.values()
    assert gone.entries > 8
    uploads.committer.close()
    assert list(uploads.entries.orphans()) == []
    assert verify(store).problems == ()


def test_what_the_store_itself_needs_stays(uploads: Uploads, store: Store) -> None:
    made = make(store, "made", size=BIG)
    store.actions.commit_with([artifact_root("app", "app", made.result.outputs)])
    data = b"made".ljust(BIG, b".")
    (arrival,) = uploads.put(same=data)
    assert arrival.row is not None
    uploads.entries.remove([arrival.row])
    assert uploads.reaped()
    assert store.cas.get_bytes(digest_bytes(data)) == data
    assert verify(store).problems == ()


def test_what_running_builds_may_use_waits(uploads: Uploads, store: Store) -> None:
    (arrival,) = uploads.put(name=os.urandom(BIG))
    assert arrival.row is not None
    with store.lease("build"):
        uploads.entries.remove([arrival.row])
        assert not uploads.reaped()
        assert still_there(store.cas, arrival.row.digest)
    assert uploads.reaped()
    assert not still_there(store.cas, arrival.row.digest)


def test_orphan_that_is_uploaded_again_stays(uploads: Uploads, store: Store) -> None:
    data = os.urandom(BIG)
    (arrival,) = uploads.put(name=data)
    assert arrival.row is not None
    uploads.entries.remove([arrival.row])
    uploads.put(other=data)
    assert uploads.reaped()
    assert uploads.has("other")
    assert store.cas.unfinished() == []


def test_blob_that_vanishes_before_its_row_is_put_again(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(BIG)
    (arrival,) = uploads.put(name=data, small=b"small")[:1]
    assert arrival.row is not None
    uploads.entries.remove(row for _, row in uploads.entries.each("team"))
    sync, first = TierSet.sync, [1]

    def reap(self: TierSet) -> bool:
        if first:
            first.pop()
            assert uploads.reaped()  # another process does so
        return sync(self)

    monkeypatch.setattr(TierSet, "sync", reap)
    uploads.put(other=data, smaller=b"small")
    assert uploads.has("other")
    assert uploads.has("smaller")


def test_lease_is_short_and_has_little_slack(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.commits.IDLE_SECONDS", 0.05)
    uploads.put(name=b"x")
    (holder,) = holders(store.root)
    assert (holder.purpose, holder.slack) == ("serve", 60)
    for _ in range(100):
        if not holders(store.root):
            break
        time.sleep(0.05)
    assert holders(store.root) == []


def test_renewed_lease_spares_less(store: Store) -> None:
    with Lease(store.root, "serve", slack=60) as lease:
        (before,) = holders(store.root)
        time.sleep(0.01)
        lease.renew()
        (after,) = holders(store.root)
    assert after.since > before.since


def test_collector_keeps_what_entries_name(uploads: Uploads, store: Store) -> None:
    uploads.put(name=os.urandom(BIG), small=b"small")
    garbage = store.cas.put_bytes(os.urandom(BIG))
    uploads.committer.close()
    report = collect(store)
    assert report is not None
    assert report.kept["cache entries"].number == 2
    assert uploads.has("name")
    assert uploads.has("small")
    assert not store.cas.has(garbage)
    assert verify(store).problems == ()


def test_collector_removes_entries_that_are_old(uploads: Uploads, store: Store) -> None:
    uploads.put(name=os.urandom(BIG), small=b"small")
    uploads.committer.close()
    store.policy = Policy(keep_days=0)
    dry = collect(store, dry_run=True)
    report = collect(store)
    assert dry is not None
    assert report is not None
    assert dry.removed["cache entries"] == report.removed["cache entries"]
    assert report.removed["cache entries"].number == 2
    assert files(store.root) == 0
    assert uploads.entries.name_spaces() == {}


def test_oldest_entries_give_way_to_a_limit(uploads: Uploads, store: Store) -> None:
    for number in range(4):
        uploads.put(**{f"{number}": os.urandom(BIG)})
    uploads.committer.close()
    report = collect(store, max_size=5 * BIG // 2)
    assert report is not None
    assert [uploads.has(f"{number}") for number in range(4)] == [False, False, True, True]
    assert report.over == 0
    assert verify(store).problems == ()


def test_verify_finds_entries_whose_blobs_are_gone(uploads: Uploads, store: Store) -> None:
    (arrival, _) = uploads.put(name=os.urandom(BIG), small=b"small")
    assert arrival.row is not None
    os.unlink(store.cas.path(arrival.row.digest))
    (problem,) = verify(store).problems
    assert problem.where == "cache/team/generic/name"
    assert verify(store, repair=True).sound
    assert verify(store).problems == ()
    assert uploads.has("small")


def test_collector_and_uploads_run_side_by_side(store: Store) -> None:
    uploads = Uploads(store, quota=10 * BIG)
    ended = threading.Event()

    thread = threading.Thread(target=in_a_process, args=(store.root, ended))
    thread.start()
    try:
        kept = os.urandom(BIG)
        for number in range(60):
            uploads.put(
                **{"kept": kept, f"{number}": os.urandom(BIG), f"small{number}": b"%d" % number}
            )
            assert uploads.has("kept")
            assert uploads.has(f"{number}")
    finally:
        ended.set()
        thread.join()
        uploads.committer.close()
    assert verify(store).problems == ()


def in_a_process(root: Path, ended: threading.Event) -> None:
    """Collect over and over in another process, until told."""
    code = (
        "import sys; from pathlib import Path; from store.store import Store;"
        "from store.gc import collect\n"
        "with Store(Path(sys.argv[1])) as store:\n"
        "    while True: collect(store)"
    )
    place = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, root], cwd=place)
    ended.wait(60)
    assert process.poll() is None
    process.kill()
    process.wait()


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "t", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
def test_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk, Store(disk / "store") as store:
        uploads = Uploads(store)
        there: dict[str, bytes] = {}
        failures = 0
        for number in range(80):
            name, data = f"{number}", os.urandom((1000, 100_000, BIG, 3 * BIG)[number % 4])
            try:
                uploads.put(**{name: data})
            except NoSpace:
                failures += 1
            else:
                there[name] = data
        assert failures > 10
        assert store.cas.unfinished() == []
        rows = [row for _, row in uploads.entries.each("team")]
        assert len(rows) == len(there)
        assert files(store.root) == sum(row.size > LARGEST for row in rows)
        for name, data in there.items():
            row = uploads.entries.find("team", "generic", name)
            assert row is not None
            assert store.cas.get_bytes(row.digest) == data
        large = [row for row in rows if row.size > LARGEST]
        uploads.entries.remove(large)
        assert uploads.reaped()
        assert files(store.root) == 0
        store.cas.tier_set.retry()
        uploads.put(after=os.urandom(BIG))
        uploads.committer.close()
        assert verify(store).problems == ()


def test_failing_rows_leave_no_blobs(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Entries, "put", fail)
        with pytest.raises(NoSpace):
            uploads.put(name=os.urandom(BIG), small=b"small")
    assert files(store.root) == 0
    assert not still_there(store.cas, digest_bytes(b"small"))
    assert store.cas.unfinished() == []
    uploads.put(small=b"small")


def test_too_many_open_files_do_not_drop_the_disk(
    uploads: Uploads, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr("store.tiers.sync_file_system", fail)
        with pytest.raises(HostError, match="too many"):
            uploads.put(name=os.urandom(BIG))
    uploads.put(name=os.urandom(BIG))
    assert store.cas.incidents() == []


def test_stale_row_is_forgotten(uploads: Uploads, store: Store) -> None:
    (arrival,) = uploads.put(name=os.urandom(BIG))
    row = arrival.row
    assert row is not None
    uploads.committer.forget(row)
    uploads.put(other=b"x")
    assert uploads.has("name")
    os.unlink(store.cas.path(Digest(row.digest)))
    uploads.committer.forget(row)
    uploads.put(more=b"x")
    assert uploads.entries.find("team", "generic", "name") is None


def test_large_index_is_followed_by_another_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store, "made")
    store.actions.commit()
    monkeypatch.setattr("store.commits.MOST_FOLLOWED", 1)
    uploads = Uploads(store)
    (arrival,) = uploads.put(name=os.urandom(BIG))
    assert arrival.row is not None
    uploads.entries.remove([arrival.row])
    assert not uploads.committer.reaper.reap()
    assert still_there(store.cas, arrival.row.digest)
    assert uploads.reaped()
    assert not still_there(store.cas, arrival.row.digest)
    uploads.committer.close()
