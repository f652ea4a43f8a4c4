"""Tests of stores of format 1: one that was recorded, and larger ones made of new ones."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import lmdb
import pytest

from engine.history import History
from store.cas import Cas
from store.digest import digest_bytes
from store.epoch import EPOCH_NS
from store.errors import HostError, IntegrityError
from store.index import OLD, Table
from store.object_rows import OLD as OLD_OBJECTS
from store.object_rows import TIME
from store.objects import Tree
from store.pages import DATA
from store.rebuild import rebuild
from store.store import FORMAT, Store
from store.tiers import State, TierSpec
from store.verify import verify
from tests.store.results import blobs, make

RECORDED = Path(__file__).parents[1] / "data" / "store-1.tar.gz"
STEPS = 8
KILLS = 12
WRITTEN = 1_000_000_000.0

OPEN = """
import sys
from pathlib import Path
from store.store import Store
print("go", flush=True)
with Store(Path(sys.argv[1])) as store:
    print("open", flush=True)
    sys.stdin.readline()
"""


def tiers(root: Path) -> list[TierSpec]:
    return [
        TierSpec(name="store", path=root / "store", level=1),
        TierSpec(name="slow", path=root / "slow", level=3),
    ]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Where the store that was recorded lies, with its two tiers."""
    with tarfile.open(RECORDED) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def is_as_recorded(root: Path) -> bool:
    """Say whether the store has all that was put into the recorded one, in both tiers."""
    with Store(root / "other") as other, Store(root / "store", tiers(root)) as store:
        made = [make(other, f"step {n}", observed=n % 2 == 0) for n in range(STEPS)]
        history = History(store, Path("/project/spec.toml"))
        assert [store.actions.result_of(one.digest) for one in made] == [o.result for o in made]
        assert all(store.actions.realisation(one.recipe) for one in made)
        assert [history.of(f"step {n}")[0].action for n in range(STEPS)] == [
            one.digest for one in made
        ]
        assert len(dict(store.index.items(Table.OBSERVED))) == STEPS // 2
        assert store.index.get(Table.STATS, "odd") == b"\xff\xfe odd"
        assert store.index.get_json(Table.ALIASES, "0" * 64) == [made[1].result.outputs, 7]
        assert "artifact/app" in dict(store.index.items(Table.ROOTS))
        slow = store.cas.tiers[-1]
        assert slow.read_object(digest_bytes(Tree().encode())) == Tree().encode()
        assert store.index.number("used/store")
        assert verify(store).problems == ()
    return (root / "store" / "format").read_text() == f"{FORMAT}\n"


def downgrade(root: Path, *, note: bool = True) -> None:
    """Make a closed store (with one tier) one of format 1."""
    with Store(root) as store:
        table = store.cas.primary.table
        assert table is not None
        objects = {bytes.fromhex(one): table.read(one) or b"" for one, _ in table.held()}
        facts = {one: dict(store.index.items(one)) for one in Table}
    time_ = TIME.pack(WRITTEN)
    rows = {OLD_OBJECTS: {key: time_ + data for key, data in objects.items()}}
    write_old(root / "objects", rows)
    named = {str(OLD if one is Table.META else one): rows for one, rows in facts.items()}
    write_old(
        root / "index",
        {name: {k.encode(): v for k, v in rows.items()} for name, rows in named.items()},
    )
    if note:
        (root / "format").write_text("1\n")


def write_old(path: Path, tables: dict[str, dict[bytes, bytes]]) -> None:
    for name in (DATA, "lock.mdb"):
        (path / name).unlink(missing_ok=True)
    environment = lmdb.open(str(path), map_size=1 << 30, max_dbs=16)
    for name, rows in tables.items():
        handle = environment.open_db(name.encode())
        with environment.begin(handle, write=True) as transaction:
            for key, value in sorted(rows.items()):
                transaction.put(key, value)
    environment.close()
    os.utime(path / DATA, ns=EPOCH_NS)


def test_recorded_store_is_brought_up_to_date(recorded: Path) -> None:
    assert is_as_recorded(recorded)
    assert is_as_recorded(recorded)
    for place in ("store/objects", "store/index", "slow/objects"):
        assert not (recorded / place / "upgrade").exists()


def test_objects_keep_their_times_and_lie_as_they_were_written(tmp_path: Path) -> None:
    with Store(tmp_path / "s") as store:
        digests = [store.cas.put_object(b"%d" % n) for n in range(300)]
    downgrade(tmp_path / "s")
    with Store(tmp_path / "s") as store:
        table = store.cas.primary.table
        assert table is not None
        assert {one: found.used for one, found in table.held()} == dict.fromkeys(digests, WRITTEN)
        assert blobs(store) == set(digests)


