"""A server in this process."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.http.limits import Limits
from engine.http.server import Server
from tests.engine.http.wire import Echo, Running, Serve


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def made(**limits: Any) -> AsyncIterator[Running]:
        echo = Echo(tmp_path)
        service: Any = None
        server = Server([echo], service, limits=Limits(**limits))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.run, [listener])
                yield Running(server, listener.getsockname()[1], echo)
                nursery.cancel_scope.cancel()
        assert server.requests == 0
        assert server.counter.uploads == 0

    return made
