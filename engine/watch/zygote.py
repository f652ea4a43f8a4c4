"""The zygote: a process that has imported what a build needs, and forks a worker for each.

It holds nothing else but its stock (`stocking.py`): no store, no thread, no event loop. What a
worker does, it does with the code, the arguments and the files that an ordinary start would have.
As soon as a file that it imported has changed it takes no more requests, so that old code never
runs. It ends with the watcher.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from operator import eq
from pathlib import Path
from typing import Final, NoReturn

from engine.cli.main import flushed, run_command, wait_for_threads
from engine.record import SIGNATURE
from engine.watch import early
from engine.watch.inherit import Refused, adopt, differs, parsed
from engine.watch.sockets import is_own, listen, remove_own
from engine.watch.spare import Spare, end
from engine.watch.stocking import IDLE_SECONDS, Stocking, leave
from engine.watch.warm import MOST_DESCRIPTORS, SOCKET
from executors import leaving, standing
from store import stock

MODULES: Final = (
    *("engine.cli.main", "engine.cli.plain", "engine.cli.commands", "engine.cli.build"),
    *("engine.cli.test", "engine.cli.light_pathlib", "engine.modes", "engine.evaluate"),
    *("engine.explain", "engine.spec.project", "executors.sandbox", "executors.wall"),
    *("rich.console", "rich.live", "store.heat", "store.orphans"),
)
"""What a build imports, with what these import."""

CONTROL: Final = 0
"""The descriptor of the socket to the watcher."""

FRESH_NS: Final = 10**9
"""A file that changed so shortly before it was imported may have been read as it was before."""

MOST_BYTES: Final = 1 << 18
"""More than a request can have: a socket does not take it."""

PATIENCE_SECONDS: Final = 1.0
"""How long a client may take to send what it connected for."""

REST_SECONDS: Final = 0.002
"""How long nothing must happen before a piece is taken into stock."""

REHEARSAL_SECONDS: Final = 10.0
"""How long it may take to find out what a command needs."""

UNFLUSHED: Final = 120
"""Python's exit code where what was said could not be written."""

STALE, READY, HANDED, REFUSED, STOCK = b"stale", b"ready", b"handed", b"refused", b"stock"
"""What it tells the watcher."""


def main(store: str, newest: str, began_ns: int) -> NoReturn:
    """Serve a store's builds until the watcher is gone or the code has changed, and workers have
    ended; the first one will probably be for the command of the `newest` record, if one has that
    name. Nothing of bn was imported before `began_ns`."""
    for name in MODULES:
        importlib.import_module(name)
    loaded = signatures()
    changed = max(max(mark[:2]) for mark in loaded.values())
    if changed > began_ns - FRESH_NS or len(os.listdir("/proc/self/task")) != 1:
        _tell(STALE)
    else:
        Zygote(Path(store) / "watch", loaded).run(newest)
    os._exit(0)


