"""A worker forked before anybody asks for it, so that a client waits neither for the fork nor for
the memory that a forked process copies page by page as it goes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Final, NoReturn, TypeAlias

_POPULATE: Final = 23
"""MADV_POPULATE_WRITE of madvise(2): have pages that can be written to, of one's own."""

_GO: Final = b"g"
_READY: Final = b"r"
_LONGEST: Final = 256

ENDING_SECONDS: Final = 5.0

Work: TypeAlias = Callable[[socket.socket, Callable[[], None]], NoReturn]


class Spare:
    """A process that waits for a client's connection."""

    def __init__(
        self,
        work: Work,
        ahead: Callable[[], None] = lambda: None,
        ready: Callable[[str], None] = lambda word: None,
        undo: Callable[[], None] = lambda: None,
    ) -> None:
        """Fork it. It does what is to be done `ahead`, waits, and will `work`, told of the
        connection and of what to call before anything that is of consequence: that returns once the
        code has been looked at. Meanwhile it may have to get `ready` for what a word says. Where it
        is not needed, it has to `undo` what it did."""
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = os.fork()
        if self.process == 0:
            try:
                self._ours.close()
                _stand_by(theirs, work, ahead, ready, undo)
            finally:
                os._exit(1)
        theirs.close()
        self.handle = os.pidfd_open(self.process)

    def get_ready(self, word: str) -> None:
        """Have it get ready for what that word says."""
        with contextlib.suppress(OSError):
            self._ours.send(_READY + word.encode(), socket.MSG_DONTWAIT)

    def give(self, connection: socket.socket) -> bool:
        """Hand a connection over; say whether there is somebody to take it."""
        try:
            socket.send_fds(self._ours, [_GO], [connection.fileno()])
        except OSError:
            return False
        return True

    def allow(self) -> None:
        """Let it go on: the code is as it was."""
        with contextlib.suppress(OSError):
            self._ours.send(_GO)
        self._ours.close()

    def end(self) -> None:
        """Have it end, unless it was allowed to go on, and wait for that."""
        self._ours.close()
        end(self.process, self.handle, ENDING_SECONDS)


def end(process: int, handle: int, seconds: float) -> None:
    """Wait for the end of a child process, which is killed where it takes more `seconds`. `handle`
    is its pidfd, which is closed."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    if not poll.poll(seconds * 1000):
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process, 0)
    os.close(handle)


def _stand_by(
    asks: socket.socket,
    work: Work,
    ahead: Callable[[], None],
    ready: Callable[[str], None],
    undo: Callable[[], None],
) -> None:
    """Wait for a connection, and for leave to go on; end where the zygote does."""
    os.setsid()
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # as most clients
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    _own_memory()
    ahead()
    while True:
        packet, received, _, _ = socket.recv_fds(asks, _LONGEST, 1, socket.MSG_CMSG_CLOEXEC)
        if packet[:1] != _READY:
            break
        ready(packet[1:].decode())
    if packet != _GO or len(received) != 1:
        undo()
        os._exit(0)

    def allowed() -> None:
        if asks.recv(1) != _GO:
            undo()
            os._exit(1)
        asks.detach()  # its number is given away in a moment

    work(socket.socket(fileno=received[0]), allowed)


def _own_memory() -> None:
    """Copy now what this process shares with the one that it was forked from, as it will write to
    most of it. Where the kernel cannot do that at once (before 5.14) it goes bit by bit later."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        lines = [line.split(None, 6) for line in file]
    for line in lines:
        if line[1].startswith("rw") and line[1].endswith("p") and line[-1:] != ["[stack]"]:
            first, last = (int(number, 16) for number in line[0].split("-"))
            libc.madvise(first, last - first, _POPULATE)
