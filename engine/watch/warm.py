"""A build handed over to a process that has everything imported, as its client sees it.

It imports next to nothing, for it is what a build pays before anything useful. ::

    client                                 zygote ─ fork ─▶ worker
      │ connects ─────────────────────────────▶ │
      │ ◀──────────────────────────────────────────────── here │
      │ request, descriptors ────────────────────────────────▶ │ is it as the client is?
      │ ◀──────── ready, its process, a socket to hold; or end │ becomes as the client is
      │ go ──────────────────────────────────────────────────▶ │ runs
      │ signals ─────────────────────────────────────────────▶ │
      │ ◀─────────────────────────────────────────── exit code │
      │ ◀─ the signal that killed it; end

Until "go" nothing has run, and whatever is amiss means an ordinary start. From there on the
worker's end is the build's.
"""

from __future__ import annotations

import _locale
import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys

from engine.watch.ask import join

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

SOCKET = "warm"
"""The zygote's socket, beside the watcher's."""

PROTOCOL = b"bn warm 2"

OFF = "BN_WARM"
"""Set to 0, this variable keeps a command from being handed over."""

COMMANDS = ("build", "test")
"""What is handed over: commands that take long, and start no program with the user's terminal."""

SECONDS = 0.15
"""How long it may take until there is a worker; it is about the time that is to be won. Only then
are descriptors passed, for a process that is stopped would keep them open."""

READY_SECONDS = 1.0
"""How long a worker may take to become as the client is."""

MOST_DESCRIPTORS = 200
"""The kernel passes 253 in a packet."""

FORWARDED = (
    *(_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT),
    *(_signal.SIGWINCH, _signal.SIGTSTP),
)

FLAGS = (
    *("debug", "inspect", "interactive", "optimize", "dont_write_bytecode", "verbose"),
    *("bytes_warning", "quiet", "hash_randomization", "dev_mode", "utf8_mode"),
    *("warn_default_encoding", "int_max_str_digits"),
)
"""Of the interpreter's flags those that have to be the same."""

OWN_FILES = ("personality", "timerslack_ns")
"""What only a process itself may read of itself, everywhere."""


def hand_over(store: str) -> int | None:
    """Have the command that this process was started for run by a worker, and return its exit
    code; None where there is none that can take it over, and nothing was done.

    Ends this process by the signal that the worker was ended by.
    """
    if not os.path.lexists(f"{store}/watch/{SOCKET}") or os.environ.get(OFF) == "0":
        return None
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    relay = _Relay()
    try:
        worker = None
        if _allowed() and _connected(connection, store):
            relay.install()
            worker = _begun(connection)
    except (OSError, ValueError):
        worker = None
    code = None
    if worker is not None:
        relay.attach(worker)
        code = _ended(connection)
    connection.close()
    relay.remove()
    return code


def interpreter() -> bytes:
    """Return what two interpreters have to have in common for one to do the other's work."""
    from engine import __file__ as place
    from engine import __version__

    said = [
        *(__version__, sys.version, sys._xoptions, sys.warnoptions),
        *map(os.path.realpath, map(os.path.dirname, (place, sys.executable))),
        *(getattr(sys.flags, name, None) for name in FLAGS),
        *(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()),
        *(_locale.setlocale(_locale.LC_CTYPE), sys.gettrace(), sys.getprofile()),
    ]
    return PROTOCOL + repr(said).encode("utf-8", "surrogateescape")


def _allowed() -> bool:
    """Say whether this process is an ordinary one: its Python unchanged by variables, its standard
    streams there, and SIGTERM able to end it."""
    changed = not sys.flags.isolated and any(name.startswith("PYTHON") for name in os.environ)
    streams = None in (sys.stdin, sys.stdout, sys.stderr)
    ends = _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL
    return ends and not (changed or streams) and hasattr(os, "pidfd_open")


def _connected(connection: _socket.socket, store: str) -> bool:
    """Connect to the zygote; say whether it is this user's, and one that this process could look
    into: from a narrower sandbox, say of Landlock, it could not."""
    connection.settimeout(SECONDS)
    join(connection, f"{store}/watch", SOCKET)
    peer = memoryview(connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)).cast("i")
    namespace = os.readlink("/proc/self/ns/mnt")
    return peer[1] == os.geteuid() and os.readlink(f"/proc/{peer[0]}/ns/mnt") == namespace


