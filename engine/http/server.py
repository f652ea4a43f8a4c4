"""The server in one process: a loop that does at once what need not wait.

One epoll object has all sockets, edge-triggered, so that a request costs no change of what is
watched; an idle connection has no task. A trio task, the *leader*, takes what is ready and runs
each request's coroutine itself. Most end without having waited. Where one does wait, it is already
in the right task: another takes over as leader, and this one stays with its request::

    epoll ──> leader ──> connection.advance() ──> coroutine ──> ended: the next one
                 ↑                                    └──> waits: another task leads
                 └── tasks that rest <── the request has ended
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from time import monotonic
from types import coroutine
from typing import TYPE_CHECKING, Any, Final

import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from engine.http.connection import Connection
from engine.http.exchange import Exchange, tell
from engine.http.hooks import Counter, Gate, Log, Open, Uncounted
from engine.http.limits import Limits
from engine.http.patience import look
from engine.http.replies import Clock
from engine.http.router import Adapter
from engine.http.states import State, Waits
from engine.http.targets import Target

if TYPE_CHECKING:
    from engine.http.service import Service

_EVENTS: Final = 256
_ROUNDS: Final = 8
"""Times that the leader looks for more to do before trio's other tasks have their turn."""

_RESTING: Final = 64
"""Tasks that are kept for when they are needed."""

_ACCEPTED: Final = 64
"""Connections that are taken before the others have their turn."""

_MOST_KNOWN: Final = 4096
_LONGEST_KNOWN: Final = 256
_SWEEP_SECONDS: Final = 0.5
_IN: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_OUT: Final = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR
_ENDED: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR
_WATCHED: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n"
    b"connection: close\r\n\r\n"
)

_DRAINED: Final = 64 * 1024

Share = Callable[[socket.socket], bool]
"""Given a new connection's socket: says whether another process has taken it."""


