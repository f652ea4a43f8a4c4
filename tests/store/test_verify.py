"""Tests of verification, repair, and of making the index again."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from store.cas import MissingBlob
from store.errors import HostError, IntegrityError
from store.index import Index, Table, check
from store.leases import Lease
from store.materialise import materialised
from store.rebuild import rebuild
from store.roots import artifact_root
from store.store import Store
from store.tiers import Form
from store.verify import Report, verify
from tests.store.results import Made, held_bytes, is_whole, make, one_file, spoil


@pytest.fixture
def made(store: Store) -> Made:
    """A committed result, a root, and a tree that is shown."""
    made = make(store, "made", observed=True)
    store.actions.commit_with([artifact_root("app", "app", made.result.outputs)])
    materialised(store.cas, made.result.outputs)
    assert verify(store).problems == ()
    return made


def kinds(report: Report) -> list[str]:
    return sorted({problem.kind for problem in report.problems})


def flip(path: Path, at: int = -1) -> None:
    """Change one bit of a file, and nothing else about it."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def repaired(store: Store) -> Report:
    """Repair, check that nothing is wrong then, and return what was."""
    report = verify(store, repair=True)
    assert report.sound
    assert verify(store).problems == ()
    return report


def test_flipped_bit_in_a_blob_is_found_and_set_aside(store: Store, made: Made) -> None:
    flip(Path(store.cas.path(made.result.log)))
    report = verify(store)
    assert not report.sound
    assert kinds(report) == ["blob", "entry"]
    repaired(store)
    assert len(list((store.root / "quarantine").iterdir())) == 1
    with pytest.raises(MissingBlob):
        store.cas.get_bytes(made.result.log)
    assert not is_whole(store, made)


def test_flipped_bit_in_a_tree_is_found(store: Store, made: Made) -> None:
    spoil(store, made.result.outputs)
    assert kinds(repaired(store)) == ["blob", "entry", "shown tree"]


def test_other_form_of_a_blob_takes_the_place_of_a_bad_one(store: Store, made: Made) -> None:
    data = b"in both forms"
    digest = store.cas.put_bytes(data)
    store.cas.put_bytes(data, executable=True)
    flip(Path(store.cas.path(digest)))
    [problem] = repaired(store).problems
    assert problem.repaired == "quarantined; another copy is good"
    assert Path(store.cas.path(digest)).read_bytes() == data


def test_deleted_blob_is_found(store: Store, made: Made) -> None:
    os.unlink(store.cas.path(made.result.log))
    assert {problem.what for problem in repaired(store).problems} == {
        "names a result whose outputs are not all there"
    }


@pytest.mark.parametrize("how", ["mode", "time"])
def test_mode_and_time_are_mended_where_the_bytes_are_right(
    store: Store, made: Made, how: str
) -> None:
    path = Path(store.cas.path(made.result.log))
    if how == "mode":
        path.chmod(0o600)
    else:
        os.utime(path)
    [problem] = repaired(store).problems
    assert problem.repaired == "mended: its bytes are right"
    assert is_whole(store, made)


def test_stray_file_is_moved_away(store: Store, made: Made) -> None:
    (store.root / "blobs/ff/README").write_text("?")
    assert kinds(repaired(store)) == ["stray file"]
    assert not (store.root / "blobs/ff/README").exists()


def test_changed_shown_tree_is_removed(store: Store, made: Made) -> None:
    shown = store.root / "trees" / made.result.outputs
    (shown / "more").touch()
    assert kinds(repaired(store)) == ["shown tree"]
    shown = materialised(store.cas, made.result.outputs)
    (shown / "out").unlink()
    (shown / "out").write_bytes(b"?" * 100)
    assert kinds(repaired(store)) == ["shown tree"]
    assert is_whole(store, made)


def test_sample_reads_less_and_all_in_turn(store: Store, made: Made) -> None:
    flip(Path(store.cas.path(made.result.log)))
    found = [verify(store, sample=3) for _ in range(60)]
    assert all(report.bytes < verify(store).bytes for report in found)
    assert any(report.problems for report in found)
    assert any(not report.problems for report in found)


