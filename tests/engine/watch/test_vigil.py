"""Vigils: whatever happens to the files of a record, a vigil never says more than is true."""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.record import Record, changed_files, read_record, write_record
from engine.watch.inotify import OVERFLOW, Inotify
from engine.watch.places import parse_mounts
from engine.watch.vigil import MOST_OPENS, MOST_SUSPECTS, Vigil
from store.ingest import RACY_NS, signature

EVERYTHING_LOCAL = {b"/": ("ext4", b"")}
"""What the tests run on is not what they are about."""


class Watched:
    """A directory of files with a record of them and a vigil over it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.top = place / "way" / "top"
        (self.top / "sub").mkdir(parents=True)
        (place / "elsewhere").mkdir()
        (place / "link").symlink_to("way")
        for name in ("a", "b", "sub/c"):
            (self.top / name).write_text(f"this is {name}")
        os.link(self.top / "b", place / "elsewhere" / "other name of b")
        (self.top / "to-a").symlink_to("a")
        time.sleep(RACY_NS / 1e9)  # what changes from here on has other times
        self.record = place / "records" / "record"
        top = place / "link" / "top"
        self.names = [top, top / "a", top / "b", top / "to-a", top / "sub", top / "sub" / "c"]
        marks = {str(name): signature(os.lstat(name)) for name in self.names}
        write_record(self.record, marks, {}, "", "")
        self.vigil = Vigil("record", self.record.read_bytes())

    def set_up(self, most: int = 1000) -> str:
        """Set the vigil up, or up again, and return its state."""
        for _ in self.vigil.set_up(EVERYTHING_LOCAL, most, self.vigil.nobody_writes):
            pass
        return self.vigil.state

    def prove(self) -> None:
        """Look for writers."""
        for _ in self.vigil.prove(self.vigil.nobody_writes):
            pass

    def holds(self) -> bool:
        """Say what somebody finds who looks at the files."""
        return read_record(self.record, ask=False) is not None

    def checked(self) -> bytes:
        """Return the vigil's answer, which must not contradict what is found by looking."""
        answer = self.vigil.answer()
        assert answer in (b"?", b"=" if self.holds() else b"!")
        numbers = self.vigil.differing()
        if numbers is not None:
            names, marks = Record(self.record.read_bytes()).body(lambda: b"")
            assert numbers == changed_files(names, marks)
        assert answer == b"?" or self.vigil.state != "watched" or numbers is not None
        return answer


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    assert watched.set_up() == "watched"
    assert watched.checked() == b"="
    yield watched
    watched.vigil.close()


def _replace(path: Path) -> None:
    """Put another file in the place of one."""
    new = path.with_name("new")
    new.write_text(path.read_text())
    os.replace(new, path)


