"""Replies: ranges, conditions and encodings, over a server in this process."""

from __future__ import annotations

import pytest
import zstandard

from tests.engine.http.wire import BLOB, GET, LARGE, Serve


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        (b"bytes=0-0", 206, 0, 0),
        (b"bytes=5-", 206, 5, LARGE - 1),
        (b"bytes=-5", 206, LARGE - 5, LARGE - 1),
        (b"bytes=7-99999999999", 206, 7, LARGE - 1),
        (b"bytes=1-2,5-6", 200, 0, LARGE - 1),
        (b"bytes=9-3", 200, 0, LARGE - 1),
        (b"lines=1-2", 200, 0, LARGE - 1),
        (b"bytes=%d-" % LARGE, 416, 0, -1),
        (b"bytes=-0", 416, 0, -1),
    ],
)
async def test_ranges(serve: Serve, asked: bytes, status: int, first: int, last: int) -> None:
    more = b"range: %s\r\naccept-encoding: zstd\r\n" % asked
    async with serve() as running, running.peer() as peer:
        found, headers, content = await peer.ask(GET % (b"/large", more))
        assert (found, content) == (status, running.echo.file.read_bytes()[first : last + 1])
        assert "content-encoding" not in headers
        told = {206: f"bytes {first}-{last}/{LARGE}", 416: f"bytes */{LARGE}"}.get(status)
        assert headers.get("content-range") == told


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b'if-none-match: "d1"', 304),
        (b'if-none-match: "x", W/"d1"', 304),
        (b"if-none-match: *", 304),
        (b'if-none-match: "d1-zstd"', 304),
        (b'if-none-match: "x"', 200),
        (b'if-match: "x"', 412),
        (b'if-match: "x", "d1"', 200),
        (b"if-match: *", 200),
        (b'range: bytes=0-9\r\nif-range: "d1"', 206),
        (b'range: bytes=0-9\r\nif-range: "x"', 200),
        (b"range: bytes=0-9\r\nif-range: Sat, 21 Nov 2026 17:01:11 GMT", 200),
    ],
)
async def test_conditions(serve: Serve, header: bytes, status: int) -> None:
    async with serve() as running, running.peer() as peer:
        found, headers, content = await peer.ask(GET % (b"/blob", header + b"\r\n"))
        assert found == status
        assert content == {200: BLOB, 206: BLOB[:10]}.get(status, b"")
        assert headers["etag"] == '"d1"'
        assert (await peer.ask(GET % (b"/blob", b"")))[2] == BLOB


@pytest.mark.parametrize(
    ("path", "accepted", "packed"),
    [
        (b"/zeros", b"gzip, zstd", True),
        (b"/zeros", b"zstd;q=0", False),
        (b"/zeros", b"gzip", False),
        (b"/parts", b"zstd", False),
        (b"/large", b"zstd", False),
    ],
)
async def test_zstd_where_it_is_wanted(
    serve: Serve, path: bytes, accepted: bytes, packed: bool
) -> None:
    async with serve() as running, running.peer() as peer:
        plain = (await peer.ask(GET % (path, b"")))[2]
        _, headers, content = await peer.ask(GET % (path, b"accept-encoding: %s\r\n" % accepted))
        assert (headers.get("content-encoding") == "zstd") == packed
        if packed:
            assert headers["vary"] == "accept-encoding"
            assert headers["etag"] == '"d3-zstd"'
            content = zstandard.ZstdDecompressor().decompress(content)
        assert content == plain


async def test_a_large_file_is_compressed_as_it_goes(serve: Serve) -> None:
    async with serve() as running, running.peer() as peer:
        data = b"some words " * (LARGE // 11) + b"x" * (LARGE % 11)
        running.echo.file.write_bytes(data)
        _, headers, content = await peer.ask(GET % (b"/large", b"accept-encoding: zstd\r\n"))
        assert headers["content-encoding"] == "zstd"
        assert len(content) < len(data) / 50
        assert zstandard.ZstdDecompressor().decompressobj().decompress(content) == data
