"""The watcher's service: keeps a vigil for each of the store's newest records, and answers.

It is one loop in one thread, and writes nothing but its own directory in the store: a lock, which
makes it the only one, and the socket that it answers on. Whoever asks is answered from the events
up to that moment: the kernel queues them before the call that changes a file returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import time
from array import array
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, Final

from engine.watch.ask import view
from engine.watch.inotify import NAMES, Inotify, most_watches
from engine.watch.keeper import Keeper, memory_of
from engine.watch.measuring import Measuring
from engine.watch.places import MOUNTS, parse_mounts
from engine.watch.sockets import is_own, listen, remove_own
from engine.watch.vigil import Vigil
from store.errors import HostError

MOST_VIGILS: Final = 32
"""Records that are watched at a time: those asked about last, or written last."""

OLDEST_SECONDS: Final = 7 * 86400
"""Age from which a record is watched only when somebody asks about it."""

SHARE: Final = 0.75
"""The share of the user's inotify watches that may be used here: editors need some, too."""

QUIET_SECONDS: Final = 0.3
"""How long nothing must have happened to a vigil's files before it is set up again."""

RETRY_SECONDS: Final = 30.0
"""How long after a vigil could not be set up it is tried again, if anybody asks."""

ON_THE_WAY: Final = 256
"""Directories on the way to a record's files that there is room for, about."""

NAME: Final = 32
"""The length of a record's name; other files there have longer ones."""


