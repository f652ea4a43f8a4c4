"""bn's own protocol served over loopback by the real server, and samples of what it is about."""

from __future__ import annotations

import base64
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio

from engine.http.adapters.bn import Bn
from engine.http.framing import Decoder, head
from engine.http.hooks import Gate
from engine.http.router import Adapter
from engine.http.server import Server
from engine.http.service import Service
from store.digest import Digest, digest_bytes
from store.objects import Action, ActionResult, Directory, Entry, File, Realisation, Tree
from store.store import Store

DOCUMENTS = {"content-type": "application/json"}


@asynccontextmanager
async def served(
    store: Store, adapters: Sequence[Adapter] = (), gate: Gate | None = None, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a store in this process and give a client of it; `options` are the service's."""
    service = Service(store, **options)
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(adapters or [Bn()], service, gate=gate)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run, [listener])
            async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
                yield client
            nursery.cancel_scope.cancel()
    finally:
        listener.close()
        await service.aclose()


def frames(blobs: Sequence[bytes]) -> bytes:
    """Return blobs in frames."""
    return b"".join(head(digest_bytes(blob), len(blob)) + blob for blob in blobs)


def framed(data: bytes) -> dict[Digest, bytes]:
    """Return the blobs in frames, in order, and check their digests."""
    found: dict[Digest, bytes] = {}
    decoder = Decoder()
    for piece in decoder.feed(data):
        found[piece.digest] = found.get(piece.digest, b"") + piece.data
    decoder.finish()
    assert all(digest_bytes(blob) == digest for digest, blob in found.items())
    return found


class Sample:
    """A result of a made-up action, with all that it consists of."""

    def __init__(
        self,
        name: str,
        files: Mapping[str, bytes] | None = None,
        log: str = "",
        action: Action | None = None,
    ) -> None:
        contents = {"out.txt": f"{name}\n".encode()} if files is None else files
        below: dict[str, Entry] = {
            path: File(digest_bytes(data), len(data)) for path, data in contents.items()
        }
        inner = Tree(below)
        tree = Tree({"sub": Directory(inner.digest()), **below})
        self.made_of = action.encode() if action else f"action {name}".encode()
        self.action = digest_bytes(self.made_of)
        self.recipe = digest_bytes(f"recipe {name}".encode())
        self.tree = tree.digest()
        self.result = ActionResult(
            action=self.action, outputs=tree.digest(), log=digest_bytes(log.encode())
        )
        self.realisation = Realisation(
            recipe=self.recipe, action=self.action, outputs=tree.digest()
        )
        self.trees = [tree.encode(), inner.encode()]
        self.files = list(contents.values())
        self.blobs = [*self.trees, *self.files, log.encode()]

    def candidate(self, *keys: str, **more: Any) -> dict[str, Any]:
        """Return the candidate of the result, signed by these keys as far as anybody can see."""
        signatures = [signature(key) for key in keys]
        return {"result": self.result.document(), "signatures": signatures, **more}

    def realised(self, *keys: str) -> dict[str, Any]:
        """Return the candidate of the realisation."""
        return {
            "realisation": self.realisation.document(),
            "signatures": [signature(key) for key in keys],
            "results": [self.candidate()],
        }


def signature(key: str) -> dict[str, str]:
    """Return what looks like a signature."""
    data = digest_bytes(key.encode()).encode()
    return {"key": key, "signature": base64.b64encode(data).decode()}


async def put_blobs(client: httpx.AsyncClient, blobs: Sequence[bytes], base: str = "") -> None:
    """Store blobs."""
    answer = await client.post(f"{base}/bn/v1/blobs:put", content=frames(blobs))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"stored": len(blobs)}


async def asked(client: httpx.AsyncClient, what: str, *digests: str, base: str = "") -> Any:
    """Return what is said of digests."""
    answer = await client.post(f"{base}/bn/v1/{what}", json={"digests": digests})
    assert answer.status_code == 200, answer.text
    return answer.json()


ABSENT = Digest("0" * 64)


async def put(client: httpx.AsyncClient, what: str, *candidates: Any, base: str = "") -> Any:
    answer = await client.post(f"{base}/bn/v1/{what}:put", json={what: candidates})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def stored(client: httpx.AsyncClient, *samples: Sample, base: str = "") -> None:
    """Store samples as a client would."""
    await put_blobs(client, [blob for one in samples for blob in one.blobs], base)
    said = await put(client, "actions", *(one.candidate() for one in samples), base=base)
    assert said == {"stored": len(samples), "refused": []}