def _begun(connection: _socket.socket) -> int | None:
    """Send the request; return a descriptor of the worker once it was told to go, else None."""
    descriptors = _descriptors()
    if descriptors is None or connection.recv(1) != b"h":
        return None
    connection.settimeout(READY_SECONDS)
    here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        passed = b"".join(one.to_bytes(4, sys.byteorder) for one in (here, *descriptors))
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, passed)]
        connection.sendmsg([_request(descriptors)], rights)
    finally:
        os.close(here)
    room = _socket.CMSG_SPACE(4)  # the end of a socket: it closes with this process
    said, life, _, _ = connection.recvmsg(512, room, _socket.MSG_CMSG_CLOEXEC)
    if not said.startswith(b"r") or not life:
        return None
    worker = os.pidfd_open(int(said[1:]))
    connection.send(b"g")
    connection.settimeout(None)
    return worker


def _request(descriptors: list[int]) -> bytes:
    """Return all that a worker has to be told: fields with NUL between."""
    paths = ":".join(sys.path) if "site" in sys.modules else ""
    words = [word.encode("utf-8", "surrogateescape") for word in (paths, *sys.argv)]
    own = []
    for name in OWN_FILES:
        with open(f"/proc/self/{name}", "rb", buffering=0) as file:
            own.append(file.read(64).strip())
    fields = [
        *(interpreter(), *own, ",".join(map(str, descriptors)).encode(), words[0]),
        *(str(len(sys.argv)).encode(), *words[1:]),
        *(name + b"=" + value for name, value in os.environb.items()),
    ]
    if any(b"\0" in field for field in fields):
        raise ValueError("a NUL in a field")
    return b"\0".join(fields)


def _descriptors() -> list[int] | None:
    """Return the descriptors that this process was started with; None where one of the standard
    ones is missing or there are too many."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):  # Python makes none of its own so
                found.append(int(name))
        except OSError:  # the one that listed them
            continue
    found.sort()
    return found if found[:3] == [0, 1, 2] and len(found) <= MOST_DESCRIPTORS else None


def _ended(connection: _socket.socket) -> int:
    """Wait until the worker is done and return its exit code: it removes what it needed by itself.
    End as it did where a signal ended it; SIGKILL is the only one that nobody may have told of."""
    last = b""
    try:
        while not last.startswith(b"e") and (packet := connection.recv(64)):
            last = packet
    except OSError:
        pass
    if last.startswith(b"e"):
        return int(last[1:])
    number = int(last[1:]) if last.startswith(b"k") else int(_signal.SIGKILL)
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number


class _Relay:
    """Signals passed on to the worker; those that come before there is one are kept."""

    def __init__(self) -> None:
        self._before: dict[int, Callable[[int, FrameType | None], object] | int | None] = {}
        self._early: list[int] = []
        self._worker = -1

    def install(self) -> None:
        """Take signals in, but those that are ignored."""
        for number in FORWARDED:
            if _signal.getsignal(number) not in (_signal.SIG_IGN, None):
                self._before[number] = _signal.signal(number, self._take)

    def attach(self, worker: int) -> None:
        """Pass on to this process (a descriptor of it) what came and what comes."""
        self._worker = worker
        while self._early:
            self._take(self._early.pop(0))

    def remove(self) -> None:
        """Leave signals as they were, with those that nobody was told of."""
        for number, before in self._before.items():
            _signal.signal(number, before)
        if self._worker >= 0:
            os.close(self._worker)
        else:
            for number in self._early:
                os.kill(os.getpid(), number)

    def _take(self, number: int, _: FrameType | None = None) -> None:
        if self._worker < 0:
            self._early.append(number)
        elif number == _signal.SIGTSTP:
            self._stop()
        else:
            self._tell(number)

    def _stop(self) -> None:
        """Stop the worker and this process, until that is told to go on."""
        self._tell(_signal.SIGSTOP)
        _signal.signal(_signal.SIGTSTP, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGTSTP)
        _signal.signal(_signal.SIGTSTP, self._take)
        self._tell(_signal.SIGCONT)

    def _tell(self, number: int) -> None:
        try:
            _signal.pidfd_send_signal(self._worker, number)
        except OSError:
            return  # it has ended
