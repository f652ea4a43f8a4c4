"""Build records: whatever changes of what was looked at, it is noticed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.record import (
    FIRST_READ,
    MAGIC,
    Stale,
    links_of,
    read_record,
    record_path,
    write_record,
)
from store.ingest import RACY_NS, signature


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    """A directory of things that are watched."""
    directory = tmp_path / "watched"
    (directory / "tree").mkdir(parents=True)
    (directory / "file").write_text("one")
    (directory / "other").write_text("two")
    (directory / "link").symlink_to("file")
    (directory / "result").symlink_to(directory / "tree")
    time.sleep(RACY_NS / 1e9)  # what changes from here on has other times
    return directory


@pytest.fixture
def record(tmp_path: Path, watched: Path) -> Path:
    """A record of them."""
    path = tmp_path / "records" / "record"
    names = [watched, watched / "file", watched / "link", watched / "tree"]
    marks = {str(name): signature(os.lstat(name)) for name in names}
    write_record(path, marks, {str(watched / "result"): str(watched / "tree")}, "said", "noted")
    return path


def test_a_record_holds_while_nothing_changes(record: Path, watched: Path) -> None:
    (watched / "other").write_text("not watched, and no name comes or goes")
    found = read_record(record)
    assert found is not None
    assert (found.stdout, found.stderr) == ("said", "noted")


def _replaced(directory: Path) -> None:
    """Put a file of the same size and times in the place of another."""
    mark = (directory / "file").stat().st_mtime_ns
    (directory / "new").write_text("two")
    os.utime(directory / "new", ns=(mark, mark))
    os.replace(directory / "new", directory / "file")


def _lead(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


CHANGES: list[Callable[[Path], object]] = [
    lambda directory: (directory / "file").write_text("two"),
    _replaced,
    lambda directory: (directory / "file").unlink(),
    lambda directory: (directory / "file").chmod(0o755),
    lambda directory: (directory / "new").touch(),
    lambda directory: (directory / "tree" / "new").touch(),
    lambda directory: _lead(directory / "link", "tree"),
    lambda directory: (directory / "result").unlink(),
    lambda directory: _lead(directory / "result", "."),
    lambda directory: (directory / "tree").rmdir(),
]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_is_noticed(
    record: Path, watched: Path, change: Callable[[Path], object]
) -> None:
    assert read_record(record)
    change(watched)
    assert read_record(record) is None


@pytest.mark.parametrize("data", [b"", b"{", MAGIC, MAGIC + bytes(24), MAGIC + b"\xff" * 24])
def test_a_damaged_record_is_none(record: Path, data: bytes) -> None:
    record.write_bytes(data)
    assert read_record(record) is None


def test_a_record_with_one_other_byte_is_none(record: Path) -> None:
    whole = record.read_bytes()
    for place in range(len(whole)):
        other = whole[place] ^ 1
        record.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        assert read_record(record) is None, place
    record.write_bytes(whole)
    assert read_record(record)


def test_a_record_that_was_cut_off_is_none(record: Path) -> None:
    whole = record.read_bytes()
    for length in range(len(whole)):
        record.write_bytes(whole[:length])
        assert read_record(record) is None


def test_names_below_the_directory_and_elsewhere(
    record: Path, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that lie below the current directory are kept relative to it."""
    odd = watched / "odd \udcff\n name"
    odd.touch()
    time.sleep(RACY_NS / 1e9)
    monkeypatch.chdir(watched)
    names = [watched, odd, watched / "tree", watched.parent, Path("/")]
    marks = {str(name): signature(os.lstat(name)) for name in names}
    write_record(record, marks, {}, "x" * FIRST_READ, "→")
    found = read_record(record)
    assert found is not None
    assert (len(found.stdout), found.stderr) == (FIRST_READ, "→")
    assert found.directory == str(watched)
    odd.chmod(0)
    assert read_record(record) is None


def test_a_record_of_nothing_holds(record: Path) -> None:
    write_record(record, {}, {}, "", "")
    assert read_record(record)


def test_a_record_tells_of_its_links(record: Path, watched: Path) -> None:
    assert links_of(record) == [(str(watched / "result"), str(watched / "tree"))]
    record.write_bytes(b"")
    with pytest.raises(ValueError):
        links_of(record)


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path / "none") is None
    assert read_record(tmp_path) is None


def test_command_lines_and_directories_have_records_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {record_path(tmp_path, args) for args in ([], ["a"], ["a", "b"], ["ab"], ["a b"])}
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    names.add(record_path(tmp_path, []))
    assert len(names) == 6
    assert record_path(tmp_path, ["\udcff"]) not in names


def test_use_renews_the_timeline_and_the_record(record: Path, tmp_path: Path) -> None:
    """The collector judges by these times what recent builds are made of."""
    timeline = tmp_path / "timeline"
    timeline.touch()
    write_record(record, {}, {}, "", "", str(timeline))
    old = time.time() - 20 * 86400
    for path in (timeline, record):
        os.utime(path, (old, old))
    assert read_record(record) is not None
    assert timeline.stat().st_mtime > old + 86400
    assert record.stat().st_mtime > old + 86400
    timeline.unlink()
    assert read_record(record) is None


def test_all_files_that_changed_are_told_and_what_the_others_look_like(
    record: Path, watched: Path
) -> None:
    stale: list[Stale] = []
    names = ["", "/file", "/link", "/tree"]
    before = {f"{watched}{name}": signature(os.lstat(f"{watched}{name}")) for name in names}
    assert read_record(record, tell=stale.append) is not None
    assert stale == []
    (watched / "file").write_text("two")
    (watched / "tree" / "new").touch()
    assert read_record(record, tell=stale.append) is None
    same = {str(watched), f"{watched}/link"}
    assert stale[-1].others() == {name: before[name] for name in same}
    (watched / "file").unlink()
    assert read_record(record, tell=stale.append) is None
    assert stale[-1].others() == {f"{watched}/link": before[f"{watched}/link"]}
    (watched / "tree" / "new").unlink()
    (watched / "tree").rmdir()
    assert read_record(record, tell=stale.append) is None
    assert stale[-1].others() == {f"{watched}/link": before[f"{watched}/link"]}


@pytest.mark.parametrize(
    ("changed", "runs"),
    [({"spec.toml"}, False), ({"file.c"}, True), ({"spec.toml", "file.c"}, True)],
)
def test_what_changed_tells_whether_something_will_run(
    tmp_path: Path, changed: set[str], runs: bool
) -> None:
    names = [tmp_path / name for name in ("file.c", "spec.toml", "other.toml")]
    for name in names:
        name.write_text("one")
    time.sleep(RACY_NS / 1e9)
    marks = {str(name): signature(os.lstat(name)) for name in names}
    write_record(tmp_path / "records" / "record", marks, {}, "", "")
    for one in changed:
        (tmp_path / one).write_text("another")
    stale: list[Stale] = []
    assert read_record(tmp_path / "records" / "record", tell=stale.append) is None
    assert stale[0].will_run == runs
