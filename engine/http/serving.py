"""Serving: from a request's head to its answer."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator
from time import perf_counter
from typing import TYPE_CHECKING, Final

import trio

from engine.http.bodies import Empty, Incoming, too_large
from engine.http.encodings import decoded, encoded
from engine.http.exchange import Exchange
from engine.http.head import CHUNKED, Head, read_head
from engine.http.message import DEFAULT_NAME_SPACE, Failure, Request, Response, Scope, Stored
from engine.http.outgoing import Broken, File
from engine.http.replies import Reply, reply_to, told
from engine.http.router import Adapter, route
from engine.http.targets import read_target

if TYPE_CHECKING:
    from engine.http.connection import Connection

_SKIPPED: Final = 2**20
"""Bytes of a body that nobody wants which are taken for the sake of the connection."""

_JOINED: Final = 64 * 1024
"""Bytes of content that go out in one piece with the head."""

_EMPTY: Final = Empty()
_ALLOW: Final = {"allow": "GET, HEAD, PUT, POST, DELETE, OPTIONS, PROPFIND, MKCOL"}
_BUSY: Final = {"retry-after": "1"}


async def serve(connection: Connection, data: bytes) -> None:
    """Answer the request whose head is `data`; its answer is sent, or queued on the connection."""
    server = connection.server
    exchange = Exchange(perf_counter())
    connection.exchange = exchange
    server.begun(exchange)
    head: Head | None = None
    body: Incoming | Empty = _EMPTY
    try:
        head = read_head(data, server.limits.headers)
        exchange.method = head.method
        if head.length:
            expecting = head.modern and "expect" in head.headers
            body = Incoming(connection, head.length, server.limits.body_bytes, expecting)
        request, adapter = _admit(connection, head, body, exchange)
        response = await adapter.handle(request, server.service)
    except Failure as failure:
        response = told(failure)
        exchange.why = failure.message
    except Broken as error:
        connection.close(why=str(error))
        return
    except Exception as error:
        response = _broken(connection, head, exchange, error)
    try:
        await _answer(connection, head, body, response)
    except Broken as error:
        connection.close(why=str(error))
    except Failure as failure:
        connection.close(why=failure.message)
    except Exception as error:
        server.failed(error)
        connection.close(why=str(error), abort=True)
    exchange.received = body.received
    connection.served()


def refuse(connection: Connection, failure: Failure) -> None:
    """Answer what is no request, and end the connection."""
    exchange = Exchange(perf_counter())
    connection.exchange = exchange
    connection.server.begun(exchange)
    exchange.why = failure.message
    try:
        _queue(connection, None, _EMPTY, told(failure))
        connection.served()
    except Broken as error:
        connection.close(why=str(error))


def _admit(
    connection: Connection, head: Head, body: Incoming | Empty, exchange: Exchange
) -> tuple[Request, Adapter]:
    """Return the request and who answers it, where it may be asked. Raises Failure."""
    server = connection.server
    headers = head.headers
    if len(head.target) > server.limits.target_bytes:
        raise Failure(414, "the request's line is too long")
    if head.target == b"*" and head.method == "OPTIONS":
        raise Failure(405, "ask for the options of a path", headers=_ALLOW)
    known = server.known.get((head.method, head.target))
    if known is not None:
        target = known[0]
    else:
        target = read_target(head.target, headers.get("host", ""))
    exchange.path = target.base + target.path
    identity = server.gate.identify(headers, connection.certificate)
    exchange.identity = identity.name
    name_space = target.name_space
    if name_space is None:
        only = identity.name_spaces
        name_space = next(iter(only)) if len(only) == 1 else DEFAULT_NAME_SPACE
    request = Request(
        head.method,
        target.path,
        body,
        target.query,
        headers,
        name_space,
        identity,
        connection.peer,
        target.base,
    )
    if known is not None:
        adapter = known[1]
    else:
        adapter = route(server.adapters, request)
        if head.method != "PUT":  # what is uploaded has a new name each time
            server.remember(head.method, head.target, target, adapter)
    exchange.adapter = adapter.name
    exchange.name_space = name_space
    need = adapter.scope(request)
    if need is not Scope.NONE:
        server.gate.allow(identity, name_space, need, connection.peer)
    if server.requests > server.limits.requests:
        server.counter.count("refused", "requests")
        raise Failure(503, "too many requests are under way", "ask again", _BUSY)
    if head.length:
        _admit_body(connection, head, exchange)
        request.body = decoded(body, headers, server.limits.body_bytes)
    return request, adapter


def _admit_body(connection: Connection, head: Head, exchange: Exchange) -> None:
    server = connection.server
    expect = head.headers.get("expect")
    if expect is not None and expect.lower() != "100-continue":
        raise Failure(417, "the only expectation that is known is 100-continue")
    if head.length > server.limits.body_bytes:
        raise too_large(server.limits.body_bytes)
    if server.counter.uploads >= server.limits.uploads:
        server.counter.count("refused", "uploads")
        raise Failure(503, "too many uploads are under way", "send it again", _BUSY)
    if server.room is not None:
        server.room(max(0, head.length))
    exchange.uploading = True
    server.counter.uploads += 1


def _broken(
    connection: Connection, head: Head | None, exchange: Exchange, error: Exception
) -> Response:
    """Return the answer where something is wrong inside: what is read is as if it were not there,
    as clients end builds over anything else."""
    connection.server.failed(error)
    exchange.outcome = "error"
    exchange.why = "".join(traceback.format_exception_only(error)).strip()
    if head is not None and head.method in ("GET", "HEAD"):
        return told(Failure(404, "it cannot be read now", "the server's log says why"))
    return told(Failure(500, "something is wrong in the server", "its log says what"))


async def _answer(
    connection: Connection, head: Head | None, body: Incoming | Empty, response: Response
) -> None:
    """Send a response, or queue it."""
    content = response.content
    if head is not None and "accept-encoding" in head.headers and response.status == 200:
        response = await encoded(response, head.method, head.headers, head.modern)
        content = response.content
    if isinstance(content, bytes | Stored):
        _queue(connection, head, body, response)
        return
    try:
        _queue(connection, head, body, response)
        if head is not None and head.method != "HEAD":
            await _stream(connection, content, chunked=head.modern)
    finally:
        close = getattr(content, "aclose", None)
        if close is not None:
            with trio.CancelScope(shield=True):
                await close()


async def _stream(connection: Connection, content: AsyncIterator[bytes], chunked: bool) -> None:
    """Send what comes, no faster than the client takes it."""
    async for part in content:
        if not part:
            continue
        if chunked:
            connection.out.add(f"{len(part):x}\r\n".encode())
            connection.out.add(part)
            connection.out.add(b"\r\n")
        else:
            connection.out.add(part)
        await connection.drain()
    if chunked:
        connection.out.add(b"0\r\n\r\n")


def _queue(
    connection: Connection, head: Head | None, body: Incoming | Empty, response: Response
) -> None:
    """Queue the head of an answer and what content is there; small ones are sent at once."""
    server = connection.server
    exchange = connection.exchange
    if exchange is None:  # it was closed meanwhile
        Reply(response).drop()
        return
    modern, silent = True, False
    keep = connection.keep and not server.ending
    if head is None:
        keep = False
        connection.lingers = True
        method, headers = "", _NO_HEADERS
    else:
        modern, method, headers = head.modern, head.method, head.headers
        silent = method == "HEAD"
        keep = keep and head.keep
        if not body.done:
            keep = _keep_after(connection, body, response.status) and keep
    reply = reply_to(method, headers, response)
    if keep and reply.length < 0 and not modern and not silent:
        keep = False
    connection.keep = keep
    exchange.status = reply.status
    exchange.outcome = exchange.outcome or response.outcome
    if silent or reply.status in (204, 304):
        length = reply.length
        reply.drop()
        reply.length = length
    out = connection.out
    first = reply.head(server.clock.line(), keep, modern, silent)
    exchange.head_size = out.sent + len(first)
    content = reply.content
    if isinstance(content, bytes):
        _send(connection, first, content)
    elif isinstance(content, Stored):
        if content.data is not None:
            data = content.data
            if reply.length != len(data):
                data = data[reply.start : reply.start + reply.length]
            _send(connection, first, data)
        else:
            out.add(first)
            out.add_file(File(content.descriptor, reply.start, reply.length))
    else:
        out.add(first)


_NO_HEADERS: Final[dict[str, str]] = {}


def _send(connection: Connection, first: bytes, content: bytes) -> None:
    """Send what is small at once, and queue what the socket does not take."""
    if len(content) <= _JOINED:
        connection.send_small(first + content if content else first)
    else:
        connection.out.add(first)
        connection.out.add(content)


def _keep_after(connection: Connection, body: Incoming | Empty, status: int) -> bool:
    """Say whether the connection is of use after a body that was not read to its end: where it is
    all here, or short and was not refused."""
    left = body.left
    here = left <= connection.here or (left <= _SKIPPED and status < 400)
    if left != CHUNKED and not body.expecting and here:
        connection.skip(left)
        return True
    connection.lingers = True
    return False