def test_store_that_another_process_uses_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with Store(root) as store:
        make(store, "made")
    downgrade(root)
    before = {path: (root / path / DATA).read_bytes() for path in ("objects", "index")}
    script = "import lmdb, sys; e = lmdb.open(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-I", "-c", script]
    for place in ("objects", "index"):
        with subprocess.Popen(
            [*command, str(root / place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout
            assert other.stdin
            other.stdout.readline()
            with pytest.raises(HostError, match=f"process {other.pid} uses it"):
                Store(root)
            other.stdin.close()
        assert {path: (root / path / DATA).read_bytes() for path in before} == before
        assert (root / "format").read_text() == "1\n"
    with Store(root) as store:
        assert verify(store).problems == ()


def test_read_only_store_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "s"
    with Store(root) as store:
        make(store, "made")
    downgrade(root)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    with pytest.raises(HostError, match="made by an older bn and is read-only") as told:
        Store(root)
    assert "writable" in told.value.hint


def test_full_disk_leaves_the_old_store(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("store.upgrade.os.rename", full)
        with pytest.raises(HostError, match="cannot be brought up to date"):
            Store(recorded / "store", tiers(recorded))
    assert is_as_recorded(recorded)


def test_tier_that_comes_later_is_brought_up_to_date(recorded: Path) -> None:
    os.rename(recorded / "slow", recorded / "away")
    with Store(recorded / "store", tiers(recorded)[:1]):
        pass
    os.rename(recorded / "away", recorded / "slow")
    assert is_as_recorded(recorded)


def test_tier_that_another_uses_is_left_out(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(recorded / "store", tiers(recorded)[:1]):
        pass

    def used(path: Path, lost: object) -> None:
        raise HostError(f"{path}: another process uses it")

    monkeypatch.setattr("store.upgrade.upgrade_objects", used)
    with Store(recorded / "store", tiers(recorded)) as store:
        assert [tier.state for tier in store.cas.tiers] == [State.OK, State.GONE]


def test_two_processes_at_once_bring_it_up_to_date_once(recorded: Path) -> None:
    command = [sys.executable, "-I", "-c", OPEN, str(recorded / "store")]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        out, _ = process.communicate("\n")
        assert out.split() == ["go", "open"]
        assert process.returncode == 0
    assert is_as_recorded(recorded)


def test_killed_upgrades_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    root = tmp_path / "s"
    with Store(root) as store:
        made = [make(store, f"step {n}") for n in range(20)]
        store.actions.commit()
        filling = [store.cas.put_object(chance.randbytes(200)) for _ in range(30_000)]
    found = set()
    whole = 0.0
    for turn in range(KILLS):
        if turn == 0 or (root / "format").read_text() == f"{FORMAT}\n":
            downgrade(root)
        whole = max(whole, opening(root, chance.uniform(0, whole) if turn else None))
        found.add((root / "format").read_text())
    with Store(root) as store:
        assert all(store.actions.result_of(one.digest) == one.result for one in made)
        assert all(store.cas.has(one) for one in filling)
        assert verify(store).problems == ()
    assert len(found) > 1, "the kills came at too few moments"


def opening(root: Path, seconds: float | None) -> float:
    """Open a store in another process, killed after so many seconds; return how long it took."""
    command = [sys.executable, "-I", "-c", OPEN, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"go\n"
        started = time.monotonic()
        if seconds is None:
            assert process.stdout.readline() == b"open\n"
        else:
            time.sleep(seconds)
            process.kill()
        took = time.monotonic() - started
        assert process.stdin
        process.stdin.close()
        return took


def test_damaged_old_tables_are_saved_from(recorded: Path) -> None:
    path = recorded / "store" / "objects" / DATA
    data = bytearray(path.read_bytes())
    data[3 * 4096 : 3 * 4096 + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        Store(recorded / "store", tiers(recorded))
    with Store(recorded / "other") as other:
        made = [make(other, f"step {n}", observed=n % 2 == 0) for n in range(STEPS)]
    cas = Cas(recorded / "store", tiers(recorded))
    cas.create()
    rebuild(recorded / "store", cas)
    with Store(recorded / "store", tiers(recorded)) as store:
        there = [store.actions.result_of(one.digest) == one.result for one in made]
        assert sum(there) > 0
        assert verify(store).problems == ()
    assert (recorded / "store" / "format").read_text() == f"{FORMAT}\n"


def test_checkpoint_of_the_old_table_is_not_taken_for_one_of_the_new(tmp_path: Path) -> None:
    root = tmp_path / "s"
    with Store(root) as store:
        store.relax()
        digest = store.cas.put_object(b"from a server")
    downgrade(root)
    assert (root / "objects" / "checkpoint").exists()
    with Store(root) as store:
        assert not (root / "objects" / "checkpoint").exists()
        assert store.cas.get_bytes(digest) == b"from a server"