def signatures() -> dict[str, tuple[int, ...]]:
    """Return the signatures of all files that modules were loaded from. Raises OSError where one
    is gone."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: SIGNATURE(os.stat(file)) for file in sorted(filter(None, files))}


class Zygote:
    """One process's workers and its socket. `loaded` are the signatures of what it imported."""

    def __init__(self, directory: Path, loaded: dict[str, tuple[int, ...]]) -> None:
        self._directory = directory
        self._loaded = loaded
        self._workers: dict[int, tuple[int, socket.socket]] = {}
        self._stocking = Stocking()
        self._spare: Spare | None = None
        self._wants_spare = True
        self._changed = ""
        """The record of which files changed: the next worker will probably be asked about it."""

    def run(self, newest: str) -> None:
        """Serve, first of all probably the command of the record of that name."""
        os.set_blocking(CONTROL, False)
        gc.collect()
        gc.freeze()
        for left in self._directory.glob("left.*"):
            left.unlink(missing_ok=True)
        if newest:
            self._rehearse(newest)
        with listen(self._directory, SOCKET) as listening:
            inode = os.stat(self._directory / SOCKET).st_ino
            _tell(READY)
            while self._watched(inode) and not self._take(listening):
                pass
            remove_own(self._directory, SOCKET, inode)
        self._drop_spare()
        while self._workers:
            self._wait(None)

    def _watched(self, inode: int) -> bool:
        """Say whether there still are a watcher and a way to ask; take in what it tells."""
        with contextlib.suppress(BlockingIOError):
            while True:
                record = os.read(CONTROL, 256)
                if not record:
                    return False
                self._changed = record.decode()
                self._wants_spare |= self._spare is None
        return is_own(self._directory, SOCKET, inode)

    def _take(self, listening: socket.socket) -> bool:
        """Wait for something to happen and see to it; say whether the code has changed."""
        if not self._wait(listening):
            return False
        connection, _ = listening.accept()
        spare = self._spare
        if spare is not None and not spare.give(connection):
            self._drop_spare()
            spare = None
        if self._is_stale():
            connection.close()
            _tell(STALE)
            return True
        self._changed = ""
        if spare is not None:
            spare.allow()
            self._spare = None
            self._workers[spare.handle] = (spare.process, connection)
            return False
        process = os.fork()
        if process == 0:
            for other in (listening, *(one for _, one in self._workers.values())):
                other.detach()  # its number is given away in a moment
            os.setsid()
            stock.note()
            _work(connection, self._left_by(os.getpid()))
        self._workers[os.pidfd_open(process)] = (process, connection)
        return False

    def _is_stale(self) -> bool:
        """Say whether code that was imported has changed."""
        try:
            found = map(SIGNATURE, map(os.stat, self._loaded))
            return not all(map(eq, found, self._loaded.values()))
        except OSError:
            return True

    def _wait(self, listening: socket.socket | None) -> bool:
        """Wait for a client, the watcher's end, or a worker's; say whether there is a client."""
        poll = select.poll()
        if listening is not None:
            poll.register(listening, select.POLLIN)
            poll.register(CONTROL, select.POLLIN)
        if self._spare is not None:
            poll.register(self._spare.handle, select.POLLIN)
        for worker, (_, connection) in self._workers.items():
            poll.register(worker, select.POLLIN)
            if connection.fileno() >= 0:
                poll.register(connection, select.POLLRDHUP)
        found = {handle for handle, _ in poll.poll(self._pause() * 1000)}
        if not found and listening is not None:
            self._get_ready(listening)
        if self._spare is not None and self._spare.handle in found:
            self._drop_spare()
        for worker, (process, connection) in list(self._workers.items()):
            if worker in found:
                _bury(process, connection)
                self._stocking.take(self._left_by(process))
                os.close(worker)
                del self._workers[worker]
                self._wants_spare = True
            elif connection.fileno() in found:
                # the kernel tells the worker, which may have been stopped
                connection.close()
                signal.pidfd_send_signal(worker, signal.SIGCONT)
        return listening is not None and listening.fileno() in found

    def _left_by(self, process: int) -> Path:
        """Return where a worker says what it would have been well to have."""
        return self._directory / f"left.{process}"

    def _pause(self) -> float:
        """Return how long to wait for something to happen, in seconds."""
        due = self._stocking.is_due or self._wants_spare or self._changed
        return REST_SECONDS if due and not self._workers else IDLE_SECONDS

    def _get_ready(self, listening: socket.socket) -> None:
        """Do a part of what makes the next worker quicker; let go of it all where there was none
        for long."""
        if self._workers:
            return
        if self._stocking.is_due:
            if self._stocking.step():
                self._stocked()
        elif self._wants_spare:
            self._wants_spare = False

            def work(connection: socket.socket, allowed: Callable[[], None]) -> NoReturn:
                listening.detach()  # its number is given away in a moment
                _work(connection, self._left_by(os.getpid()), allowed)

            with contextlib.suppress(OSError):
                self._spare = Spare(work, self._stand, self._work_out, standing.end)
        elif self._changed:
            record, self._changed = self._changed, ""
            if self._spare is not None and not self._is_stale():
                self._spare.get_ready(record)
        else:
            self._drop_spare()
            self._stocking.clear()
            self._stocked()

    def _stand(self) -> None:
        standing.stand(self._directory.parent, self._stocking.cell)
        stock.note()

    def _work_out(self, name: str) -> None:
        early.work_out(self._record(name))

    def _record(self, name: str) -> Path:
        return self._directory.parent / "records" / name

    def _rehearse(self, name: str) -> None:
        """Take into stock what the command of the record of that name needs."""
        process = os.fork()
        if process == 0:
            try:
                stock.note()
                early.rehearse(self._record(name))
                leave(self._left_by(os.getpid()))
            finally:
                os._exit(0)
        end(process, os.pidfd_open(process), REHEARSAL_SECONDS)
        self._stocking.take(self._left_by(process))
        while self._stocking.is_due:
            self._stocking.step()
        self._stocked()

    def _stocked(self) -> None:
        gc.freeze()
        _tell(STOCK + b" %d %d" % (self._stocking.held, self._stocking.early))

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.end()
            self._spare = None