def test_entry_that_is_no_digest_is_dropped(store: Store, made: Made) -> None:
    store.index.write([(Table.ACTION_CACHE, "f" * 64, b"\xff?"), (Table.ROOTS, "r", b"?")])
    assert store.actions.result_of(made.digest) is not None
    assert kinds(repaired(store)) == ["entry"]
    assert is_whole(store, made)


# the index


def rebuilt(store: Store) -> Store:
    """Close the store, make its index again, and open it."""
    store.close()
    rebuild(store.root, store.cas)
    return Store(store.root)


def test_results_come_back_from_the_files_alone(store: Store, made: Made) -> None:
    entries = dict(store.index.items(Table.ACTION_CACHE))
    observed = dict(store.index.items(Table.OBSERVED))
    assert len(entries) == 2
    with rebuilt(store) as again:
        assert is_whole(again, made)
        assert again.actions.realisation(made.recipe)
        assert dict(again.index.items(Table.ACTION_CACHE)) == entries
        assert dict(again.index.items(Table.OBSERVED)) == observed
        assert again.index.number("used/store") == held_bytes(again)
        assert verify(again).problems == ()
    assert list(store.root.glob("index.*")), "the old one is kept"


def test_incomplete_result_does_not_come_back(store: Store, made: Made) -> None:
    os.unlink(store.cas.path(made.result.log))
    with rebuilt(store) as again:
        assert not is_whole(again, made)
        assert verify(again).problems == ()


def test_newest_of_two_results_comes_back(store: Store, made: Made) -> None:
    from attrs import evolve

    first = store.cas.put_object(made.result.encode())
    other = evolve(made.result, log=store.cas.put_bytes(b"another log"))
    store.actions.record(made.action, other, dict)
    store.actions.commit()
    time.sleep(0.05)
    store.cas.primary.touch(first, Form.OBJECT)  # it was used last
    with rebuilt(store) as again:
        assert is_whole(again, made)


def test_index_in_use_is_not_made_again(store: Store) -> None:
    with Lease(store.root, "build"), pytest.raises(HostError, match="uses the store"):
        rebuild(store.root, store.cas)


@pytest.mark.parametrize("page", range(24))
def test_damaged_page_is_an_integrity_error_or_harmless(
    store: Store, made: Made, page: int
) -> None:
    for turn in range(5):
        facts = [(Table.META, f"fact {turn} {n}", os.urandom(300)) for n in range(8)]
        store.index.write(facts)
    store.close()
    data = store.root / "index/data.mdb"
    with data.open("r+b") as file:
        file.seek(page * 4096)
        file.write(os.urandom(4096))
    try:
        Index(store.root / "index").close()
    except IntegrityError as error:
        assert "rebuild-index" in error.hint  # noqa: PT017
        rebuilt(store).close()
    with Store(store.root) as last:
        last.index.write([(Table.META, "one", b"more")])
        assert is_whole(last, made)


def test_cut_off_index_is_an_integrity_error(store: Store, made: Made) -> None:
    store.close()
    data = store.root / "index/data.mdb"
    os.truncate(data, data.stat().st_size // 2)
    with pytest.raises(IntegrityError, match="the index is corrupt"):
        Index(store.root / "index")
    with pytest.raises(IntegrityError, match="the index is corrupt"):
        check(store.root / "index")


def test_index_is_believed_where_only_we_changed_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.index.write([(Table.META, "a", b"b")])
    store.close()

    def never(path: Path, *_: object) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("store.environment.check", never)
    with Store(store.root) as again:
        assert again.index.get(Table.META, "a") == b"b"


def test_lost_index_costs_no_blob(store: Store, made: Made) -> None:
    store.close()
    shutil.rmtree(store.root / "index")
    with Store(store.root) as again:
        assert not is_whole(again, made)
        assert again.cas.get_bytes(made.result.log) == b"log of made"
        assert one_file(again, "f", b"x")