class Service:
    """The watcher of one store."""

    def __init__(self, store: Path, idle_seconds: float, warm: bool = True) -> None:
        """Not `warm`: without a zygote for builds that have something to do."""
        self._store = store
        self._idle = idle_seconds
        self._view = view()
        self._keeper = Keeper(store) if warm else None
        self._measuring = Measuring(store)
        self._vigils: dict[str, Vigil] = {}
        self._tried: dict[str, float] = {}
        self._busy: tuple[str, Iterator[None]] | None = None
        self._mounts_text = b""
        self._mounts = parse_mounts(b"")
        self._asked_at = self._happened = time.monotonic()
        self._questions = 0
        self._ending = False

    def run(self, ready: Callable[[], None]) -> None:
        """Answer until told to stop, interrupted, or not asked for so long that it is idle; call
        `ready` once it can be asked. Raises HostError where another one runs."""
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody waits for a lease: that is short
        directory = self._store / "watch"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            _lock(stack, directory)
            listening = stack.enter_context(listen(directory, "socket"))
            inode = os.stat(directory / "socket").st_ino
            stack.callback(remove_own, directory, "socket", inode)
            mounts = stack.enter_context(open(MOUNTS, "rb", buffering=0))
            news = Inotify()
            stack.callback(news.close)
            (self._store / "records").mkdir(exist_ok=True)
            news.add(os.fsencode(self._store / "records"), NAMES)
            news.add(os.fsencode(directory), NAMES)  # without its socket nobody can ask
            self._look_at_mounts(mounts)
            self._take_newest()
            if self._keeper:
                stack.callback(self._keeper.close)
            stack.callback(self._measuring.close)
            with contextlib.suppress(KeyboardInterrupt):
                ready()
                self._loop(listening, mounts, news)

    # the loop

    def _loop(self, listening: socket.socket, mounts: Any, news: Inotify) -> None:
        inode = os.stat(self._store / "watch" / "socket").st_ino
        while not self._ending:
            poll = select.poll()
            poll.register(listening, select.POLLIN)
            poll.register(news.handle, select.POLLIN)
            poll.register(mounts, select.POLLPRI)
            for vigil in self._vigils.values():
                if vigil.handle is not None and vigil.state != "setting up":
                    poll.register(vigil.handle, select.POLLIN)
            if self._keeper and (zygote := self._keeper.handle) is not None:
                poll.register(zygote, select.POLLIN)
            found = {handle for handle, _ in poll.poll(self._pause() * 1000)}
            if self._keeper and self._keeper.look(found, next(reversed(self._vigils), "")):
                self._asked_at = time.monotonic()
            if news.handle in found:
                self._take_news(news)
            if mounts.fileno() in found:
                self._look_at_mounts(mounts)
            if listening.fileno() in found:
                # a mount may have come after the look above
                self._look_at_mounts(mounts) if _urgent(mounts) else None
                self._serve(listening)
            self._take_in(found)
            self._set_up()
            self._measuring.look(self._asked_at, time.monotonic())
            if time.monotonic() - self._asked_at > self._idle or not is_own(
                self._store / "watch", "socket", inode
            ):
                return

    def _take_in(self, found: Container[int | None]) -> None:
        """Take in what happened to the files of those vigils whose handle was `found`."""
        for vigil in self._vigils.values():
            if vigil.handle in found:
                before = vigil.changes
                vigil.take_in()
                self._happened = time.monotonic()
                if self._keeper and vigil.changes > before:
                    self._keeper.tell(vigil.name)

    def _pause(self) -> float:
        """Return how long to wait for something to happen, in seconds."""
        if self._busy:
            return 0
        vigils = self._vigils.values()
        waiting = any(vigil.unproved or self._is_due(vigil) for vigil in vigils)
        waiting |= self._keeper is not None and self._keeper.handle is None
        return QUIET_SECONDS if waiting else min(60.0, self._idle)

    def _set_up(self) -> None:
        """Go on with the vigil that is being set up, or begin with the next one that has to be."""
        if self._busy:
            if next(self._busy[1], self) is self:
                self._busy = None
            return
        if time.monotonic() - self._happened < QUIET_SECONDS:
            return
        for vigil in reversed(self._vigils.values()):
            if self._is_due(vigil):
                self._tried[vigil.name] = time.monotonic()
                room = self._room_for(vigil)
                self._busy = vigil.name, vigil.set_up(self._mounts, room, self._nobody_writes)
                return
        for vigil in self._vigils.values():
            if vigil.unproved:
                self._busy = vigil.name, vigil.prove(self._nobody_writes)
                return

    def _room_for(self, vigil: Vigil) -> int:
        """Return how many watches are left for a vigil, after older ones were ended for it."""
        vigil.close()
        left = int(most_watches() * SHARE) - sum(other.watches for other in self._vigils.values())
        for name, older in list(self._vigils.items()):
            if left >= vigil.files + ON_THE_WAY or older is vigil:
                break
            left += older.watches
            self._drop(name)
        return left

    def _nobody_writes(self, device: int, inode: int) -> None:
        for vigil in self._vigils.values():
            vigil.nobody_writes(device, inode)

    def _is_due(self, vigil: Vigil) -> bool:
        if vigil.state in ("different", "refused"):
            tried = self._tried.get(vigil.name, 0.0)
            return self._asked_at > tried and time.monotonic() - tried > RETRY_SECONDS
        return vigil.state in ("new", "stale")

    # records

    def _take_newest(self) -> None:
        found = []
        for entry in os.scandir(self._store / "records"):
            with contextlib.suppress(OSError):
                if len(entry.name) == NAME:
                    found.append((entry.stat().st_mtime, entry.name))
        oldest = time.time() - OLDEST_SECONDS
        for written, name in sorted(found)[-MOST_VIGILS:]:
            if written > oldest:
                self._take(name)
        self._happened = time.monotonic() - QUIET_SECONDS

    def _take_news(self, news: Inotify) -> None:
        for _, _, name in news.events():
            self._take(os.fsdecode(name))

    def _take(self, name: str) -> None:
        """Begin a vigil for the record of that name as it is now; end one whose record is gone."""
        if len(name) != NAME:
            return
        try:
            vigil = Vigil(name, (self._store / "records" / name).read_bytes())
        except (OSError, ValueError):
            self._drop(name)
            return
        known = self._vigils.get(name)
        if known and known.identity == vigil.identity:
            return
        self._drop(name)
        self._vigils[name] = vigil
        while len(self._vigils) > MOST_VIGILS:
            self._drop(next(iter(self._vigils)))

    def _drop(self, name: str) -> None:
        if self._busy and self._busy[0] == name:
            self._busy = None
        if vigil := self._vigils.pop(name, None):
            vigil.close()

    def _look_at_mounts(self, mounts: Any) -> None:
        """See what was mounted or unmounted since the last look."""
        mounts.seek(0)
        text = mounts.read(1 << 24)
        if text == self._mounts_text:
            return
        before, self._mounts_text, self._mounts = self._mounts, text, parse_mounts(text)
        points = {point for point, _ in before.items() ^ self._mounts.items()}
        if self._busy and self._vigils[self._busy[0]].state == "setting up":
            self._vigils[self._busy[0]].restart()
            self._busy = None
        for vigil in self._vigils.values():
            vigil.remounted(points)

    # answers

    def _serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(0.05)
                connection.send(self._answer(connection.recv(4096)))

    def _answer(self, packet: bytes) -> bytes:
        match packet[:1]:
            case b"?":
                vigil = self._vigil_of(packet)
                return b"?" if vigil is None else vigil.answer()
            case b"d":
                vigil = self._vigil_of(packet)
                numbers = None if vigil is None else vigil.differing()
                return b"?" if numbers is None else b"=" + array("I", numbers).tobytes()
            case b"s":
                return json.dumps(self.status()).encode()
            case b"q":
                self._ending = True
                return b"."
        return b""

    def _vigil_of(self, packet: bytes) -> Vigil | None:
        """Return the vigil that is asked about, the record's identity and name and the asker's
        view being in the packet; None where there is none for it."""
        identity, text = packet[1:17], packet[17:].decode(errors="replace")
        name, _, place = text.partition("\0")
        self._questions += 1
        self._asked_at = time.monotonic()
        if place != self._view:
            return None
        vigil = self._vigils.pop(name, None)
        if vigil is None:
            self._take(name)
            return None
        self._vigils[name] = vigil  # the last one to be dropped
        if vigil.identity != identity:
            self._take(name)
            return None
        return vigil

    def status(self) -> dict[str, Any]:
        """Return what is watched, for people and for machines; memory in bytes."""
        return {
            "process": os.getpid(),
            "memory": memory_of(os.getpid()),
            "warm": self._keeper.status() if self._keeper else None,
            "benchmark": self._measuring.status(),
            "questions": self._questions,
            "watches": sum(vigil.watches for vigil in self._vigils.values()),
            "most_watches": int(most_watches() * SHARE),
            "records": [
                {
                    "directory": vigil.directory,
                    "record": vigil.name,
                    "state": vigil.state,
                    "why": vigil.why,
                    "files": vigil.files,
                    "watches": vigil.watches,
                    "events": vigil.events,
                    "overflows": vigil.overflows,
                    "questions": vigil.asked,
                }
                for vigil in self._vigils.values()
            ],
        }


def _lock(stack: contextlib.ExitStack, directory: Path) -> None:
    """Become the only watcher while the stack lasts."""
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HostError("a watcher runs already", "bn watch --status") from None


def _urgent(mounts: Any) -> bool:
    poll = select.poll()
    poll.register(mounts, select.POLLPRI)
    return bool(poll.poll(0))
