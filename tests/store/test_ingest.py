"""Directories taken into the store: what is read, what is not read again, what is refused."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from store.cas import empty_tree
from store.digest import digest_bytes
from store.errors import InputError
from store.index import Table, to_json
from store.ingest import RACY_NS, Snapshot, ingest_directory
from store.objects import File, Link
from store.trees import find, walk

if TYPE_CHECKING:
    from store.store import Store


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory whose files are old enough to be believed."""
    root = tmp_path / "source"
    (root / "d/e").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "file").write_text("one")
    (root / "d/tool").write_text("two")
    (root / "d/tool").chmod(0o755)
    (root / "d/e/é").write_text("")
    (root / "link").symlink_to("d/tool")
    wait()
    return root


def wait() -> None:
    """Let the files that were written just now grow old enough to be believed."""
    time.sleep(2 * RACY_NS / 1e9)


def ingest(store: Store, root: Path, exclude: str | None = None) -> Snapshot:
    """Ingest a directory without the entries of one name."""
    return ingest_directory(
        store.cas, store.index, str(root), lambda path: os.path.basename(path) == exclude
    )


def cached(store: Store) -> set[str]:
    """Return the names of the files that the stat cache would not read again."""
    return {
        name
        for key, _ in store.index.items(Table.STATS)
        for name in store.index.get_json(Table.STATS, key)
    }


def test_everything_is_taken(store: Store, source: Path) -> None:
    snapshot = ingest(store, source)
    assert snapshot.files == {
        "d/e/é": File(digest_bytes(b""), 0),
        "d/tool": File(digest_bytes(b"two"), 3, True),
        "file": File(digest_bytes(b"one"), 3),
        "link": Link("d/tool"),
    }
    assert {path for path, _ in walk(store.cas, snapshot.tree)} == {*snapshot.files, "empty"}
    assert set(snapshot.stats) == {"", "d", "d/e", "empty", *snapshot.files}


def test_modes_and_times_do_not_matter_but_for_the_executable_bit(
    store: Store, source: Path
) -> None:
    before = ingest(store, source).tree
    (source / "file").chmod(0o600)
    os.utime(source / "file", (1, 1))
    os.utime(source / "d", (1, 1))
    assert ingest(store, source).tree == before
    (source / "file").chmod(0o700)
    assert ingest(store, source).tree != before


def test_what_is_excluded_is_not_looked_at(store: Store, source: Path) -> None:
    (source / "d/out").symlink_to("/etc")
    (source / "d/\udcff").touch()
    with pytest.raises(InputError):
        ingest(store, source, "out")
    (source / "d/\udcff").unlink()
    snapshot = ingest(store, source, "out")
    assert "d/out" not in snapshot.files
    with pytest.raises(InputError):
        ingest(store, source, "tool")


def test_an_unchanged_file_is_not_read_again(store: Store, source: Path) -> None:
    """Shown by an index that tells another digest: it is believed."""
    ingest(store, source)
    assert cached(store) == {"file", "tool", "é"}
    other = store.cas.put_bytes(b"xxx")
    for key, _ in list(store.index.items(Table.STATS)):
        seen = store.index.get_json(Table.STATS, key)
        if "file" in seen:
            seen["file"][1] = other
            store.index.write([(Table.STATS, key, to_json(seen))])
    assert ingest(store, source).files["file"] == File(other, 3)


def _touched(path: Path) -> None:
    os.utime(path)


def _rewritten(path: Path) -> None:
    """Write other bytes of the same length and set the old modification time again."""
    mark = path.stat().st_mtime_ns
    path.write_text("1ne")
    os.utime(path, ns=(mark, mark))


def _replaced(path: Path) -> None:
    """Put another file with the same times and size in its place."""
    mark = path.stat().st_mtime_ns
    path.with_name("new").write_text("1ne")
    os.utime(path.with_name("new"), ns=(mark, mark))
    os.replace(path.with_name("new"), path)


@pytest.mark.parametrize("change", [_touched, _rewritten, _replaced])
def test_a_changed_file_is_read_again(
    store: Store, source: Path, change: Callable[[Path], None]
) -> None:
    ingest(store, source)
    change(source / "file")
    text = (source / "file").read_bytes()
    assert ingest(store, source).files["file"] == File(digest_bytes(text), 3)


