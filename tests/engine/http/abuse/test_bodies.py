"""Bodies that are not what they say: nothing of them is stored, and the client is told."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib

import pytest
import zstandard
from blake3 import blake3

from tests.engine.http.abuse.live import Live

LIMIT = 8_000_000
"""Of a body, as the fixture has it."""


def cas(data: bytes) -> str:
    return f"/cas/{hashlib.sha256(data).hexdigest()}"


def blob(data: bytes) -> str:
    return f"/bn/v1/blobs/{blake3(data).hexdigest()}"


KEYED = {"cas": cas, "bn": blob}


def quiet(live: Live) -> None:
    """Wait until no upload is under way, and check that nothing is left of those that were."""
    live.settles("uploads hang", lambda: live.metric("bn_uploads") == 0)
    live.settles("temporaries are left", lambda: not live.temporaries())


@pytest.mark.parametrize("kind", KEYED)
@pytest.mark.parametrize("size", [1, 4096, 200_000, 3_000_000])
@pytest.mark.parametrize("how", ["flipped", "shorter", "longer", "empty"])
def test_other_bytes_than_the_key_says(live: Live, kind: str, size: int, how: str) -> None:
    data = os.urandom(size)
    path = KEYED[kind](data)
    wrong = {
        "flipped": data[: size // 2] + bytes([data[size // 2] ^ 1]) + data[size // 2 + 1 :],
        "shorter": data[:-1],
        "longer": data + b"!",
        "empty": b"",
    }[how]
    answer = live.ask("PUT", path, wrong)
    assert answer.status == 400
    assert "digest" in answer.text
    assert live.ask("GET", path).status == 404
    quiet(live)


@pytest.mark.parametrize("key", ["0" * 63, "0" * 65, "g" * 64, "A" * 64, "0" * 64 + "x", "..", ""])
def test_keys_that_are_no_digests(live: Live, key: str) -> None:
    for prefix in ("/bn/v1/blobs/", "/bn/v1/actions/", "/bn/v1/realisations/"):
        assert live.ask("PUT", f"{prefix}{key}", b"data").status in (400, 404, 405)
        assert live.ask("GET", f"{prefix}{key}").status in (400, 404, 405)


@pytest.mark.parametrize("size", [10, 300_000, 5_000_000])
@pytest.mark.parametrize("end", ["close", "reset", "half"])
@pytest.mark.parametrize("path", ["/x/stops", "cas"])
def test_an_upload_that_stops_half_way(live: Live, size: int, end: str, path: str) -> None:
    data = os.urandom(size)
    path = cas(data) if path == "cas" else path
    for head in (b"content-length: %d\r\n\r\n" % size, b"transfer-encoding: chunked\r\n\r\n"):
        chunked = head.startswith(b"t")
        with live.client() as client:
            client.send(f"PUT {path} HTTP/1.1\r\nhost: x\r\n".encode() + head)
            client.send((b"%x\r\n" % size if chunked else b"") + data[: size // 2])
            if end == "reset":
                client.reset()
            elif end == "half":
                client.sock.shutdown(1)
                answers = client.answers()
                assert [answer.status for answer in answers] == [400]
                assert "stopped" in answers[0].text
        quiet(live)
        assert live.ask("GET", path).status == 404


def test_chunks_without_an_end_are_not_stored(live: Live) -> None:
    with live.client() as client:
        client.send(b"PUT /x/endless HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(b"5\r\nhello\r\n0\r\n")
        client.sock.shutdown(1)
        assert [answer.status for answer in client.answers()] == [400]
    assert live.ask("GET", "/x/endless").status == 404


@pytest.mark.parametrize("said", [LIMIT + 1, 10**12, 10**17])
def test_a_length_over_the_limit_is_refused_before_it_comes(live: Live, said: int) -> None:
    with live.client() as client:
        client.send(b"PUT /x/large HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % said)
        answers = client.answers()
    assert [answer.status for answer in answers] == [413]
    with live.client() as client:
        client.send(b"PUT /x/large HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n")
        client.send(b"content-length: %d\r\n\r\n" % said)
        data = client.sock.recv(1000)
    assert data.startswith(b"HTTP/1.1 413 "), "it is not told to go on"


def test_chunks_over_the_limit_are_refused(live: Live) -> None:
    before = live.memory()
    part = os.urandom(100_000)
    with live.client() as client:
        client.send(b"PUT /x/large HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(1000):
            if not client.send(b"%x\r\n" % len(part) + part + b"\r\n"):
                break
        answers = client.answers()
    assert [answer.status for answer in answers] in ([413], [])  # it may have been reset
    quiet(live)
    assert live.memory() - before < 32 * 2**20
    assert live.ask("GET", "/x/large").status == 404


BOMBS = {
    "zstd": zstandard.ZstdCompressor(level=19).compress(bytes(200_000_000)),
    "zstd frames": zstandard.ZstdCompressor(level=3).compress(bytes(1_000_000)) * 300,
    "gzip": gzip.compress(bytes(50_000_000)),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(live: Live, bomb: str) -> None:
    data = BOMBS[bomb]
    assert len(data) < 100_000
    before = live.memory()
    answer = live.ask("PUT", f"/x/{bomb[:4]}", data, content_encoding=bomb[:4])
    assert answer.status == 413
    assert live.memory() - before < 32 * 2**20
    quiet(live)
    assert live.ask("GET", f"/x/{bomb[:4]}").status == 404


def test_a_window_that_wants_much_memory_is_refused(live: Live) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = packer.compress(os.urandom(100_000)) + packer.flush()
    before = live.memory()
    assert live.ask("PUT", "/x/window", data, content_encoding="zstd").status == 400
    assert live.memory() - before < 32 * 2**20


def test_a_bomb_within_the_limit_is_stored_as_what_it_is(live: Live) -> None:
    data = bytes(LIMIT - 1)
    packed = zstandard.ZstdCompressor().compress(data)
    assert live.ask("PUT", cas(data), packed, content_encoding="zstd").status == 200
    assert live.ask("GET", cas(data)).body == data


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
@pytest.mark.parametrize("how", ["noise", "cut", "flipped", "more", "empty"])
def test_encoded_bodies_that_are_damaged(live: Live, coding: str, how: str) -> None:
    data = b"".join(b"line %d\n" % number for number in range(5000))
    check = zstandard.ZstdCompressor(write_checksum=True)
    packed = check.compress(data) if coding == "zstd" else gzip.compress(data)
    wrong = {
        "noise": os.urandom(1000),
        "cut": packed[:-3],
        "flipped": packed[:500] + bytes([packed[500] ^ 4]) + packed[501:],
        "more": packed + b"more",
        "empty": b"",
    }[how]
    path = f"/x/{coding}-{how}"
    assert live.ask("PUT", path, wrong, content_encoding=coding).status in (400, 200)
    found = live.ask("GET", path)
    # an empty body is an empty encoding to some clients; everything else is refused
    assert found.status == 404 or (how == "empty" and found.body == b"")


def test_codings_that_are_not_known(live: Live) -> None:
    data = zlib.compress(b"data")
    for coding in ("zstd, gzip", "gzip, gzip", "x" * 5000, "b r", "br;q=1", "\u00e9"):
        assert live.ask("PUT", "/x/coding", data, content_encoding=coding).status == 415
    assert live.ask("GET", "/x/coding").status == 404
    for path in (cas(data), f"/ac/{'0' * 64}", "/v1/cache/1", f"/bn/v1/blobs/{'0' * 64}"):
        assert live.ask("PUT", path, data, content_encoding="br").status == 415
        assert live.ask("GET", path).status == 404


def test_downloads_that_are_given_up(live: Live) -> None:
    data = os.urandom(7_000_000)
    assert live.ask("PUT", cas(data), data).status == 200
    before = [descriptors(live), live.memory()]
    for number in range(100):
        with live.client(receive=4096) as client:
            client.send(f"GET {cas(data)} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            client.sock.recv(10)
            if number % 2:
                client.reset()
    live.settles("connections hang", lambda: live.metric("bn_connections") == 1)
    live.settles("files stay open", lambda: descriptors(live) <= before[0] + 2)
    assert live.memory() - before[1] < 32 * 2**20
    assert live.ask("GET", cas(data)).body == data


def descriptors(live: Live) -> int:
    """Return how many files all processes have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in live.pids())


