"""Tests of the collector: what stays, what goes, and when nothing may go."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest

from store.closure import Claim, Closure, Kind
from store.errors import HostError
from store.gc import Report, collect
from store.index import Table, to_json
from store.keep import Users
from store.leases import Lease
from store.materialise import materialised
from store.policy import Policy
from store.roots import artifact_root, link_root, roots
from store.store import Store
from store.tiers import TierSpec
from store.verify import verify
from tests.store.results import (
    blobs,
    claim,
    held_bytes,
    is_whole,
    lose,
    make,
    nested,
    one_file,
)


def collected(store: Store, *claims: Claim, max_size: int | None = None) -> Report:
    """Collect, and check that what is left is sound."""
    report = collect(store, claims, max_size=max_size)
    assert report is not None
    assert verify(store).problems == ()
    return report


def test_unreachable_goes_and_claims_stay_whole(store: Store) -> None:
    kept, gone = make(store, "kept"), make(store, "gone")
    store.actions.commit()
    report = collected(store, claim([kept]))
    assert is_whole(store, kept)
    assert store.cas.has(kept.action.input_root)
    assert store.actions.realisation(kept.recipe)
    assert not is_whole(store, gone)
    assert not store.cas.has(gone.result.outputs)
    assert store.index.get(Table.ACTION_CACHE, gone.digest) is None
    assert store.index.get(Table.REALISATIONS, gone.recipe) is None
    assert report.removed["blobs"].number >= 9
    assert collected(store, claim([kept])).removed == {}


def test_nothing_but_roots_is_kept_without_claims(store: Store) -> None:
    made = make(store, "made")
    store.actions.commit_with([artifact_root("app", "app", made.result.outputs)])
    collected(store)
    reachable = Closure(store.cas, store.index)
    reachable.mark([(Kind.TREE, made.result.outputs)])
    realisation = store.index.get(Table.REALISATIONS, made.recipe)
    assert realisation, "it is small, and tells that the artifact is up to date"
    assert blobs(store) == {*reachable.live, realisation.decode()}


def test_dry_run_changes_nothing(store: Store) -> None:
    make(store, "gone")
    store.actions.commit()
    before = blobs(store)
    entries = dict(store.index.items(Table.ACTION_CACHE))
    report = collect(store, dry_run=True)
    assert report is not None
    assert report.removed["blobs"].number >= len(before)
    assert blobs(store) == before
    assert dict(store.index.items(Table.ACTION_CACHE)) == entries


def test_link_is_a_root_while_it_leads_to_the_tree(store: Store, tmp_path: Path) -> None:
    tree = nested(store, one_file(store, "f", b"content"))
    link = tmp_path / "result"
    link.symlink_to(materialised(store.cas, tree))
    store.index.write([link_root(link, tree)])
    old = Policy(keep_days=0)
    store.policy = old
    collected(store)
    assert (link / "inner/f").read_bytes() == b"content"
    link.unlink()
    report = collected(store)
    assert report.removed["shown trees"].number == 1
    assert not blobs(store)
    assert not list(roots(store.index))
    assert not (store.root / "trees" / tree).exists()


def test_link_with_a_long_or_odd_path_is_a_root(store: Store, tmp_path: Path) -> None:
    tree = one_file(store, "f", b"content")
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    long = tmp_path.joinpath(*["d" * 200] * 4)
    long.mkdir(parents=True)
    store.policy = Policy(keep_days=0)
    for directory in (odd, long):
        link = directory / "result"
        link.symlink_to(materialised(store.cas, tree))
        store.index.write([link_root(link, tree)])
        assert any(root.live and root.name == str(link) for root in roots(store.index))
        collected(store)
        assert (link / "f").read_bytes() == b"content"
        link.unlink()


def test_shown_tree_that_was_used_lately_stays_with_its_blobs(store: Store) -> None:
    tree = one_file(store, "f", b"content")
    shown = materialised(store.cas, tree)
    collected(store)
    assert (shown / "f").exists()
    assert store.cas.has(tree)


def test_download_that_was_used_lately_stays(store: Store) -> None:
    digest = store.cas.put_bytes(b"fetched")
    store.index.write([(Table.ALIASES, "0" * 64, to_json([digest, 7]))])
    collected(store)
    assert store.cas.has(digest)
    store.policy = Policy(keep_days=0)
    collected(store)
    assert not store.cas.has(digest)
    assert store.index.get(Table.ALIASES, "0" * 64) is None


def test_while_a_build_runs_what_it_may_use_stays(store: Store) -> None:
    made = make(store, "made")
    store.actions.commit()
    with Lease(store.root, "build"):
        report = collected(store)
        assert "blobs" not in report.removed
        assert report.kept["running builds"].number >= 8
        assert is_whole(store, made)
    collected(store)
    assert not is_whole(store, made)


def test_build_that_began_after_long_use_spares_only_what_is_recent(store: Store) -> None:
    made = make(store, "made")
    store.actions.commit()
    users = Users(store.root)
    assert users.look() == float("inf")
    with Lease(store.root, "build"):
        assert users.look() < time.time() - 6 * 3600
        assert users.look() > time.time() - 7 * 3600
    assert users.look() < time.time(), "who was there may have named something"
    assert is_whole(store, made)


def test_build_that_was_begun_early_spares_what_was_used_since(store: Store) -> None:
    users = Users(store.root)
    began = time.time() - 5 * 3600
    with store.lease("build", began):
        assert began - 7 * 3600 < users.look() < began - 5 * 3600


def test_a_store_at_rest_is_as_it_was_left_unless_somebody_collects(
    store: Store, tmp_path: Path
) -> None:
    tree = one_file(store, "a", b"data")
    before = set(os.listdir("/proc/self/fd"))
    state = store.rest()
    assert set(os.listdir("/proc/self/fd")) < before
    assert not any("data.mdb" in line for line in Path("/proc/self/maps").read_text().splitlines())
    store.wake()
    assert store.cas.get_tree(tree).entries.keys() == {"a"}
    assert store.index.state() == state
    assert store.rest() == state
    with Store(store.root) as other:
        assert other.index.state() == state
        collect(other, dry_run=True)
        assert other.index.state() == state
        collect(other)
    store.wake()
    assert store.index.state() != state


def test_it_is_noted_that_somebody_collects_before_anything_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = store.index.state()
    seen = []

    def killed(*_: object) -> None:
        seen.append(store.index.state())
        raise KeyboardInterrupt

    monkeypatch.setattr("store.gc.make_plan", killed)
    with pytest.raises(KeyboardInterrupt):
        collect(store)
    assert seen
    assert seen[0] != state


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_disk_without_room_for_a_note_is_collected(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "bn-test", tmp_path], check=True)
    try:
        with Store(tmp_path / "store") as store:
            blob = store.cas.put_bytes(bytes(2_000_000))
        with contextlib.suppress(OSError), open(tmp_path / "fill", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with Store(tmp_path / "store") as store:
            collected(store)
            assert not store.cas.has(blob)
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


def test_build_that_came_and_went_meanwhile_is_noticed(store: Store) -> None:
    users = Users(store.root)
    with Lease(store.root, "build"):
        pass
    assert users.look() < time.time()


def test_clock_that_jumped_back_spares_all(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    make(store, "made")
    store.actions.commit()
    before = blobs(store)
    now = time.time()
    with Lease(store.root, "build"):
        monkeypatch.setattr(time, "time", lambda: now - 10 * 86400)
        report = collect(store)
        assert report is not None
    assert blobs(store) == before


def test_size_makes_the_oldest_claims_give_way_first(store: Store) -> None:
    made = [make(store, f"made {number}", size=100_000) for number in range(5)]
    store.actions.commit()
    claims = [claim([one], f"build {n}", time=float(n)) for n, one in enumerate(made)]
    report = collected(store, *claims, max_size=500_000)
    assert [is_whole(store, one) for one in made] == [False, False, False, True, True]
    assert report.evicted == ("build 2", "build 1", "build 0")
    assert report.over == 0
    assert sum(report.used.values()) <= 500_000


def test_size_that_cannot_be_reached_is_said_and_roots_stay(store: Store) -> None:
    made = make(store, "made", size=100_000)
    store.actions.commit_with([artifact_root("app", "app", made.result.outputs)])
    report = collected(store, max_size=50_000)
    assert report.over > 100_000
    assert store.cas.has(made.result.outputs)


def test_facts_about_what_is_gone_go_too(store: Store) -> None:
    made = make(store, "gone")
    rows = [{"action": made.digest, "build": "b", "log": made.result.log}]
    store.actions.commit_with(
        [
            (Table.HISTORY, "h", to_json(rows)),
            (Table.STATS, "s", to_json({"f": [[1, 2, 3, 4], made.result.log]})),
            (Table.HEAT, made.result.log, to_json([3, 5])),
            (Table.DERIVED, "d", made.result.outputs.encode()),
        ]
    )
    collected(store)
    for table in (Table.HISTORY, Table.STATS, Table.HEAT, Table.DERIVED, Table.OBSERVED):
        assert not dict(store.index.items(table)), table


def test_observed_paths_go_with_their_result(store: Store) -> None:
    kept, gone = make(store, "kept", observed=True), make(store, "gone", observed=True)
    store.actions.commit()
    assert len(dict(store.index.items(Table.OBSERVED))) == 2
    collected(store, claim([kept]))
    assert len(dict(store.index.items(Table.OBSERVED))) == 1
    assert len(dict(store.index.items(Table.ACTION_CACHE))) == 2
    assert not is_whole(store, gone)


def test_leftovers_go(store: Store) -> None:
    old = time.time() - 40 * 86400
    (store.root / "records").mkdir()
    for name, age in (("old", old), ("new", time.time())):
        path = store.root / "records" / name
        path.write_text("{}")
        os.utime(path, (age, age))
    (store.root / "quarantine").mkdir()
    (store.root / "quarantine/bad").write_bytes(b"x")
    build = store.root / "builds/b1"
    build.mkdir(parents=True)
    report = collect(store, expired=[build])
    assert report is not None
    assert {kind: count.number for kind, count in report.removed.items()} == {
        "builds": 1,
        "records": 1,
        "quarantined": 1,
    }
    assert (store.root / "records/new").exists()


def test_count_of_bytes_is_put_right(store: Store) -> None:
    kept = make(store, "kept")
    make(store, "gone")
    store.actions.commit()
    counted = store.index.number("used/store")
    assert counted == held_bytes(store)
    store.index.write([(Table.META, "used/store", b"5")])
    collected(store, claim([kept]))
    used = held_bytes(store)
    assert store.index.number("used/store") == used


@pytest.mark.parametrize("policy", ["none", "age"])
def test_tier_that_is_not_to_be_cleaned_is_left_alone(tmp_path: Path, policy: str) -> None:
    spec = TierSpec(
        name="one", path=tmp_path / "one", level=1, cleanup_policy=policy, retention_days=3
    )
    with Store(tmp_path / "store", [spec]) as store:
        made = make(store, "made")
        store.actions.commit()
        report = collected(store)
        assert "blobs" not in report.removed
        assert is_whole(store, made)


def test_copies_go_from_a_tier_that_is_over_its_limit(tmp_path: Path) -> None:
    fast = TierSpec(name="fast", path=tmp_path / "fast", level=1)
    slow = TierSpec(name="slow", path=tmp_path / "slow", level=2, max_size=1)
    with Store(tmp_path / "store", [fast, slow]) as store:
        made = make(store, "made")
        store.actions.commit()
        for path in list((tmp_path / "fast").glob("blobs/??/*")):
            copy = tmp_path / "slow/blobs" / path.parent.name / path.name
            copy.parent.mkdir(exist_ok=True)
            os.link(path, copy)
        report = collected(store, claim([made]))
        assert report.used["slow"] == 0
        assert is_whole(store, made)


def test_tier_that_is_gone_stops_the_collection(tmp_path: Path) -> None:
    fast = TierSpec(name="fast", path=tmp_path / "fast", level=1)
    slow = TierSpec(name="slow", path=tmp_path / "slow", level=2, auto_create=False)
    (tmp_path / "slow").mkdir()
    with Store(tmp_path / "store", [fast, slow]) as store:
        inner = one_file(store, "f", b"content")
        tree = nested(store, inner)
        store.index.write([artifact_root("app", "app", tree)])
        data = store.cas.get_bytes(inner)
        lose(store, inner)
        store.cas.tiers[1].write(inner, data, executable=False)
    os.rename(tmp_path / "slow", tmp_path / "unplugged")
    with Store(tmp_path / "store", [fast, slow]) as store:
        before = blobs(store)
        with pytest.raises(HostError, match="tier slow is gone"):
            collect(store)
        assert blobs(store) == before