def test_a_file_changed_just_now_is_not_believed(store: Store, source: Path) -> None:
    """Within one tick of the file system's clock it could change again and look the same."""
    future = time.time() + 60
    os.utime(source / "file", (future, future))
    ingest(store, source)
    assert cached(store) == {"tool", "é"}


def test_a_known_file_whose_blob_is_gone_is_read_again(store: Store, source: Path) -> None:
    ingest(store, source)
    digest = digest_bytes(b"one")
    store.cas.quarantine(digest, False)
    ingest(store, source)
    assert store.cas.has(digest)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"{", b"[]", b"3", b'{"file": 3}', b'{"file": [3, 4]}', b'{"file": [[1], "x"]}'],
)
def test_a_damaged_stat_cache_is_as_good_as_none(store: Store, source: Path, data: bytes) -> None:
    before = ingest(store, source)
    keys = [key for key, _ in store.index.items(Table.STATS)]
    store.index.write([(Table.STATS, key, data) for key in keys])
    assert ingest(store, source).tree == before.tree
    assert cached(store) == {"file", "tool", "é"}


@pytest.mark.parametrize("target", ["..", "../x", "/etc/passwd", "d/../../x"])
def test_links_that_leave_are_refused(store: Store, source: Path, target: str) -> None:
    (source / "bad").symlink_to(target)
    with pytest.raises(InputError, match=r"bad: a symbolic link that leaves its source"):
        ingest(store, source)


def test_links_that_lead_nowhere_or_up_within_are_taken(store: Store, source: Path) -> None:
    (source / "nowhere").symlink_to("none")
    (source / "d/e/up").symlink_to("../../file")
    snapshot = ingest(store, source)
    assert snapshot.files["nowhere"] == Link("none")
    assert find(store.cas, snapshot.tree, "d/e/up") == Link("../../file")


def test_links_into_the_store_are_left_out(store: Store, source: Path) -> None:
    (source / "result").symlink_to(store.root / "trees" / "x")
    assert "result" not in ingest(store, source).files


def test_names_that_are_not_utf8_are_refused(store: Store, source: Path) -> None:
    Path(os.fsdecode(os.fsencode(source / "d") + b"/a\xff")).touch()
    with pytest.raises(InputError, match=r"d: the name b'a\\xff' is not UTF-8"):
        ingest(store, source)


def test_links_to_what_is_not_utf8_are_refused(store: Store, source: Path) -> None:
    os.symlink(b"a\xff", os.fsencode(source / "bad"))
    with pytest.raises(InputError, match=r"bad"):
        ingest(store, source)


def test_special_files_are_refused(store: Store, source: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(InputError, match=r"pipe: not a file, directory or symbolic link"):
        ingest(store, source)
    assert ingest(store, source, "pipe").files


def test_a_directory_that_is_not_there_is_refused(store: Store, source: Path) -> None:
    for path in (source / "none", source / "file"):
        with pytest.raises(InputError, match=str(path)) as caught:
            ingest(store, path)
        assert caught.value.hint == "a source must be there and readable"


def test_a_file_that_changes_while_it_is_read_is_refused(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in = store.cas.copy_in

    def slowly(path: str, size: int, executable: bool) -> File:
        file = copy_in(path, size, executable)
        Path(path).write_text("changed meanwhile")
        return file

    monkeypatch.setattr(store.cas, "copy_in", slowly)
    with pytest.raises(InputError, match="changed while it was read"):
        ingest(store, source)


def test_a_file_that_goes_while_it_is_read_is_refused(
    store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_in = store.cas.copy_in

    def slowly(path: str, size: int, executable: bool) -> File:
        Path(path).unlink()
        return copy_in(path, size, executable)

    monkeypatch.setattr(store.cas, "copy_in", slowly)
    with pytest.raises(InputError, match="no such file"):
        ingest(store, source)


def test_a_snapshot_knows_what_changed_since(store: Store, source: Path) -> None:
    snapshot = ingest(store, source)
    everything = list(snapshot.files)
    assert snapshot.first_changed(everything) is None
    _rewritten(source / "file")
    (source / "link").unlink()
    assert {path for path in everything if snapshot.first_changed([path])} == {"file", "link"}
    assert snapshot.first_changed(everything) == str(source / "file")


def test_an_empty_directory_is_the_empty_tree(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert ingest(store, tmp_path / "empty").tree == empty_tree(store.cas)
