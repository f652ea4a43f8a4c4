"""Heads, targets and chunks: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.http.chunks import Chunks
from engine.http.head import CHUNKED, read_head
from engine.http.message import Failure
from engine.http.targets import read_target


def head(*lines: str, first: str = "GET / HTTP/1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (first, *lines, "")).encode("latin-1")


def test_what_a_head_says() -> None:
    found = read_head(head("Host: a:1", "X-A: 1", "x-a:  2 ", "Content-Length: 7"), 10)
    assert (found.method, found.target) == ("GET", b"/")
    assert (found.length, found.modern, found.keep) == (7, True, True)
    assert found.headers == {"host": "a:1", "x-a": "1, 2", "content-length": "7"}
    assert read_head(head("Host: a", "Transfer-Encoding: Chunked"), 10).length == CHUNKED
    assert not read_head(head("Host: a", "Connection: x, Close"), 10).keep
    assert not read_head(head(first="GET / HTTP/1.0"), 10).keep
    assert read_head(head("Connection: Keep-Alive", first="GET / HTTP/1.0"), 10).keep


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (head(), 400),
        (head("Host: a", "Host: a"), 400),
        (head("Host: a b"), 400),
        (head("Host: a/b"), 400),
        (head("Host: a", "Content-Length: 1", "Content-Length: 1"), 400),
        (head("Host: a", "Content-Length: 1, 1"), 400),
        (head("Host: a", "Content-Length: +1"), 400),
        (head("Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"), 400),
        (head("Host: a", "Transfer-Encoding: gzip, chunked"), 501),
        (head("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (head("Transfer-Encoding: chunked", first="GET / HTTP/1.0"), 400),
        (head("Host: a", "X: 1", " folded"), 400),
        (head("Host: a", "X : 1"), 400),
        (head("Host: a", "X: \x00"), 400),
        (head("Host: a", "Authorization: a", "authorization: b"), 400),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        (head("Host: a", first="GET /"), 400),
        (head("Host: a", first="GET /a b HTTP/1.1"), 400),
        (head("Host: a", first="BREW / HTTP/1.1"), 501),
        (head("Host: a", first="CONNECT a:1 HTTP/1.1"), 405),
        (head("Host: a", first="GET / HTTP/2.0"), 505),
        (head("Host: a", *(f"X{n}: 1" for n in range(20))), 431),
    ],
)
def test_heads_that_are_refused(data: bytes, status: int) -> None:
    with pytest.raises(Failure) as caught:
        read_head(data, 10)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("target", "path", "space"),
    [
        (b"/", "/", None),
        (b"/a/b", "/a/b", None),
        (b"/a/b/", "/a/b/", None),
        (b"//a///b", "/a/b", None),
        (b"/a/./b/../c", "/a/c", None),
        (b"/a/b/..", "/a/", None),
        (b"/%61%2Fb", "/a/b", None),
        (b"/a%2e%2E/b", "/a../b", None),
        (b"/%2e%2e%2fa/..", None, None),
        (b"/../a", None, None),
        (b"/a/%2e%2e/../b", None, None),
        (b"/%C3%A4", "/ä", None),
        (b"/%ff", None, None),
        (b"/%0", None, None),
        (b"/a%00", None, None),
        (b"/a#b", None, None),
        (b"a", None, None),
        (b"*", None, None),
        (b"/ns/team/a", "/a", "team"),
        (b"/ns/team", "/", "team"),
        (b"//ns//team//a/", "/a/", "team"),
        (b"/ns/.x/a", None, None),
        (b"/ns/%20/a", None, None),
        (b"/nsx/team/a", "/nsx/team/a", None),
        (b"http://h/a", "/a", None),
        (b"http://other/a", None, None),
    ],
)
def test_targets(target: bytes, path: str | None, space: str | None) -> None:
    if path is None:
        with pytest.raises(Failure) as caught:
            read_target(target, "h")
        assert caught.value.status == 400
        return
    found = read_target(target, "h")
    assert (found.path, found.name_space) == (path, space)
    assert found.base == (f"/ns/{space}" if space else "")


def test_queries() -> None:
    assert read_target(b"/a?b=c&b=%20&d", "h").query == {"b": ["c", " "], "d": [""]}
    for query in (b"a=%", b"a=%ff", b"&".join(b"a=1" for _ in range(200))):
        with pytest.raises(Failure):
            read_target(b"/a?" + query, "h")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_no_path_leads_out(text: str) -> None:
    try:
        path = read_target(b"/" + text.encode(), "h").path
    except Failure:
        return
    parts = path.split("/")
    assert parts[0] == ""
    assert not {"..", "."} & set(parts)
    assert "" not in parts[1:-1]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=9), st.data())
def test_chunks_come_out_as_they_went_in(
    parts: list[bytes], behind: bytes, data: st.DataObject
) -> None:
    wire = b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts)
    wire += b"0\r\nx: y\r\n\r\n" + behind
    chunks = Chunks()
    found = b""
    while wire and not chunks.done:
        step = data.draw(st.integers(1, len(wire)))
        found += chunks.feed(wire[:step])
        wire = wire[step:]
    assert chunks.done
    assert found == b"".join(parts)
    assert chunks.behind() + wire == behind


@pytest.mark.parametrize(
    "wire",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1\n",
        b"\r\n",
        b"1 1\r\n",
        b"11111111111111111\r\n",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\r\r\n",
        b"0\r\nno trailer\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\n" + b"a: b\r\n" * 100,
    ],
)
def test_chunks_that_are_none(wire: bytes) -> None:
    with pytest.raises(Failure) as caught:
        Chunks().feed(wire)
    assert caught.value.status == 400


@given(st.binary(max_size=60))
def test_any_bytes_are_chunks_or_refused(data: bytes) -> None:
    whole, single = Chunks(), Chunks()
    try:
        found = whole.feed(data)
    except Failure:
        with pytest.raises(Failure):
            one_by_one(single, data)
        return
    assert one_by_one(single, data) == found


def one_by_one(chunks: Chunks, data: bytes) -> bytes:
    return b"".join(chunks.feed(bytes([byte])) for byte in data if not chunks.done)
