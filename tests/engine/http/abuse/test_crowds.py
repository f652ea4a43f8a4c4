"""Crowds: ten thousand connections that do nothing, and more requests than are allowed."""

from __future__ import annotations

import hashlib
import os
import resource
import select
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.http.abuse.live import Client, Live, living

CROWD = 10_000
EACH = 12_000
"""Bytes of memory that a connection may cost while it does nothing."""


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Let this process, and those that it starts, have as many files as a crowd needs."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD + 2000
    if before[1] < wanted and os.geteuid() != 0:
        pytest.skip(f"the hard limit of open files is {before[1]}")
    hard = max(before[1], wanted)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0], hard))


@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_idle_connections(place: Path) -> None:
    with living(place, workers=2) as live:
        live.works()
        before = live.memory()
        crowd: list[Client] = []
        try:
            for number in range(CROWD):
                client = live.client()
                crowd.append(client)
                if number % 3 == 1:
                    client.send(b"GET /x/a HT")
                elif number % 3 == 2:
                    client.send(b"GET /x/a HTTP/1.1\r\nhost: x\r\n\r\n")
            live.settles("not all came", lambda: live.metric("bn_connections") > CROWD)
            assert live.memory() - before < CROWD * EACH
            live.works()
            for client in crowd[2::300]:
                answer = client.answer()
                assert answer is not None
                assert answer.status == 404
        finally:
            for client in crowd:
                client.close()
        live.settles("some stay", lambda: live.metric("bn_connections") == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_more_connections_than_are_allowed(place: Path, workers: int) -> None:
    with living(place, workers=workers, limits={"connections": 20, "idle_seconds": 600}) as live:
        crowd = [live.client() for _ in range(60)]
        for client in crowd:
            client.send(b"GET /x/a HT")  # not idle: none of them can make room
        live.settles("too few are refused", lambda: len(readable(crowd)) >= 38)
        refused, told = 0, 0
        for client in readable(crowd):
            answer = client.answer()
            refused += 1
            if answer is not None:
                told += 1
                assert answer.status == 503
                assert answer.headers["retry-after"]
        assert refused >= 38
        assert told >= 30, "the others were reset before they could read it"
        for client in crowd:
            client.close()
        live.settles("it stays full", lambda: answers(live))
        counted = 'bn_refused_total{reason="connections"}'
        live.settles("they are not counted", lambda: live.metric(counted) >= 38)


def readable(clients: list[Client]) -> list[Client]:
    """Return those to whom the server said something, or whose connection it closed."""
    poll = select.poll()
    for client in clients:
        poll.register(client.sock, select.POLLIN)
    found = {descriptor for descriptor, _ in poll.poll(0)}
    return [client for client in clients if client.sock.fileno() in found]


def answers(live: Live) -> bool:
    """Say whether a new connection gets an answer."""
    try:
        return live.ask("GET", "/health").status == 200
    except (AssertionError, OSError):
        return False


def test_idle_connections_make_room(place: Path) -> None:
    with living(place, limits={"connections": 20}) as live:
        crowd = [live.client() for _ in range(20)]
        live.settles("no room is made", lambda: answers(live))
        for client in crowd:
            client.close()
        live.settles("it stays full", lambda: answers(live))


def test_more_uploads_than_are_allowed(place: Path) -> None:
    with living(place, limits={"uploads": 4}) as live:
        data = os.urandom(10_000)
        assert live.ask("PUT", "/x/there", data).status == 200
        clients = [live.client() for _ in range(12)]
        for number, client in enumerate(clients):
            client.send(
                b"PUT /x/u%d HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello" % number
            )
        live.settles("they do not come", lambda: live.metric("bn_uploads") == 4)
        live.settles("none are refused", lambda: len(readable(clients)) == 8)
        refused = readable(clients)
        for client in refused:
            answer = client.answer()
            assert answer is not None
            assert answer.status == 503
            assert answer.headers["retry-after"]
        assert live.ask("GET", "/x/there").body == data, "reads go on"
        for client in clients:
            client.send(b"world")
            if client not in refused:
                answer = client.answer()
                assert answer is not None
                assert answer.status == 200
            client.close()
        assert live.metric('bn_refused_total{reason="uploads"}') == 8


def test_more_requests_than_are_allowed(place: Path) -> None:
    with living(place, limits={"requests": 8}) as live:
        data = os.urandom(2_000_000)
        path = f"/cas/{hashlib.sha256(data).hexdigest()}"
        assert live.ask("PUT", path, data).status == 200
        clients = [live.client(receive=4096) for _ in range(30)]
        for client in clients:
            client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        found = Counter[int]()
        for client in clients:
            answer = client.answer()
            assert answer is not None
            found[answer.status] += 1
            if answer.status == 200:
                assert answer.body == data
            else:
                assert answer.headers["retry-after"]
            client.close()
        assert found.keys() <= {200, 503}
        assert found[200] >= 8
        live.works()


def test_a_flood_of_small_requests(live: Live) -> None:
    before = live.memory()
    burst = b"GET /x/flood HTTP/1.1\r\nhost: x\r\n\r\n" * 2000
    clients = [live.client() for _ in range(10)]
    for client in clients:
        client.sock.settimeout(0)
    for client in clients:
        flood(client.sock, burst)
    live.works()
    assert live.memory() - before < 32 * 2**20
    for client in clients:
        client.reset()
    live.settles("they stay", lambda: live.metric("bn_connections") == 1)


def flood(sock: socket.socket, data: bytes) -> None:
    """Send what the kernel takes."""
    try:
        while data:
            data = data[sock.send(data) :]
    except OSError:
        return


def test_connections_that_come_and_go(live: Live) -> None:
    before = live.memory()
    for number in range(2000):
        client = live.client()
        if number % 4 == 1:
            client.send(b"GET /x/a HTTP/1.1\r\n")
        elif number % 4 == 2:
            client.send(b"GET /x/a HTTP/1.1\r\nhost: x\r\n\r\n")
        if number % 2:
            client.reset()
        else:
            client.close()
    live.settles("they stay", lambda: live.metric("bn_connections") == 1)
    assert live.memory() - before < 16 * 2**20