class Server:
    """Answers on sockets that listen, until it is told to end."""

    def __init__(
        self,
        adapters: Sequence[Adapter],
        service: Service,
        *,
        gate: Gate | None = None,
        counter: Counter | None = None,
        log: Log | None = None,
        limits: Limits | None = None,
        secure: Callable[[], ssl.SSLContext] | None = None,
        share: Share | None = None,
        hold: Callable[[int], None] | None = None,
        room: Callable[[int], None] | None = None,
    ) -> None:
        """`secure` returns the context for a new connection, where they are to be secure; `hold`
        is told how many connections there are when that changes; `room` raises Failure where
        there is none for an upload of so many bytes."""
        self.adapters = adapters
        self.service = service
        self.gate: Gate = gate or Open()
        self.counter: Counter = counter or Uncounted()
        self.log = log
        self.limits = limits or Limits()
        self.clock = Clock()
        self.now = monotonic()
        self.ending = False
        self.requests = 0
        self.known: dict[tuple[str, bytes], tuple[Target, Adapter]] = {}
        """Targets that were asked for lately, and who answers them."""
        self.room = room
        self._secure = secure
        self._share = share
        self._hold = hold
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._paused = False
        self._ready: deque[Connection] = deque()
        self._resting: list[Task] = []
        self._asleep = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN | select.EPOLLET)
        self._nursery: trio.Nursery | None = None
        self._empty = trio.Event()

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve until `end`; then return when the requests under way have ended."""
        for listener in listeners:
            listener.setblocking(False)
            self._listeners[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._member)
                nursery.start_soon(self._watch)
                await self._empty.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._empty.set()
            for connection in list(self._connections.values()):
                connection.close("the server ends", abort=True)
            self._epoll.close()
            os.close(self._bell)

    def end(self) -> None:
        """Close the sockets that listen, and end once the requests under way are answered."""
        if self.ending:
            return
        self.ending = True
        if self._nursery is None:  # it has not begun
            self._empty.set()
            return
        self._listen(False)
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._nursery.start_soon(self._grace)
        for connection in self._connections.values():
            if connection.waits is Waits.REQUEST:  # one may have come that nobody saw yet
                connection.readable = True
                self.later(connection)
        self._settle()

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that another process accepted; close it where the server has ended."""
        if self._empty.is_set():
            sock.close()
        else:
            self._welcome(sock)

    # a connection's side

    def later(self, connection: Connection) -> None:
        """Let others have their turn before the connection goes on."""
        self._ready.append(connection)
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)

    def forget(self, connection: Connection) -> None:
        """Take a closing connection off the books."""
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(connection.fd)
        if self._connections.pop(connection.fd, None) is not None:
            self._changed()
        self._settle()

    def remember(self, method: str, target: bytes, read: Target, adapter: Adapter) -> None:
        """Keep what a target came to, where that depends on nothing else."""
        if len(target) <= _LONGEST_KNOWN and target[:1] == b"/":
            if len(self.known) >= _MOST_KNOWN:
                self.known.clear()
            self.known[method, target] = (read, adapter)

    def begun(self, exchange: Exchange) -> None:
        """Count a request that begins."""
        self.requests += 1

    def ended(self, connection: Connection) -> None:
        """Count and log the request of a connection."""
        exchange = connection.exchange
        assert exchange is not None
        connection.exchange = None
        self.requests -= 1
        if exchange.uploading:
            self.counter.uploads -= 1
        tell(exchange, connection.peer, connection.out.sent, self.counter, self.log)

    def failed(self, error: Exception) -> None:
        """Tell of an error that nobody expected."""
        import sys

        self.counter.count("failures", type(error).__name__)
        sys.stderr.write("".join(traceback.format_exception(error)))

    # the loop

    async def _member(self) -> None:
        """Lead until a request waits, stay with it, rest, and lead again when called."""
        while True:
            await self._lead()
            if len(self._resting) >= _RESTING:
                return
            task = current_task()
            self._resting.append(task)

            def abort(_: object, task: Task = task) -> Abort:
                if task in self._resting:
                    self._resting.remove(task)
                return Abort.SUCCEEDED

            await wait_task_rescheduled(abort)

    def _promote(self) -> None:
        """Let another task lead."""
        if self._resting:
            reschedule(self._resting.pop())
        else:
            assert self._nursery is not None
            self._nursery.start_soon(self._member)

    async def _lead(self) -> None:
        """Do what is ready, until a request has to wait, and stay with that one to its end."""
        ready = self._ready
        poll = self._epoll.poll
        rounds = 0
        while True:
            while ready:
                connection = ready.popleft()
                request = connection.advance()
                while request is not None:
                    if await _run(request, self._promote):
                        await self._stay(connection)
                        return
                    request = connection.advance()
            events = poll(0, _EVENTS) if rounds < _ROUNDS else None
            if not events:
                self._asleep = not ready
                await trio.lowlevel.wait_readable(self._epoll)
                self._asleep = False
                rounds = 0
                events = poll(0, _EVENTS)
            rounds += 1
            self.now = monotonic()
            self._notice(events)

    async def _stay(self, connection: Connection) -> None:
        """Go on with a connection in the task that its request has waited in."""
        while (request := connection.advance()) is not None:
            await request

    def _notice(self, events: list[tuple[int, int]]) -> None:
        connections, ready = self._connections, self._ready
        for descriptor, flags in events:
            connection = connections.get(descriptor)
            if connection is not None:
                if connection.notice(bool(flags & _IN), bool(flags & _OUT), bool(flags & _ENDED)):
                    ready.append(connection)
            elif descriptor in self._listeners:
                self._accept(self._listeners[descriptor])
            elif descriptor == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)

    # connections

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.counter.count("refused", "descriptors")
                    self._listen(False)
                    self._paused = True
                    return
                continue  # the client has gone
            if self._share is not None and self._share(sock):
                sock.close()
            else:
                self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if len(self._connections) >= self.limits.connections and not self._make_room():
            self.counter.count("refused", "connections")
            with contextlib.suppress(OSError):
                if self._secure is None:
                    sock.send(_FULL)
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(_DRAINED)  # what is not read would take the answer along
            sock.close()
            return
        try:
            if sock.family == socket.AF_UNIX:
                peer = "unix"
            else:
                peer = sock.getpeername()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure is not None:
                sock = self._secure().wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
        except (OSError, ValueError):
            sock.close()
            return
        connection = Connection(self, sock, peer)
        self._connections[connection.fd] = connection
        self._epoll.register(connection.fd, _WATCHED)
        self._changed()

    def _changed(self) -> None:
        number = len(self._connections)
        self.counter.connections = number
        if self._hold is not None:
            self._hold(number)

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest; say whether there was one."""
        idle = [
            one
            for one in self._connections.values()
            if one.waits is Waits.REQUEST and self.now - one.since > 1
        ]
        if not idle:
            return False
        min(idle, key=lambda one: one.since).close()
        return True

    def _listen(self, on: bool) -> None:
        for descriptor in self._listeners:
            with contextlib.suppress(OSError):
                if on:
                    self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
                else:
                    self._epoll.unregister(descriptor)

    # time

    async def _watch(self) -> None:
        """Look twice a second for clients that are too slow."""
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            if self._paused:
                self._paused = False
                self._listen(True)
            self.now = now = monotonic()
            for connection in list(self._connections.values()):
                if connection.waits is not Waits.NOTHING:
                    look(connection, now)

    async def _grace(self) -> None:
        await trio.sleep(self.limits.grace_seconds)
        self._empty.set()

    def _settle(self) -> None:
        if self.ending and not any(
            one.state is not State.LINGER for one in self._connections.values()
        ):
            self._empty.set()


@coroutine
def _run(
    request: Coroutine[Any, Any, None], promote: Callable[[], None]
) -> Generator[Any, Any, bool]:
    """Run a request's coroutine in this task; call `promote` where it has to wait. Return whether
    it had to."""
    try:
        trap = request.send(None)
    except StopIteration:
        return False
    promote()
    while True:
        try:
            value = yield trap
        except BaseException as error:
            try:
                trap = request.throw(error)
            except StopIteration:
                return True
        else:
            try:
                trap = request.send(value)
            except StopIteration:
                return True