def _append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def _map(path: Path) -> mmap.mmap:
    with open(path, "r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _write_through_memory(path: Path) -> None:
    with _map(path) as memory:
        memory[0] ^= 1


def _through_a_new_link(path: Path, elsewhere: Path) -> None:
    os.link(path, elsewhere / "new")
    (elsewhere / "new").write_text("written there")


def _lead(link: Path, target: str) -> None:
    link.unlink()
    link.symlink_to(target)


def _move_away(place: Path) -> None:
    (place / "way").rename(place / "moved")


def _swap(place: Path) -> None:
    """Put a copy in the place of a directory on the way."""
    shutil.copytree(place / "way", place / "copy", symlinks=True)
    _move_away(place)
    (place / "copy").rename(place / "way")


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "write": lambda top, place: (top / "a").write_text("other"),
    "append": lambda top, place: _append(top / "a"),
    "truncate": lambda top, place: os.truncate(top / "a", 1),
    "touch": lambda top, place: (top / "a").touch(),
    "mode": lambda top, place: (top / "a").chmod(0o600),
    "replace": lambda top, place: _replace(top / "a"),
    "remove": lambda top, place: (top / "a").unlink(),
    "rename": lambda top, place: (top / "a").rename(place / "away"),
    "exchange": lambda top, place: (top / "a").rename(top / "b"),
    "deep": lambda top, place: (top / "sub" / "c").write_text("other"),
    "new file": lambda top, place: (top / "new").touch(),
    "new directory": lambda top, place: (top / "sub" / "new").mkdir(),
    "remove directory": lambda top, place: shutil.rmtree(top / "sub"),
    "link": lambda top, place: _lead(top / "to-a", "b"),
    "hard link": lambda top, place: (place / "elsewhere/other name of b").write_text("other"),
    "new hard link": lambda top, place: _through_a_new_link(top / "a", place / "elsewhere"),
    "memory": lambda top, place: _write_through_memory(top / "a"),
    "way moved": lambda top, place: _move_away(place),
    "way swapped": lambda top, place: _swap(place),
    "way elsewhere": lambda top, place: _lead(place / "link", "elsewhere"),
    "owner": lambda top, place: os.utime(top / "a", (0, 0)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_noticed(watched: Watched, change: Callable[[Path, Path], object]) -> None:
    change(watched.top, watched.place)
    assert not watched.holds()
    assert watched.checked() != b"="
    assert watched.set_up() in ("different", "refused")
    assert watched.checked() == b"?"


HARMLESS: dict[str, Callable[[Path, Path], object]] = {
    "nothing": lambda top, place: None,
    "read": lambda top, place: (top / "a").read_text(),
    "a file beside the way": lambda top, place: (place / "new").write_text("x"),
    "a file elsewhere": lambda top, place: (place / "elsewhere" / "new").write_text("x"),
    "opened to write, not written": lambda top, place: (top / "a").open("r+").close(),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_changes_nothing_is_none(
    watched: Watched, change: Callable[[Path, Path], object]
) -> None:
    change(watched.top, watched.place)
    assert watched.checked() == b"="
    watched.prove()
    assert watched.checked() == b"="


def test_a_way_moved_and_moved_back(watched: Watched) -> None:
    _move_away(watched.place)
    assert watched.checked() == b"?"
    (watched.place / "moved").rename(watched.place / "way")
    assert watched.checked() == b"?"
    assert watched.set_up() == "watched"
    (watched.top / "a").touch()
    assert watched.checked() == b"!"


def test_a_file_mapped_before_is_looked_at(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    with _map(watched.top / "a") as memory:
        assert watched.set_up() == "watched"
        assert watched.checked() == b"="
        memory[0] ^= 1
        assert watched.checked() == b"!"
    watched.vigil.close()


@pytest.mark.parametrize("proved", [False, True])
def test_a_file_mapped_meanwhile_is_looked_at(watched: Watched, proved: bool) -> None:
    with _map(watched.top / "a") as memory:
        assert watched.checked() == b"="
        if proved:
            watched.prove()
        assert watched.checked() == b"="
        memory[0] ^= 1
        assert watched.checked() == b"!"


def test_a_file_that_is_opened_all_the_time_is_looked_at(watched: Watched) -> None:
    for _ in range(MOST_OPENS + 1):
        (watched.top / "a").read_text()
        (watched.top / "b").read_text()  # or the kernel would tell of both at once
        watched.vigil.take_in()
    watched.prove()
    before = watched.vigil.events
    (watched.top / "a").read_text()
    assert watched.checked() == b"="
    assert watched.vigil.events == before
    with _map(watched.top / "a") as memory:
        watched.prove()
        memory[0] ^= 1
        assert watched.checked() == b"!"


def test_lost_events(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inotify, "events", lambda self: [(-1, OVERFLOW, b"")])
    assert watched.checked() == b"?"
    assert watched.vigil.state == "stale"
    assert watched.vigil.overflows > 0
    monkeypatch.undo()
    assert watched.set_up() == "watched"
    assert watched.checked() == b"="


def test_events_lost_while_it_is_set_up(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Inotify, "events", lambda self: [(-1, OVERFLOW, b"")])
    assert watched.set_up() == "stale"
    assert watched.checked() == b"?"


def test_a_mount(watched: Watched) -> None:
    watched.vigil.remounted({b"/nowhere/near"})
    assert watched.checked() == b"="
    watched.vigil.remounted({os.fsencode(watched.top)})
    assert watched.checked() == b"?"


def test_too_few_watches(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    assert watched.set_up(most=3) == "refused"
    assert "3 may be used" in watched.vigil.why
    assert watched.vigil.watches == 0
    assert watched.checked() == b"?"


@pytest.mark.parametrize("point", ["", "way/top", "way/top/a"])
@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "9p", "overlay"])
def test_file_systems_that_tell_too_little(tmp_path: Path, kind: str, point: str) -> None:
    watched = Watched(tmp_path)
    mounts = {**EVERYTHING_LOCAL, os.fsencode(tmp_path / point): (kind, b"")}
    for _ in watched.vigil.set_up(mounts, 1000, watched.vigil.nobody_writes):
        pass
    assert watched.vigil.state == "refused"
    assert kind in watched.vigil.why


def test_more_files_in_use_than_can_be_looked_at(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(watched.names) < MOST_SUSPECTS
    monkeypatch.setattr("engine.watch.vigil.MOST_SUSPECTS", 1)
    (watched.top / "a").read_text()
    (watched.top / "b").read_text()
    assert watched.checked() == b"?"
    watched.prove()
    assert watched.checked() == b"="
    (watched.top / "a").write_text("other")
    (watched.top / "b").write_text("other")
    assert watched.checked() == b"?"
    assert watched.vigil.state == "stale"


def test_mounts_are_read() -> None:
    text = b"""\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /with\\040space rw - nfs4 server:/ rw
31 22 0:26 / /mnt rw,nosuid shared:7 master:2 - tmpfs tmpfs rw
"""
    kinds = {path: kind for path, (kind, _) in parse_mounts(text).items()}
    assert kinds == {b"/": "ext4", b"/with space": "nfs4", b"/mnt": "tmpfs"}


STEPS = st.lists(
    st.one_of(
        st.sampled_from([*CHANGES, *HARMLESS]),
        st.sampled_from(["ask", "set up", "prove", "map", "store", "unmap"]),
    ),
    max_size=12,
)


@given(STEPS)
def test_it_never_says_more_than_is_true(steps: list[str]) -> None:
    """Whatever is done in whatever order: what a vigil says, looking at the files says, too."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        watched = Watched(Path(directory))
        stack.callback(watched.vigil.close)
        watched.set_up()
        mapped: list[mmap.mmap] = []
        for step in steps:
            with contextlib.suppress(OSError, ValueError, IndexError):  # nothing to do it to
                _take(watched, step, mapped)
            if step != "set up":
                watched.checked()
        for memory in mapped:
            memory.close()
        watched.checked()


def _take(watched: Watched, step: str, mapped: list[mmap.mmap]) -> None:
    match step:
        case "ask":
            watched.checked()
        case "set up":
            watched.set_up()
        case "prove" if watched.vigil.state == "watched":
            watched.prove()
        case "map":
            mapped.append(_map(watched.top / "a"))
        case "store":
            mapped[-1][0] ^= 1
        case "unmap":
            mapped.pop().close()
        case _ if change := {**CHANGES, **HARMLESS}.get(step):
            change(watched.top, watched.place)
