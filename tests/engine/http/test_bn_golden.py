"""What bn's own protocol says on the wire, to the byte: a change here must be seen in review."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from store.digest import digest_bytes
from store.objects import Action
from store.store import Store
from tests.engine.http.serving import Sample, frames, served

GOLDEN = Path(__file__).parents[2] / "golden" / "bn_protocol.json"

ABSENT = "0" * 64


def asked() -> list[tuple[str, str, bytes]]:
    """Return requests, in order: method, path, body."""
    one = Sample("one", {"a.txt": b"a\n", "b.txt": b"b\n"}, log="said\n")
    timed = Sample("timed")
    whole = Sample("whole", action=Action(command=("cp", "a", "b"), input_root=timed.tree))

    def of(value: Any) -> bytes:
        return json.dumps(value, sort_keys=True).encode()

    return [
        ("PUT", f"actions/{one.action}", of(one.candidate())),
        ("PUT", f"blobs/{digest_bytes(b'a')}", b"b"),
        ("PUT", f"blobs/{digest_bytes(b'a')}", b"a"),
        ("GET", f"blobs/{digest_bytes(b'a')}", b""),
        ("GET", f"blobs/{ABSENT}", b""),
        ("GET", "blobs/x", b""),
        ("POST", "blobs:put", frames(one.blobs)),
        ("POST", "blobs:put", b"no frames"),
        ("POST", "blobs:missing", of({"digests": [ABSENT, one.tree]})),
        ("POST", "blobs:missing", of({})),
        ("POST", "blobs:get", of({"digests": [digest_bytes(b"a\n"), ABSENT, one.result.log]})),
        ("PUT", f"actions/{one.action}", of(one.candidate("ci"))),
        ("PUT", f"actions/{ABSENT}", of(one.candidate())),
        ("GET", f"actions/{one.action}", b""),
        ("GET", f"actions/{ABSENT}", b""),
        ("POST", "actions:put", of({"actions": [one.candidate("ci"), Sample("two").candidate()]})),
        ("POST", "actions:get", of({"digests": [ABSENT, one.action]})),
        ("POST", "realisations:put", of({"realisations": [one.realised("ci")]})),
        ("POST", "realisations:get", of({"digests": [one.recipe]})),
        ("GET", f"realisations/{one.recipe}", b""),
        ("GET", f"closures/{one.tree}", b""),
        ("POST", "closures:get", of({"digests": [one.tree, ABSENT]})),
        ("POST", "blobs:put", frames(timed.blobs)),
        ("PUT", f"actions/{timed.action}", of(timed.candidate("ci", seconds=-1))),
        ("PUT", f"actions/{timed.action}", of(timed.candidate("ci", seconds=1.25))),
        ("GET", f"actions/{timed.action}", b""),
        ("POST", "blobs:put", frames([*whole.blobs, whole.made_of])),
        ("PUT", f"realisations/{whole.recipe}", of(whole.realised())),
        ("GET", f"realisations/{whole.recipe}", b""),
        ("POST", "taint", of({"digest": one.tree})),
        ("GET", f"actions/{one.action}", b""),
        ("GET", "nothing", b""),
        ("DELETE", "blobs:get", b""),
    ]


async def said(store: Store) -> list[dict[str, Any]]:
    """Return what is answered to each, as it is kept."""
    rows = []
    async with served(store) as client:
        for method, path, body in asked():
            answer = await client.request(method, f"/bn/v1/{path}", content=body)
            rows.append(
                {
                    "asked": [method, f"/bn/v1/{path}", body.decode()],
                    "answered": [
                        answer.status_code,
                        answer.headers.get("content-type"),
                        answer.content.decode(),
                    ],
                }
            )
    return rows


async def test_the_wire_is_what_it_was(store: Store) -> None:
    """Where this fails on purpose, clients and servers of other versions must get along with it."""
    assert await said(store) == json.loads(GOLDEN.read_text())
