"""A remote cache in memory that speaks bn's protocol, and misbehaves as a test asks it to."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

from engine.http.framing import Decoder, head
from store.digest import digest_bytes
from store.encoding import encode

Fault: TypeAlias = Callable[["Handler"], bool]
"""Answers a request instead of the remote; False where it leaves that to it."""


class Fake:
    """What the remote has and was asked; `fault` is asked first."""

    def __init__(self) -> None:
        self.url = ""
        self.blobs: dict[str, bytes] = {}
        self.actions: dict[str, list[dict[str, Any]]] = {}
        self.realisations: dict[str, list[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.fault: Fault = lambda _: False

    def count(self, path: str) -> int:
        """Return how often something was asked."""
        return self.asked.count(path)

    def trees(self, roots: list[str]) -> dict[str, Any]:
        """Return the trees below `roots`."""
        found: dict[str, Any] = {}
        pending = list(roots)
        while pending:
            digest = pending.pop()
            if digest in self.blobs and digest not in found:
                found[digest] = json.loads(self.blobs[digest])
                entries = found[digest]["entries"].values()
                pending += [entry["tree"] for entry in entries if "tree" in entry]
        return found


class Handler(BaseHTTPRequestHandler):
    """One connection to a `Fake`."""

    protocol_version = "HTTP/1.1"
    fake: Fake

    def do(self) -> None:
        """Answer a request of any method."""
        self.data = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.what = self.path.partition("/bn/v1/")[2]
        self.fake.asked.append(self.what)
        self.fake.tokens.append(self.headers.get("authorization"))
        if not self.fake.fault(self):
            self.answer()

    do_GET = do_POST = do_PUT = do  # noqa: N815

    def answer(self) -> None:  # noqa: C901  a case for each path
        """Answer as a remote that is well."""
        fake = self.fake
        if self.what.startswith("blobs/"):
            digest = self.what[6:]
            if self.command == "PUT":
                assert digest_bytes(self.data) == digest
                fake.blobs[digest] = self.data
                return self.say({"digest": digest, "size": len(self.data)})
            if digest not in fake.blobs:
                return self.send(404, b"{}")
            return self.send(200, fake.blobs[digest], "application/octet-stream")
        if self.what == "blobs:put":
            return self.say({"stored": self.take_blobs()})
        question = json.loads(self.data)
        asked = question.get("digests", [])
        match self.what:
            case "blobs:missing":
                self.say({"missing": [one for one in asked if one not in fake.blobs]})
            case "blobs:get":
                there = [fake.blobs[one] for one in asked if one in fake.blobs]
                body = b"".join(head(digest_bytes(one), len(one)) + one for one in there)
                self.send(200, body, "application/x-bn-blobs")
            case "closures:get":
                self.say({"trees": fake.trees(asked), "blobs": [], "missing": []})
            case "actions:get":
                self.say({"actions": {k: fake.actions[k] for k in asked if k in fake.actions}})
            case "realisations:get":
                found = {k: fake.realisations[k] for k in asked if k in fake.realisations}
                self.say({"realisations": found})
            case "actions:put":
                for one in question["actions"]:
                    fake.actions.setdefault(one["result"]["action"], []).append(one)
                self.say({"stored": len(question["actions"]), "refused": []})
            case "realisations:put":
                for one in question["realisations"]:
                    fake.realisations.setdefault(one["realisation"]["recipe"], []).append(one)
                    for result in one["results"]:
                        fake.actions.setdefault(result["result"]["action"], []).append(result)
                self.say({"stored": len(question["realisations"]), "refused": []})
            case _:
                self.send(404, b"{}")
        return None

    def take_blobs(self) -> int:
        """Store the blobs in a request."""
        decoder, parts, stored = Decoder(), b"", 0
        for piece in decoder.feed(self.data):
            parts += piece.data
            if piece.last:
                assert digest_bytes(parts) == piece.digest
                self.fake.blobs[piece.digest] = parts
                parts, stored = b"", stored + 1
        decoder.finish()
        return stored

    def say(self, document: object) -> None:
        """Answer with a document."""
        self.send(200, json.dumps(document).encode())

    def send(self, status: int, body: bytes, kind: str = "application/json", **more: str) -> None:
        """Answer with bytes."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def remote() -> Iterator[Fake]:
    """Serve a remote on this machine."""
    made = Fake()

    class Mine(Handler):
        fake = made

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        block_on_close = False

        def handle_error(self, *arguments: object) -> None:
            """Say nothing: clients go away as they like."""

    with Quiet(("127.0.0.1", 0), Mine) as server:
        made.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def canonical(document: dict[str, Any]) -> bytes:
    """Return the bytes of a document as they are stored."""
    return encode(document)
