"""The server's processes: a parent that watches, workers that serve, a janitor.

::

    parent ── binds, forks, restarts who dies, passes SIGTERM and SIGHUP on
      ├── worker 0 … N-1   a loop, a store and a service each
      └── janitor          quotas, garbage

The parent opens no store and has no threads, so that forking it again is safe at any time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field

from engine.http.sharing import Board
from store.errors import HostError, InputError, host_error

_BACKLOG: Final = 4096
_WATCHED: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SHORT_SECONDS: Final = 5.0
"""A process that lives shorter is restarted only after a pause."""

_PAUSES: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_PR_SET_PDEATHSIG: Final = 1

_LEAVE_SECONDS: Final = 2.0
"""For processes to end at a second signal, before they are killed."""


def listen(bind: Sequence[str]) -> list[socket.socket]:
    """Return sockets that listen at each of `HOST:PORT`, `[V6]:PORT` or `unix:PATH`. Raises
    InputError and HostError."""
    made: list[socket.socket] = []
    try:
        for place in bind:
            made += _listening(place)
    except BaseException:
        for one in made:
            one.close()
        raise
    return made


def address_of(sock: socket.socket) -> str:
    """Return where a socket listens, as people write it."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if sock.family == socket.AF_INET6 else f"{host}:{port}"


def _listening(place: str) -> list[socket.socket]:
    if place.startswith("unix:"):
        return [_listening_in(place.removeprefix("unix:"))]
    host, colon, port = place.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"bind {place!r}: no HOST:PORT", "for example 127.0.0.1:8980")
    host = host.removeprefix("[").removesuffix("]")
    passive = socket.AI_PASSIVE
    try:
        found = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=passive)
    except OSError as error:
        raise InputError(f"bind {place!r}: {error.strerror or error}") from None
    made = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        made.append(sock)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except OSError as error:
            for one in made:
                one.close()
            raise host_error(error, f"cannot listen at {place}") from error
    return made


def _listening_in(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if _is_abandoned(path):
            os.unlink(path)
        sock.bind(path)
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise host_error(error, f"cannot listen at {path}") from error
    return sock


def _is_abandoned(path: str) -> bool:
    """Say whether a socket lies there that nobody listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


@define
class _Child:
    """A process and how it has fared; `work` is what it does, `index` which worker it is."""

    name: str
    work: Callable[[], None]
    index: int = -1
    pid: int = 0
    begun: float = 0.0
    deaths: int = 0
    due: float | None = None
    """When it is to be started again."""


@define
class Supervisor:
    """Keeps `workers` copies of `work` running, and `others` beside them, until a signal ends it.

    `work` is called in a process of its own with the worker's number; its signals are as they are
    by default, and it is to end after SIGTERM, which it also gets when this process dies; SIGHUP,
    which is passed on, is ignored until it wants it.
    """

    work: Callable[[int], None]
    board: Board
    listeners: Sequence[socket.socket] = ()
    others: Sequence[tuple[str, Callable[[], None]]] = ()
    tell: Callable[[str], None] = lambda text: None
    _children: list[_Child] = field(factory=list, init=False)
    _ending: bool = field(default=False, init=False)

    def run(self) -> None:
        """Run until told to end by SIGTERM or SIGINT; a second signal ends it at once. Raises
        HostError where no worker lives long enough to serve."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        gc.collect()
        gc.freeze()
        try:
            for index in range(self.board.workers):
                work = self._worker(index)
                self._children.append(_Child(f"worker {index}", work, index))
            self._children += [_Child(name, work) for name, work in self.others]
            for child in self._children:
                self._start(child)
            while any(child.pid or child.due is not None for child in self._children):
                self._wait()
        finally:
            self._kill()
            gc.unfreeze()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _worker(self, index: int) -> Callable[[], None]:
        return lambda: self.work(index)

    def _start(self, child: _Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        child.begun, child.due = time.monotonic(), None
        library, parent = ctypes.CDLL(None), os.getpid()
        pid = os.fork()
        if pid:
            child.pid = pid
            return
        code = 1
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() == parent:
                child.work()
            code = 0
        except KeyboardInterrupt:
            code = 130
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _wait(self) -> None:
        """Wait for a signal or for a process that is to be started again, and act on it."""
        now = time.monotonic()
        due = [child.due for child in self._children if child.due is not None]
        if due:
            signal_info = signal.sigtimedwait(_WATCHED, max(0.0, min(due) - now))
            number = signal_info.si_signo if signal_info else 0
        else:
            number = signal.sigwait(_WATCHED)
        if number in (signal.SIGTERM, signal.SIGINT):
            self._end()
        elif number == signal.SIGHUP:
            for child in self._children:
                if child.pid:
                    os.kill(child.pid, signal.SIGHUP)
        self._reap()
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now and not self._ending:
                self._start(child)

    def _end(self) -> None:
        """Pass the signal on; at the second one wait only for a moment."""
        for child in self._children:
            child.due = None
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        if not self._ending:
            self._ending = True
            for listener in self.listeners:
                listener.close()
            return
        deadline = time.monotonic() + _LEAVE_SECONDS
        while any(child.pid for child in self._children) and time.monotonic() < deadline:
            signal.sigtimedwait([signal.SIGCHLD], 0.05)
            self._reap()
        self._kill()

    def _kill(self) -> None:
        for child in self._children:
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            child.pid = 0
            if child.index >= 0:
                self.board.hold(child.index, 0)
            if not self._ending:
                self._died(child, os.waitstatus_to_exitcode(status))

    def _died(self, child: _Child, code: int) -> None:
        now = time.monotonic()
        lived = now - child.begun
        child.deaths = child.deaths + 1 if lived < _SHORT_SECONDS else 0
        if child.deaths > len(_PAUSES) and all(
            one.deaths for one in self._children if one.index >= 0
        ):
            raise HostError(f"{child.name} ends each time it is started", "see what it said above")
        pause = _PAUSES[min(child.deaths, len(_PAUSES)) - 1] if child.deaths else 0.0
        how = f"with code {code}" if code >= 0 else f"by signal {-code}"
        self.tell(f"{child.name} ended {how}; it is started again")
        child.due = now + pause


def unlink_sockets(bind: Sequence[str]) -> None:
    """Remove the sockets that were bound in the file system."""
    for place in bind:
        if place.startswith("unix:"):
            Path(place.removeprefix("unix:")).unlink(missing_ok=True)
