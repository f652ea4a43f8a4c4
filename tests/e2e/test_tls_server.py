"""A real server over TLS: large blobs both ways, new certificates, and what is no client."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from store.digest import digest_bytes
from tests.e2e.caches import CacheServer, cache_server


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


def write(ca: trustme.CA, home: Path, *names: str) -> None:
    """Write a server's certificate and key."""
    made = ca.issue_cert("127.0.0.1", *names)
    made.private_key_pem.write_to_path(str(home / "server.key"))
    made.cert_chain_pems[0].write_to_path(str(home / "server.pem"))


@pytest.fixture
def server(tmp_path: Path, ca: trustme.CA) -> Iterator[CacheServer]:
    write(ca, tmp_path)
    table = f'[serve.tls]\ncertificate = "{tmp_path}/server.pem"\nkey = "{tmp_path}/server.key"\n'
    with cache_server(tmp_path / "server", table) as running:
        yield running


@pytest.fixture
def client(server: CacheServer, ca: trustme.CA) -> Iterator[httpx.Client]:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with httpx.Client(base_url=server.url, verify=context, trust_env=False, timeout=60) as made:
        yield made


def address(server: CacheServer) -> tuple[str, int]:
    url = httpx.URL(server.url)
    return url.host, url.port or 0


def test_blobs_of_all_sizes_come_back(client: httpx.Client) -> None:
    data, path = b"", ""
    for size in (0, 1, 100_000, 1 << 20, 20_000_000):
        data = os.urandom(size)
        path = f"/bn/v1/blobs/{digest_bytes(data)}"
        assert client.put(path, content=data).status_code == 200
        assert client.get(path).content == data
        assert client.head(path).headers["content-length"] == str(size)
    part = client.get(path, headers={"range": "bytes=12345678-12999999"})
    assert part.status_code == 206
    assert part.content == data[12_345_678:13_000_000]
    chunked = client.put(path, content=iter([data[:9_999_999], data[9_999_999:]]))
    assert chunked.status_code == 200


def test_requests_in_a_row_are_answered_in_order(server: CacheServer, ca: trustme.CA) -> None:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    with (
        socket.create_connection(address(server), 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * 40)
        sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        said = b""
        while part := sock.recv(65536):
            said += part
    assert said.count(b"HTTP/1.1 200 OK\r\n") == 41


def test_what_is_no_tls_is_let_go(server: CacheServer, client: httpx.Client) -> None:
    for data in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", os.urandom(4000)):
        with socket.create_connection(address(server), 30) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            said = b""
            try:
                while part := sock.recv(65536):
                    said += part
            except ConnectionResetError:
                pass
            assert b"HTTP" not in said
    assert client.get("/health").status_code == 200
    assert not any("Traceback" in line for line in server.said)


def test_a_new_certificate_is_shown_without_a_restart(
    server: CacheServer, client: httpx.Client, ca: trustme.CA, tmp_path: Path
) -> None:
    def shown() -> str:
        context = ssl.create_default_context()
        ca.configure_trust(context)
        with (
            socket.create_connection(address(server), 30) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            certificate = sock.getpeercert()
        assert certificate
        return str(certificate["serialNumber"])

    assert client.get("/health").status_code == 200
    before = shown()
    assert shown() == before
    write(ca, tmp_path, "new.example")
    assert shown() != before
    assert client.get("/health").status_code == 200, "what is connected stays so"
