"""A vigil: one record's files watched, so that it is known whether they are as they were.

::

    new ─▶ setting up ─▶ watched ──event──▶ watched, with suspects: these are looked at when asked
              ▲ │            │
              │ ├▶ different │ overflow, a directory on the way moved, a mount
              │ └▶ refused   ▼
              └─────────── stale

Every file is watched by its inode: a write through another hard link is told of there and nowhere
else. With it every directory and link on the way is, because a path may come to lead elsewhere. The
watches are set first and the files compared afterwards, so there is no moment between. A file that
somebody opens is looked at whenever somebody asks, until it is certain that nobody can write to it
through memory, of which no event would tell (`writers.py`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, TypeAlias

from engine.record import Record, changed_files
from engine.watch.inotify import ATTRIB, DIRECTORY, FILE, GONE, OPEN, OVERFLOW, PLACE, Inotify
from engine.watch.places import places_of, unfit
from engine.watch.writers import has_no_writer

SLICE: Final = 500
"""Files that are watched or compared between two looks at who asks."""

MOST_SUSPECTS: Final = 4096
"""Files that are looked at when asked, some milliseconds; with more it is not known."""

MOST_OPENS: Final = 100
"""Times that a file is opened after which it is looked at whenever somebody asks, for good."""


Tell: TypeAlias = Callable[[int, int], None]


class Vigil:
    """The files of one record. `state` is one of the words in the picture above; `why` goes with
    it; `events` and `overflows` count."""

    def __init__(self, name: str, data: bytes) -> None:
        """Take the record in. Raises ValueError where it is damaged."""
        record = Record(data)
        names, marks = record.body(lambda: b"")
        self.name = name
        self.identity = record.identity
        self.directory = record.directory
        self.state = "new"
        self.why = ""
        self.events = 0
        self.overflows = 0
        self.asked = 0
        self.changes = 0
        """How often files changed, as far as events told."""
        self._names = [os.path.join(os.fsencode(record.directory), name) for name in names]
        self._marks = marks
        self._inotify: Inotify | None = None
        self._files: dict[int, list[int]] = {}
        self._places: dict[int, bytes] = {}
        self._way: set[bytes] = set()
        self._suspects: set[int] = set()
        self._opened: Counter[int] = Counter()
        self._just_opened: set[int] = set()
        self._busy: set[int] = set()
        self._unproved = False
        self._lost = ""

    @property
    def handle(self) -> int | None:
        """The descriptor that tells of events, None where nothing is watched."""
        return self._inotify.handle if self._inotify else None

    @property
    def watches(self) -> int:
        """How many inodes are watched."""
        return len(self._files.keys() | self._places.keys())

    @property
    def files(self) -> int:
        """How many files and directories the record names."""
        return len(self._names)

    def set_up(
        self, mounts: dict[bytes, tuple[str, bytes]], most: int, tell: Tell
    ) -> Iterator[None]:
        """Begin to watch, at most so many inodes, in slices; `state` says what came of it.

        For `tell` see `prove`.
        """
        self.close()
        self.state, self._lost = "setting up", ""
        try:
            yield from self._compare()
            ways = self._ways()
            way = {place for places in ways.values() for place in places}
            own = {_joined(ways[directory][-1], name) for directory, name in self._split()}
            why = unfit(way | (own & mounts.keys()), mounts)
            if why is None and len(way | own) > most:
                why = f"{len(way | own)} watches are needed, {most} may be used"
            if why is not None:
                self._end("refused", why)
                return
            self._inotify = Inotify()
            for place in way:
                self._places[self._inotify.add(place, PLACE)] = place
            yield from self._watch(self._inotify)
            if self._ways() != ways:
                raise ValueError("a directory on the way changed")
            yield from self.prove(tell, range(len(self._names)))
            yield from self._compare()
        except ValueError as error:
            self._end("different", str(error))
            return
        except OSError as error:
            few = "no inotify watches or instances are left (fs.inotify in sysctl)"
            scarce = error.errno in (errno.ENOSPC, errno.EMFILE)
            self._end("refused", few if scarce else f"{error.filename}: {error.strerror}")
            return
        self._way = way
        self.state, self.why = ("stale", self._lost) if self._lost else ("watched", "")
        self.take_in()

    def answer(self) -> bytes:
        """Return `=` if the files are as they were, `!` if not, `?` if that is not known."""
        self.asked += 1
        self.take_in()
        doubtful = self._suspects | self._opened.keys() | self._busy
        if len(doubtful) > MOST_SUSPECTS:
            return b"?"
        self._unproved = bool(self._opened)
        self._suspects = {number for number in doubtful if not self._same(number)}
        if self._suspects:
            return b"!"
        return b"=" if self.state == "watched" else b"?"

    def differing(self) -> list[int] | None:
        """Return the numbers of the files that are not as they were, None where that is not
        known."""
        if self.answer() == b"?" or self.state != "watched":
            return None
        return sorted(self._suspects)

    def take_in(self) -> None:
        """Take in what happened up to now."""
        if self._inotify is None or self.state == "setting up":
            return
        self._take_in(self._inotify)
        if len(self._suspects) + len(self._busy) > MOST_SUSPECTS:
            self._suspects.clear()
            self._stale("much changed or is in use")

    @property
    def unproved(self) -> bool:
        """Whether it is worth while to look for writers."""
        return self._unproved and self.state == "watched"

    def prove(self, tell: Tell, numbers: Iterable[int] | None = None) -> Iterator[None]:
        """See which of the files that were opened, or which of `numbers`, nobody can write to any
        more, in slices; `tell` calls `nobody_writes` of every vigil."""
        self._unproved = False
        for done, number in enumerate(list(self._opened) if numbers is None else numbers):
            name = self._names[number]
            if _is_plain(name):
                if has_no_writer(name, self._marks[4 * number + 3], tell):
                    del self._opened[number]
                else:
                    self._opened[number] += 1
            if done % SLICE == 0:
                yield

    def nobody_writes(self, device: int, inode: int) -> None:
        """Take in what happened up to now, and note that nobody can write to an inode."""
        if self._inotify is None:
            return
        before = self._unproved
        self._just_opened.clear()
        self._take_in(self._inotify)
        for number in self._just_opened:
            with contextlib.suppress(OSError):
                status = os.lstat(self._names[number])
                if (status.st_dev, status.st_ino) == (device, inode):
                    del self._opened[number]
                    continue
            before = True
        self._unproved = before

    def _take_in(self, inotify: Inotify) -> None:
        for watch, mask, name in inotify.events():
            self.events += 1
            numbers = self._files.get(watch, ())
            if mask & OVERFLOW:
                self.overflows += 1
                self._stale("events were lost")
            elif mask & OPEN:
                self._open(inotify, numbers)
            else:
                self._suspects.update(numbers)
                self.changes += 1
                place = watch in self._places and mask & ATTRIB and not name
                if place or mask & GONE:
                    self._stale("something moved")

    def _open(self, inotify: Inotify, numbers: Iterable[int]) -> None:
        """Note that somebody opened a file, perhaps to write to it."""
        self._unproved = True
        self._just_opened.update(numbers)
        for number in numbers:
            self._opened[number] += 1
            if self._opened[number] > MOST_OPENS:
                with contextlib.suppress(OSError):
                    inotify.no_more_opens(self._names[number])
                self._busy.add(number)
                del self._opened[number]

    def remounted(self, points: set[bytes]) -> None:
        """Note that something was mounted or unmounted at `points`."""
        if any(p in self._way or os.path.dirname(p) in self._way for p in points):
            self._stale("something was mounted")

    def restart(self) -> None:
        """Give up a setting up that was begun; it has to be done anew."""
        self._end("new", "")

    def close(self) -> None:
        """End all watches."""
        if self._inotify:
            self._inotify.close()
        self._inotify = None
        self._files.clear()
        self._places.clear()
        self._suspects.clear()
        self._opened.clear()
        self._busy.clear()
        self._unproved = False

    def _stale(self, why: str) -> None:
        if self.state == "setting up":
            self._lost = why
        elif self.state == "watched":
            self.state, self.why = "stale", why

    def _end(self, state: str, why: str) -> None:
        self.close()
        self.state, self.why = state, why

    def _split(self) -> Iterator[tuple[bytes, bytes]]:
        return map(os.path.split, self._names)

    def _ways(self) -> dict[bytes, list[bytes]]:
        """Return what is on the way to the files, by their directories."""
        known: dict[bytes, bytes] = {}
        return {path: places_of(path, known) for path in {path for path, _ in self._split()}}

    def _watch(self, inotify: Inotify) -> Iterator[None]:
        for number, name in enumerate(self._names):
            mask = DIRECTORY if stat.S_ISDIR(os.lstat(name).st_mode) else FILE
            self._files.setdefault(inotify.add(name, mask), []).append(number)
            if number % SLICE == 0:
                yield

    def _compare(self) -> Iterator[None]:
        """Compare all files, in slices. Raises ValueError where one is not as it was."""
        for start in range(0, len(self._names), SLICE):
            names = self._names[start : start + SLICE]
            marks = islice(self._marks, 4 * start, 4 * (start + len(names)))
            if changed_files(names, marks):
                raise ValueError("files changed")
            yield

    def _same(self, number: int) -> bool:
        return not changed_files([self._names[number]], self._marks[4 * number : 4 * number + 4])


def _is_plain(name: bytes) -> bool:
    """Say whether it is a regular file, which alone can be mapped."""
    try:
        return stat.S_ISREG(os.lstat(name).st_mode)
    except OSError:
        return False


def _joined(directory: bytes, name: bytes) -> bytes:
    return directory.rstrip(b"/") + b"/" + name
