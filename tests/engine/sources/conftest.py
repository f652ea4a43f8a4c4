"""A store and a local server for tests of sources."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

import pytest

from store.store import Store

Route: TypeAlias = Callable[[BaseHTTPRequestHandler], None]


class Site(ThreadingHTTPServer):
    """A server on this machine; `routes` answer by path, `hits` counts requests."""

    daemon_threads = True

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.hits: Counter[str] = Counter()
        self.closing = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.hits[path] += 1
                if path in site.routes:
                    site.routes[path](self)
                else:
                    self.send_error(404)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """The address without a slash at its end."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def serve(self, path: str, body: bytes, kind: str = "application/octet-stream") -> str:
        """Answer `path` with `body` and return its address."""

        def route(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(body)))
            handler.send_header("Content-Type", kind)
            handler.end_headers()
            handler.wfile.write(body)

        self.routes[path] = route
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened
