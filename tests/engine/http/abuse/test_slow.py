"""Clients that take their time: each is let go of with a reason, and nobody waits for them."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.http.abuse.live import Client, Live, living

SLOW = {"head_seconds": 1, "stall_seconds": 1, "idle_seconds": 2, "least_rate": 1000}


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with little patience."""
    with living(tmp_path_factory.mktemp("hasty"), limits=SLOW) as server:
        yield server


def dripping(client: Client, data: bytes, ended: threading.Event) -> None:
    """Send a byte now and then, until told to stop or the server has enough."""
    for index in range(len(data)):
        if ended.wait(0.05) or not client.send(data[index : index + 1]):
            return


def dripped(live: Live, first: bytes, rest: bytes) -> int:
    """Send the first at once and the rest byte by byte; return the status that comes, 0 if none."""
    ended = threading.Event()
    with live.client() as client:
        client.send(first)
        thread = threading.Thread(target=dripping, args=(client, rest, ended))
        thread.start()
        try:
            live.works()  # meanwhile
            answer = client.answer()
        finally:
            ended.set()
            thread.join()
        assert client.closed()
    if answer is not None:
        assert answer.headers["connection"] == "close"
        assert answer.body, "it says why"
    return answer.status if answer is not None else 0


def test_a_head_that_drips(hasty: Live) -> None:
    head = b"GET /x/slow HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 10_000
    assert dripped(hasty, b"", head) == 408


def test_a_head_that_stops(hasty: Live) -> None:
    assert dripped(hasty, b"GET /x/slow HTTP/1.1\r\nhos", b"") == 408


def test_a_body_that_drips(hasty: Live) -> None:
    head = b"PUT /x/dripping HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
    assert dripped(hasty, head, bytes(100_000)) == 408
    assert hasty.ask("GET", "/x/dripping").status == 404
    assert hasty.logged("/x/dripping")[0]["why"]


def test_a_body_that_stops(hasty: Live) -> None:
    head = b"PUT /x/stopping HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\n"
    assert dripped(hasty, head + os.urandom(2_000_000), b"") == 408
    assert hasty.ask("GET", "/x/stopping").status == 404
    assert hasty.temporaries() == []


def test_chunks_that_drip(hasty: Live) -> None:
    head = b"PUT /x/chunks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    assert dripped(hasty, head, b"1\r\na\r\n" * 10_000) == 408
    assert hasty.ask("GET", "/x/chunks").status == 404


def test_a_body_of_one_byte_chunks_costs_no_memory(live: Live) -> None:
    before = live.memory()
    with live.client() as client:
        client.send(b"PUT /x/tiny HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        client.send(b"1\r\na\r\n" * 500_000 + b"0\r\n\r\n")
        answer = client.answer()
    assert answer is not None
    assert answer.status == 200
    assert live.ask("GET", "/x/tiny").body == b"a" * 500_000
    assert live.memory() - before < 32 * 2**20


def test_who_says_nothing_is_let_go(hasty: Live) -> None:
    with hasty.client() as client:
        assert client.closed()


def test_who_waits_between_requests_is_let_go_without_a_word(hasty: Live) -> None:
    with hasty.client() as client:
        client.send(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = client.answer()
        assert answer is not None
        assert client.closed()
        assert client.rest == b""


def test_who_does_not_read_is_let_go(hasty: Live) -> None:
    data = os.urandom(30_000_000)
    path = f"/cas/{hashlib.sha256(data).hexdigest()}"
    assert hasty.ask("PUT", path, data).status == 200
    clients = [hasty.client(receive=4096) for _ in range(20)]
    before = hasty.memory()
    for client in clients:
        client.send(b"GET " + path.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    hasty.works()
    assert hasty.memory() - before < 32 * 2**20, "what is not read is not kept in memory"
    hasty.settles("they are still there", lambda: hasty.metric("bn_connections") == 1)
    for client in clients:
        client.close()


def test_who_asks_on_and_on_and_does_not_read_is_held_back(live: Live) -> None:
    data = os.urandom(100_000)
    path = f"/cas/{hashlib.sha256(data).hexdigest()}"
    assert live.ask("PUT", path, data).status == 200
    before = live.memory()
    one = b"GET " + path.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n"
    with live.client(receive=4096) as client:
        client.sock.settimeout(1)
        sent = 0
        try:
            while sent < 50_000:
                client.sock.sendall(one * 100)
                sent += 100
        except TimeoutError:
            pass
        assert sent < 50_000, "5 GB of answers wait somewhere"
        live.works()
        assert live.memory() - before < 32 * 2**20


def test_the_slow_do_not_hold_up_the_end(place: Path) -> None:
    with living(place, limits={"grace_seconds": 1}) as live:
        with live.client() as client, live.client() as idle:
            client.send(b"PUT /x/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
            live.settles("it has not begun", lambda: live.metric("bn_uploads") == 1)
            live.stop()
            assert idle.closed()
        live.start()
        assert live.ask("GET", "/x/a").status == 404


def test_who_is_at_it_may_finish_when_the_server_ends(place: Path) -> None:
    with living(place, limits={"grace_seconds": 20}) as live:
        with live.client() as client:
            client.send(b"PUT /x/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
            live.settles("it has not begun", lambda: live.metric("bn_uploads") == 1)
            ending = threading.Thread(target=live.stop)
            ending.start()
            time.sleep(0.2)
            client.send(b"llo")
            answer = client.answer()
            assert answer is not None
            assert answer.status == 200
            ending.join()
        live.start()
        assert live.ask("GET", "/x/a").body == b"hello"
