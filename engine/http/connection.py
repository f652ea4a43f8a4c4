"""A connection: requests one after the other, each answered before the next is read.

::

    HANDSHAKE ──> IDLE ──> (a head is there) ──> a request is served ──> SENDING ──> IDLE
                    │                                                       └──> LINGER ──> closed
                    └──> closed

Nothing here waits but in a request's own coroutine. `advance` goes as far as it can, and gives back
the coroutine of a request that is there; the server runs it, and calls `advance` again when it has
ended, or when the socket can be read or written.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import trio
from outcome import Error

from engine.http.bodies import PART
from engine.http.message import Failure
from engine.http.outgoing import Broken, Outgoing
from engine.http.serving import refuse, serve
from engine.http.states import State, Waits

if TYPE_CHECKING:
    from engine.http.exchange import Exchange
    from engine.http.hooks import Certificate
    from engine.http.server import Server

_END: Final = b"\r\n\r\n"
_ABORT: Final = struct.pack("ii", 1, 0)
_SKIPPED: Final = 2**20
_PIPELINED: Final = 32
"""Requests of one connection that are answered before others have their turn."""


_HANDSHAKE, _IDLE, _SERVING, _SENDING, _LINGER, _CLOSED = State
# the members by short names: to look one up in an enumeration takes as long as a method call

_NOTHING, _REQUEST, _HEAD, _BODY, _SPACE, _AT_END = Waits


class Connection:
    """One client's socket. All attributes are the server's and its modules' only."""

    __slots__ = (
        *("_buffer", "_skip", "_turns"),
        *("certificate", "ended", "exchange", "fd", "keep", "lingers", "out", "peer"),
        *("readable", "secure", "server", "since", "sock", "state"),
        *("moved", "waited", "waiter", "waits", "writable"),
    )

    def __init__(self, server: Server, sock: socket.socket, peer: str) -> None:
        self.server = server
        self.sock = sock
        self.fd = sock.fileno()
        self.peer = peer
        self.certificate: Certificate | None = None
        self.secure = isinstance(sock, ssl.SSLSocket)
        self.state = _HANDSHAKE if self.secure else _IDLE
        self.out = Outgoing(sock)
        self.exchange: Exchange | None = None
        self.keep = True
        self.lingers = False
        """Whether the client may still be sending when the connection is to end."""
        self.readable = True
        self.writable = True
        self.ended = False
        """Whether the client will send no more than what is there."""
        self._buffer = b""
        self._skip = 0
        """Bytes of a body that nobody read, to be dropped before the next request."""
        self._turns = 0
        self.waiter: trio.lowlevel.Task | None = None
        self.waits = _HEAD if self.secure else _REQUEST
        self.since = monotonic()
        self.waited = 0.0
        self.moved = 0

    # the server's side

    def notice(self, readable: bool, writable: bool, ended: bool) -> bool:
        """Take an event of the socket; return whether `advance` is to be called."""
        self.readable |= readable
        self.writable |= writable
        self.ended |= ended
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            trio.lowlevel.reschedule(waiter)
        return self.state is not _SERVING

    def advance(self) -> Coroutine[Any, Any, None] | None:
        """Do all that needs no waiting; return a request's coroutine where there is one."""
        try:
            while True:
                if self.state is _SENDING:
                    if not self._flush():
                        return None
                    self.answered()
                elif self.state is _IDLE:
                    if self._turns >= _PIPELINED:
                        self._turns = 0
                        self.server.later(self)
                        return None
                    head = self._head()
                    if head is None:
                        return None
                    self._turns += 1
                    self.state = _SERVING
                    self.waits = _NOTHING
                    self.waited, self.moved = 0.0, 0
                    return serve(self, head)
                elif self.state is _LINGER:
                    self._discard()
                    return None
                elif self.state is _HANDSHAKE:
                    if not self._shake_hands():
                        return None
                else:
                    return None
        except Broken as error:
            self.close(why=str(error))
        except Failure as failure:
            refuse(self, failure)
            return self.advance()
        return None

    def close(self, why: str = "", *, abort: bool = False) -> None:
        """Close the socket; with `abort` the client sees that the answer is not whole."""
        if self.state is _CLOSED:
            return
        self.state = _CLOSED
        self.waits = _NOTHING
        if self.out:
            abort = True
            self.out.close()
        if self.exchange is not None:
            self.exchange.outcome = "aborted"
            self.exchange.why = self.exchange.why or why or "the connection ended"
            self.server.ended(self)
        if abort:
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self.server.forget(self)
        self.sock.close()
        if self.waiter is not None:
            waiter, self.waiter = self.waiter, None
            trio.lowlevel.reschedule(waiter, Error(Failure(408, why or "the connection ended")))

    def answered(self) -> None:
        """Go on after an answer that was sent whole."""
        if self.exchange is not None:
            self.server.ended(self)
        if self.keep and not self.server.ending:
            self.state = _IDLE
            self.waits = _REQUEST
            self.since = self.server.now
        elif self.lingers and not self.ended and not self.secure:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
            self.state = _LINGER
            self._wait_for(_AT_END)
        else:
            self.close()

    # a request's side

    def take(self, most: int) -> bytes:
        """Return bytes that are already here, at most `most`."""
        buffer = self._buffer
        if len(buffer) <= most:
            self._buffer = b""
            return buffer
        self._buffer = buffer[most:]
        return buffer[:most]

    def give_back(self, data: bytes) -> None:
        """Put bytes before those that are here."""
        self._buffer = data + self._buffer

    @property
    def here(self) -> int:
        """Bytes that are here and not taken."""
        return len(self._buffer)

    def skip(self, size: int) -> None:
        """Drop so many bytes before the next request."""
        self._skip = size

    async def receive_some(self, most: int) -> bytes:
        """Return bytes from the socket, none where the client will send no more.

        Raises Failure(408) where it is too slow, Failure(400) where the connection broke.
        """
        while True:
            try:
                data = self._receive(most)
            except Broken as error:
                self.keep = False
                raise Failure(400, f"the connection broke: {error}") from None
            if data is not None:
                self.moved += len(data)
                return data
            self._acknowledge()
            await self._wait(_BODY)

    async def send_now(self, data: bytes) -> None:
        """Send bytes before anything else that may come. Raises Broken."""
        self.out.add(data)
        await self.drain()

    async def drain(self) -> None:
        """Wait until all that is queued is sent. Raises Broken."""
        while self.out:
            before = self.out.sent
            if not self.out.send():
                self.writable = False
                self.moved += self.out.sent - before
                await self._wait(_SPACE)
                if self.state is _CLOSED:
                    raise Broken("the connection ended")
            elif self.out:
                await trio.lowlevel.checkpoint()

    async def _wait(self, waits: Waits) -> None:
        """Wait for an event of the socket."""
        self.waits = waits
        self.since = monotonic()
        self.waiter = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self.waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        try:
            await trio.lowlevel.wait_task_rescheduled(abort)
        finally:
            self.waits = _NOTHING
            self.waited += monotonic() - self.since

    def send_small(self, data: bytes) -> None:
        """Send an answer in one piece; what the socket does not take is queued."""
        if not self.out.send_first(data):
            self.writable = False

    def served(self) -> None:
        """Send what is queued, once the request's coroutine is at its end."""
        if self.state is _CLOSED:
            self.out.close()
        elif self.out:
            self.state = _SENDING
        else:
            self.answered()

    # inside

    def _wait_for(self, waits: Waits) -> None:
        if self.waits is not waits:
            self.waits = waits
            self.since = self.server.now
            self.waited, self.moved = 0.0, 0

    def _flush(self) -> bool:
        """Send; return whether all is sent."""
        before = self.out.sent
        took = self.out.send()
        if not self.out:
            return True
        self._wait_for(_SPACE)
        self.moved += self.out.sent - before
        if took:
            self.server.later(self)
        else:
            self.writable = False
        return False

    def _head(self) -> bytes | None:
        """Return the next request's head, None while it is not whole. Raises Failure, Broken."""
        buffer = self._buffer
        limit = self.server.limits.head_bytes
        searched = 0
        while True:
            if self._skip and buffer:
                dropped = min(self._skip, len(buffer))
                self._skip -= dropped
                buffer = buffer[dropped:]
            if buffer[:1] == b"\r" and buffer[:2] == b"\r\n":
                buffer = buffer[2:]  # an empty line before a request
                continue
            end = buffer.find(_END, searched)
            if 0 <= end <= limit:
                self._buffer = buffer[end + 4 :]
                return buffer[: end + 4]
            if buffer:
                self._early(buffer, limit)
                searched = max(0, len(buffer) - 3)
            data = self._receive(PART)
            if not data:
                self._buffer = buffer
                if data is None:
                    if buffer or self._skip:
                        self._acknowledge()
                        self._wait_for(_HEAD)
                    elif self.waits is _HEAD:  # the rest of a body has come
                        self._wait_for(_REQUEST)
                    return None
                if buffer:
                    raise Failure(400, "the client stopped before the end of the head")
                self.close()
                return None
            buffer = buffer + data if buffer else data

    def _early(self, buffer: bytes, limit: int) -> None:
        """Refuse a head that is not whole, and will not be one. Raises Failure."""
        if not 0x41 <= buffer[0] <= 0x5A and buffer != b"\r":
            raise Failure(400, "that is no HTTP request")
        line = buffer.find(b"\n")
        if line < 0:
            if len(buffer) > self.server.limits.target_bytes + 64:
                raise Failure(414, "the request's line is too long")
        elif buffer.count(b"\n") != buffer.count(b"\r\n"):
            raise Failure(400, "a line of the head does not end with CR LF")
        if len(buffer) > limit:
            raise Failure(431, f"the head is more than {limit} bytes")

    def _receive(self, most: int) -> bytes | None:
        """Return what there is, None where there is nothing yet. Raises Broken."""
        if not self.readable:
            return None
        try:
            data = self.sock.recv(most)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.readable = self.ended
            return None
        except ssl.SSLError as error:
            if error.args[0] in (ssl.SSL_ERROR_ZERO_RETURN, ssl.SSL_ERROR_EOF):
                return b""
            raise Broken(str(error)) from None
        except OSError as error:
            raise Broken(error.strerror or str(error)) from None
        if len(data) < most and not self.secure and not self.ended:
            self.readable = False
        return data

    def _acknowledge(self) -> None:
        """Let the client send on at once: some send head and body apart, and wait in between."""
        if not self.secure and self.peer != "unix":
            with contextlib.suppress(OSError):
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _discard(self) -> None:
        """Drop what a client still sends that was refused."""
        try:
            while data := self._receive(PART):
                self._skip += len(data)
                if self._skip > 64 * _SKIPPED:
                    break
            else:
                if data is None:
                    return
        except Broken:
            pass
        self.close()

    def _shake_hands(self) -> bool:
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            self.readable = self.ended
            return False
        except OSError as error:
            raise Broken(str(error)) from None
        self.certificate = self.sock.getpeercert() or None
        self.readable = True
        self.state = _IDLE
        self.waits = _REQUEST
        self.since = self.server.now
        return True
