"""The server with all foreign protocols, on loopback, over a store of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
import trio.testing

from engine.http.adapters import protocols
from engine.http.server import Server
from engine.http.service import Service
from store.store import Store


@pytest.fixture
async def service(store: Store) -> AsyncIterator[Service]:
    made = Service(store)
    yield made
    await made.aclose()


@pytest.fixture
async def client(service: Service, nursery: trio.Nursery) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(protocols(), service)
    nursery.start_soon(server.run, [listener])
    await trio.testing.wait_all_tasks_blocked()
    host, port = listener.getsockname()
    url = f"http://{host}:{port}"
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as made:
        yield made
    listener.close()
    nursery.cancel_scope.cancel()
