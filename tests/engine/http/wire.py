"""A server in this process that answers in all the ways that there are, and a client that says
exactly what it is told to say."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from engine.http.message import MISS, Failure, Request, Response, Scope, Stored
from engine.http.server import Server

GET = b"GET %s HTTP/1.1\r\nhost: x\r\n%s\r\n"
BLOB = bytes(range(256)) * 4
LARGE = 3 * 2**20 + 17


class Echo:
    """Answers in all the ways that there are."""

    name = "echo"

    def __init__(self, place: Path) -> None:
        self.file = place / "large"
        self.file.write_bytes(os.urandom(LARGE))
        self.taken: list[bytes] = []

    def matches(self, request: Request) -> bool:
        return True

    def scope(self, request: Request) -> Scope:
        return Scope.READ

    async def handle(self, request: Request, service: Any) -> Response:
        match request.path:
            case "/blob":
                return Response(200, Stored("d1", len(BLOB), BLOB), {}, "hit")
            case "/large":
                handle = os.open(self.file, os.O_RDONLY)
                return Response(200, Stored("d2", LARGE, None, handle), {}, "hit")
            case "/zeros":
                return Response(200, Stored("d3", 100_000, b"\0" * 100_000))
            case "/parts":
                return Response(200, self._parts(), {"content-type": "text/x"})
            case "/breaks":
                return Response(200, self._breaks())
            case "/waits":
                await trio.sleep(0.01)
                return Response(200, b"waited")
            case "/ignores":
                return Response(200, b"ignored")
            case "/takes":
                data = await request.body.read(10_000_000)
                self.taken.append(data)
                return Response(200, str(len(data)).encode())
        return self._no(request.path)

    def _no(self, path: str) -> Response:
        match path:
            case "/fails":
                raise Failure(409, "no", "hint", {"x-more": "1"})
            case "/refuses":
                raise Failure(403, "not you")
            case "/bug":
                raise RuntimeError("a bug")
        return MISS

    async def _parts(self) -> AsyncIterator[bytes]:
        yield b"one"
        await trio.lowlevel.checkpoint()
        yield b""
        yield b"x" * 300_000

    async def _breaks(self) -> AsyncIterator[bytes]:
        yield b"begun"
        raise OSError("it broke")


class Peer:
    """A client that says exactly what it is told to say."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.rest = b""

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send and return an answer: status, headers, content."""
        await self.stream.send_all(data)
        return await self.answer()

    async def answer(self, *, silent: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer; `silent` for one without content."""
        head = await self.until(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        status = int(first.split()[1])
        if silent or status in (100, 204, 304):
            return status, headers, b""
        if "content-length" in headers:
            return status, headers, await self.exactly(int(headers["content-length"]))
        content = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                content += await self.exactly(size)
                assert await self.exactly(2) == b"\r\n"
            assert await self.exactly(2) == b"\r\n"
        else:
            content = await self.all()
        return status, headers, content

    async def until(self, end: bytes) -> bytes:
        while end not in self.rest:
            self.rest += await self._more()
        found, _, self.rest = self.rest.partition(end)
        return found

    async def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self.rest += await self._more()
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    async def all(self) -> bytes:
        """Return what comes until the end."""
        while data := await self.stream.receive_some():
            self.rest += data
        found, self.rest = self.rest, b""
        return found

    async def _more(self) -> bytes:
        data = await self.stream.receive_some()
        assert data, f"it ended after {self.rest!r}"
        return data


class Running:
    """A server under test."""

    def __init__(self, server: Server, port: int, echo: Echo) -> None:
        self.server = server
        self.port = port
        self.echo = echo

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        with trio.fail_after(20):
            async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
                yield Peer(stream)


Serve = Callable[..., AbstractAsyncContextManager[Running]]