RANGES = {
    "first": ("bytes=0-0", 206),
    "last": ("bytes=-1", 206),
    "all but": ("bytes=1-", 206),
    "beyond the end": ("bytes=99-99999999", 206),
    "a huge end": ("bytes=99-99999999999999999999", 200),
    "nothing": ("bytes=5000-", 416),
    "nothing of the end": ("bytes=-0", 416),
    "backwards": ("bytes=5-4", 200),
    "another unit": ("lines=1-2", 200),
    "letters": ("bytes=a-b", 200),
    "minus": ("bytes=--1", 200),
    "no unit": ("0-1", 200),
    "huge": ("bytes=" + "9" * 5000 + "-", 416),
    "many": ("bytes=" + ",".join(f"{n}-{n}" for n in range(3000)), 200),
    "many the same": ("bytes=" + ",".join(["0-"] * 3000), 200),
    "many of the end": ("bytes=" + ",".join(["-4000"] * 1500), 200),
    "other digits": ("bytes=\xb2-\xb3", 200),
}


@pytest.mark.parametrize("name", RANGES)
def test_ranges(live: Live, name: str) -> None:
    data = bytes(range(256)) * 16 + b"end"
    assert live.ask("PUT", cas(data), data).status == 200
    text, status = RANGES[name]
    with live.client() as client:
        client.send(f"GET {cas(data)} HTTP/1.1\r\nhost: x\r\nrange: {text}\r\n".encode("latin-1"))
        client.send(b"connection: close\r\n\r\n")
        (answer,) = client.answers()
    assert answer.status in (status, 200 if status == 416 else status), answer.headers
    assert len(answer.body) <= len(data)
    if answer.status == 206:
        assert answer.body in data
        assert answer.headers["content-range"].endswith(f"/{len(data)}")
    elif answer.status == 200:
        assert answer.body == data