def _bury(process: int, connection: socket.socket) -> None:
    """Take in how a worker ended, and tell its client where a signal did that."""
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with connection, contextlib.suppress(OSError):
        if status < 0:
            connection.send(b"k%d" % -status)


def _tell(word: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(CONTROL, word)


# the worker


def _work(
    connection: socket.socket, left: Path, allowed: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run what the client asks for, as it would have been run there; leave word at `left`. What is
    `allowed` is to be asked before anything is done."""
    try:
        connection, life, given = _taken(connection, allowed)
    except BaseException:  # nobody to tell: the client has gone, or goes the ordinary way
        _leave()
    leaving.hold()
    code = _run(sys.argv[1:])
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    with contextlib.suppress(OSError):  # the client may go now
        flags = fcntl.fcntl(life, fcntl.F_GETFL)
        fcntl.fcntl(life, fcntl.F_SETFL, flags & ~os.O_ASYNC)
    for number in given:  # who reads from them is to see their end
        with contextlib.suppress(OSError):
            os.close(number)
    with contextlib.suppress(OSError):
        connection.send(b"e%d" % code)
    leaving.release()
    wait_for_threads()
    standing.end()
    leave(left)
    os._exit(code)


def _run(arguments: list[str]) -> int:
    """Return the exit code of a command line; what nobody expected ends as Python ends it."""
    code = 1
    try:
        code = run_command(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        code = 130
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    try:
        return flushed(code)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return UNFLUSHED


def _taken(
    connection: socket.socket, allowed: Callable[[], None]
) -> tuple[socket.socket, socket.socket, tuple[int, ...]]:
    """Become as the client is, and return the connection to it once it says to go on, a socket that
    closes with the client, and the descriptors that are the client's; else end."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    client = memoryview(peer).cast("i")[0]
    watcher = os.dup(CONTROL)
    os.set_inheritable(watcher, False)
    try:
        connection.settimeout(PATIENCE_SECONDS)
        connection.send(b"h")
        packet, received, _, _ = socket.recv_fds(
            connection, MOST_BYTES, MOST_DESCRIPTORS + 1, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:  # it had a look, and goes another way
            _leave()
        asked = parsed(packet)
        if why := differs(asked, client):
            raise Refused(why)
        allowed()
        os.write(watcher, HANDED)
        own = (connection.detach(), *standing.descriptors())
        number, *walls = adopt(asked, client, received, own)
        standing.moved(tuple(walls))
    except ConnectionError:
        _leave()
    except (Refused, OSError) as error:
        with contextlib.suppress(OSError):
            os.write(watcher, REFUSED + b" " + str(error).encode("utf-8", "surrogateescape")[:99])
        _leave()
    connection = socket.socket(fileno=number)
    connection.settimeout(None)
    life, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(connection, [b"r%d" % os.getpid()], [theirs.fileno()])
    if connection.recv(1) != b"g":
        _leave()
    end_with(life)
    return connection, life, asked.numbers


def _leave() -> NoReturn:
    """End without having done anything."""
    standing.end()
    os._exit(1)


def end_with(life: socket.socket) -> None:
    """Have the kernel send SIGTERM when the other end of a socket is closed. Nobody may ever have
    written to it: who sends a packet may wake its reader, and be kept from going on, before the
    kernel looks whom to send a signal for it."""
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGTERM)
    flags = fcntl.fcntl(life, fcntl.F_GETFL)
    fcntl.fcntl(life, fcntl.F_SETFL, flags | os.O_ASYNC)
    poll = select.poll()
    poll.register(life, select.POLLRDHUP)
    if poll.poll(0):
        raise OSError(errno.ECONNRESET, "the client has gone")
