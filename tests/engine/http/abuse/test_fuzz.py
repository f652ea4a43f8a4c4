"""Noise, and requests that are nearly right: each gets a proper answer, or the connection ends.

`BN_FUZZ=10000` says how many of each.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.engine.http.abuse.live import Answer, Live

DATA = b"some bytes"
KEY = hashlib.sha256(DATA).hexdigest().encode()

PARTS = [
    *(b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PROPFIND", b"MKCOL", b"MOVE"),
    *(b" ", b"  ", b"\t", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b":", b": ", b",", b";", b"/"),
    *(b"/cas/" + KEY, b"/ac/" + KEY, b"/x/a", b"/ns/a/x", b"/health", b"/metrics", b"*", b"%2f"),
    *(b"/bn/v1/blobs:get", b"/bn/v1/blobs:put", b"/bn/v1/blobs:missing", b"/bn/v1/actions:get"),
    *(b"/bn/v1/openapi.json", b"/v8/artifacts/status", b"/v1/cache/1", b"/nix-cache-info", b"?a=b"),
    *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"host: x\r\n", b"content-length: 10\r\n"),
    *(b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\n", b"connection: close\r\n"),
    *(b"connection: upgrade\r\nupgrade: h2c\r\n", b"content-encoding: zstd\r\n", b"depth: 1\r\n"),
    *(b"accept-encoding: zstd\r\n", b"range: bytes=1-3\r\n", b'if-none-match: "a"\r\n'),
    *(b"if-none-match: *\r\n", b"if-range: x\r\n", b"authorization: Bearer x\r\n"),
    *(
        b"authorization: Basic !\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"a" * 10,
        DATA,
        b'{"digests":',
    ),
    *(b'["' + KEY + b'"]}', KEY + b" 10\n" + DATA, b"\xff\xfe", "ä".encode(), b"1", b"f" * 9),
]

REQUESTS = [
    b"GET /cas/" + KEY + b" HTTP/1.1\r\nhost: x\r\naccept-encoding: zstd\r\n\r\n",
    b"GET /cas/" + KEY + b" HTTP/1.1\r\nhost: x\r\nrange: bytes=1-3,5-\r\nif-range: a\r\n\r\n",
    b"PUT /cas/" + KEY + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n" + DATA,
    b"PUT /x/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\na\r\n"
    + DATA
    + b"\r\n0\r\n\r\n",
    b"PUT /x/b HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\r\n" + DATA,
    b"POST /bn/v1/blobs:missing HTTP/1.1\r\nhost: x\r\ncontent-length: 81\r\n\r\n"
    b'{"digests": ["' + KEY + b'"]}',
    b"POST /bn/v1/blobs:put HTTP/1.1\r\nhost: x\r\ncontent-length: 78\r\n\r\n"
    + KEY
    + b" 10\n"
    + DATA,
    b"POST /bn/v1/actions:put HTTP/1.1\r\nhost: x\r\ncontent-length: 44\r\n\r\n%s"
    % b'{"actions": [{"result": {}, "signatures":1}]',
    b"PROPFIND /x/ HTTP/1.1\r\nhost: x\r\ndepth: 1\r\ncontent-length: 45\r\n\r\n%s"
    % b'<propfind xmlns="DAV:"><allprop/></propfind>\n',
    b"POST /v8/artifacts HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n%s"
    % b'{"hashes": ["00ff"]}',
]

RUNS = settings(max_examples=int(os.environ.get("BN_FUZZ", "150")))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return requests of which some bytes were changed, doubled, left out or moved."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    data = bytearray(b"".join(rng.choices(REQUESTS, k=rng.randint(1, 3))))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                data[at:at] = rng.choice(PARTS)
            case 2:
                del data[at : at + rng.randint(1, 30)]
            case 3:
                data[at:at] = data[at : at + rng.randint(1, 60)]
            case 4:
                data[at:at] = bytes([rng.choice(b"\r\n\0 :\t,;%/.0\xff")]) * rng.randint(1, 5)
            case _ if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
        if not data:
            break
    return bytes(data)


def told(live: Live, data: bytes) -> list[Answer]:
    """Send it and nothing more; return the answers, which are all to be proper ones."""
    with live.client() as client:
        if client.send(data):
            with contextlib.suppress(OSError):
                client.sock.shutdown(1)
        answers = client.raw_answers()
    for answer in answers:
        assert answer.status in STATUSES, answer
        if answer.status >= 400:
            assert answer.status != 500, answer
    return answers


STATUSES = {
    *(200, 201, 204, 206, 207, 304),
    *(400, 401, 403, 404, 405, 408, 409, 411, 412, 413, 414, 415, 416, 417, 422, 429, 431),
    *(501, 505),
}


@RUNS
@given(st.binary(max_size=2000))
@example(b"")
@example(b"\r\n" * 1000)
@example(bytes(range(256)) * 40)
def test_noise(live: Live, data: bytes) -> None:
    for answer in told(live, data):
        assert answer.status >= 400


@RUNS
@given(st.lists(st.sampled_from(PARTS), max_size=30).map(b"".join))
def test_parts_of_requests_in_any_order(live: Live, data: bytes) -> None:
    told(live, data)


@RUNS
@given(mutated())
def test_requests_that_are_nearly_right(live: Live, data: bytes) -> None:
    told(live, data)


@RUNS
@given(st.sampled_from(REQUESTS), st.data())
def test_requests_in_pieces_are_answered_as_whole_ones(
    live: Live, request_: bytes, draw: st.DataObject
) -> None:
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(request_)), max_size=6)))
    with live.client() as client:
        for start, end in zip([0, *cuts], [*cuts, len(request_)], strict=True):
            client.send(request_[start:end])
        first = client.answer()
    with live.client() as client:
        client.send(request_)
        second = client.answer()
    assert first is not None
    assert second is not None
    assert first.status == second.status


@RUNS
@given(
    st.sampled_from(
        ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND", "MKCOL", "COPY"]
    ),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=80),
    st.binary(max_size=300),
    st.sampled_from(["", "zstd", "gzip"]),
)
def test_any_path_and_any_body(
    live: Live, method: str, path: str, body: bytes, coding: str
) -> None:
    lines = f"{method} /{path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    if coding:
        lines += f"content-encoding: {coding}\r\n"
    with live.client() as client:
        client.send(f"{lines}\r\n".encode() + body)
        answer = client.answer(method)
    assert answer is not None
    assert answer.status in STATUSES


def test_after_all_that_the_server_had_no_trouble(live: Live) -> None:
    """It runs after the others of this module, on the same server."""
    live.works()
    assert live.metric('bn_failures_total{what="handler"}') == 0
    failures = [
        line
        for line in live.ask("GET", "/metrics").text.splitlines()
        if line.startswith("bn_failures_total{")
    ]
    assert failures == []
    assert live.metric("bn_connections") == 1
