"""Tables that are written to without syncs, and what they go back to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import store.checkpoints
import store.environment
import store.tiers
from store.checkpoints import NAME, Checkpoints
from store.environment import DATA, Environment
from store.errors import IntegrityError
from store.pages import go_back, last_meta
from store.store import Store

TABLES = ["one"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "tables"
    place.mkdir()
    return place


@pytest.fixture
def opened(path: Path) -> Iterator[Environment]:
    environment = opening(path, relaxed=True)
    yield environment
    environment.close()


def opening(
    path: Path, *, relaxed: bool = False, lost: Callable[[float], object] = int
) -> Environment:
    return Environment(path, TABLES, "table", "no help", relaxed=relaxed, lost=lost)


def put(environment: Environment, *names: bytes) -> None:
    def change(transaction: Any) -> None:
        transaction.put(name, name * 200, db=environment.handle("one"))

    for name in names:  # noqa: B007 - a transaction each
        environment.change(change)


def names(environment: Environment) -> list[bytes]:
    return environment.read(
        "one", lambda transaction: [bytes(k) for k, _ in transaction.cursor()], []
    )


@pytest.fixture
def after_cut(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Environment]:
    """Open what another boot of the machine finds if all that was written is on the disk."""
    number = 0

    def after() -> Environment:
        nonlocal number
        number += 1
        copy = tmp_path / f"copy{number}"
        copy.mkdir()
        for name in (DATA, NAME):
            if (path / name).exists():
                shutil.copy(path / name, copy / name)
        with monkeypatch.context() as patch:
            patch.setattr(store.checkpoints, "boot", lambda: b"%036d" % number)
            return opening(copy)

    return after


def test_what_was_synced_is_gone_back_to(
    opened: Environment, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    opened.sync()
    put(opened, b"b", b"c", b"d")
    assert opened.is_ahead
    again = after_cut()
    assert names(again) == [b"a"]
    assert not again.is_ahead
    put(again, b"e")
    assert names(again) == [b"a", b"e"]
    again.close()


def test_in_the_same_boot_nothing_is_lost(opened: Environment, path: Path) -> None:
    put(opened, b"a", b"b")
    opened.close()  # as a kill does: nothing is said
    other = opening(path)
    assert names(other) == [b"a", b"b"]
    assert other.is_ahead
    other.close()


def test_who_syncs_brings_all_to_rest(
    opened: Environment, path: Path, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    opened.close()
    other = opening(path)
    put(other, b"b")
    assert not other.is_ahead
    again = after_cut()
    assert names(again) == [b"a", b"b"]
    again.close()
    other.close()


def test_at_rest_nothing_is_gone_back_to(
    opened: Environment, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    opened.sync()
    put(opened, b"b")
    opened.settle(int)
    assert not opened.is_behind
    again = after_cut()
    assert names(again) == [b"a", b"b"]
    again.close()
    put(opened, b"c")
    again = after_cut()
    assert names(again) == [b"a", b"b"]
    again.close()


def test_pages_of_the_checkpoint_are_not_written_over(opened: Environment, path: Path) -> None:
    put(opened, *(b"%d" % number for number in range(300)))
    opened.sync()
    data = (path / DATA).read_bytes()
    for _ in range(20):
        put(opened, *(b"%d" % number for number in range(0, 300, 7)))
    now = (path / DATA).read_bytes()
    meta, checkpoints = last_meta(str(path / DATA)), Checkpoints(path)
    record = checkpoints._last()
    assert record is not None
    assert record.transaction < meta[0]
    torn = path.parent / "torn"
    torn.mkdir()
    # pages that were in use then are as they were, whatever else was written
    (torn / DATA).write_bytes(now)
    shutil.copy(path / NAME, torn / NAME)
    go_back(str(torn / DATA), record.transaction, record.meta)
    store.environment.check(torn, TABLES, "table", "no help")
    assert len(data) <= len(now)
    checkpoints.close()


def test_what_is_marked_is_kept_and_no_more(
    opened: Environment, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    mark = opened.mark()
    put(opened, b"b")
    opened.keep(mark)
    again = after_cut()
    assert names(again) == [b"a"]
    again.close()


def test_a_mark_outlives_a_larger_map(
    opened: Environment, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    mark = opened.mark()
    opened._reopen([1 << 30])
    put(opened, b"b")
    opened.keep(mark)
    again = after_cut()
    assert b"a" in names(again)
    again.close()


@pytest.mark.parametrize("which", [0, 4096])
def test_a_record_that_was_cut_short_is_none(
    opened: Environment, path: Path, which: int, after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    opened.sync()
    put(opened, b"b")
    with (path / NAME).open("r+b") as file:
        file.seek(which + 30)
        file.write(os.urandom(20))
    again = after_cut()
    assert names(again) in ([], [b"a"])
    again.close()


def test_a_damaged_page_of_the_checkpoint_is_seen(
    opened: Environment, path: Path, after_cut: Callable[..., Environment]
) -> None:
    put(opened, *(b"%d" % number for number in range(300)))
    opened.sync()
    put(opened, b"x")
    with (path / DATA).open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for page in range(2, file.tell() // 4096):
            file.seek(page * 4096 + 8)
            file.write(b"\xff" * 8)
    with pytest.raises(IntegrityError):
        after_cut()


OTHER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.store.test_checkpoints import opening, put
environment = opening(Path(sys.argv[2]), relaxed=True)
print("open", flush=True)
for line in sys.stdin:
    for number in range(20):
        put(environment, b"%s%d" % (line.strip().encode(), number))
    environment.sync()
    print("synced", flush=True)
"""


@pytest.fixture
def another(path: Path) -> Iterator[Callable[[], None]]:
    """A process that puts twenty things and syncs, each time that it is asked."""
    top = str(Path(__file__).resolve().parents[2])
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, top, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        orders, said = process.stdin, process.stdout
        assert orders is not None
        assert said is not None
        assert said.readline() == "open\n"

        def ask() -> None:
            orders.write("x\n")
            orders.flush()
            assert said.readline() == "synced\n"

        yield ask
        orders.close()


def test_another_process_makes_checkpoints_for_all(
    opened: Environment, another: Callable[[], None], after_cut: Callable[..., Environment]
) -> None:
    put(opened, b"a")
    number = opened.version()
    assert not opened.is_kept(number)
    another()
    assert opened.is_kept(number)
    put(opened, b"b")
    assert not opened.is_kept(opened.version())
    again = after_cut()
    assert b"a" in names(again)
    assert b"b" not in names(again)
    again.close()


def test_who_follows_lets_old_pages_be_written_over(
    opened: Environment,
    path: Path,
    another: Callable[[], None],
    after_cut: Callable[..., Environment],
) -> None:
    put(opened, b"a")
    sizes = []
    for number in range(30):
        put(opened, b"%d" % number)
        another()
        opened.follow()
        sizes.append((path / DATA).stat().st_size)
        if number % 10 == 5:
            again = after_cut()
            assert names(again) == names(opened)
            again.close()
    assert sizes[-1] - sizes[10] < sizes[10] - sizes[0]


def test_who_does_not_follow_keeps_them(
    opened: Environment, path: Path, another: Callable[[], None]
) -> None:
    put(opened, b"a")
    sizes = []
    for _ in range(10):
        another()
        sizes.append((path / DATA).stat().st_size)
    assert sizes == sorted(set(sizes))


def test_files_that_a_cut_damaged_are_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as first:
        first.relax()
        tier = first.cas.primary
        assert tier.table is not None
        tier.table.beside(lambda: None)
        whole = first.cas.put_bytes(b"whole")
        broken = first.cas.put_bytes(b"broken")
        path = tier.path(broken)
        os.chmod(path, 0o644)
        os.truncate(path, 0)
        tier.touch(broken, store.tiers.Form.PLAIN)
        monkeypatch.setattr(first.cas, "commit_objects", lambda: None)
    monkeypatch.setattr(store.checkpoints, "boot", lambda: b"another")
    with Store(tmp_path) as second:
        table = second.cas.primary.table
        assert table is not None
        table.open()
        assert second.cas.has(whole)
        assert not second.cas.has(broken)
