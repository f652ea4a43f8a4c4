"""bn's own protocol over a real connection: blobs, one at a time and many."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from store.digest import digest_bytes
from store.store import Store
from tests.engine.http.serving import asked, framed, frames, put_blobs, served

ABSENT = "0" * 64
LARGE = os.urandom(3 * 2**20)


async def test_a_blob_comes_back(store: Store) -> None:
    for data in (b"", b"hello\n", os.urandom(200_000), LARGE):
        async with served(store) as client:
            path = f"/bn/v1/blobs/{digest_bytes(data)}"
            assert (await client.get(path)).status_code == 404
            stored = await client.put(path, content=data)
            assert stored.json() == {"digest": digest_bytes(data), "size": len(data)}
            answer = await client.get(path)
            assert answer.content == data
            assert answer.headers["etag"] == f'"{digest_bytes(data)}"'
            length = await client.head(path)
            assert (length.headers["content-length"], length.content) == (str(len(data)), b"")
            known = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert known.status_code == 304
            part = await client.get(path, headers={"range": "bytes=1-3"})
            assert part.content == (data[1:4] if data else b"")


async def test_other_bytes_than_the_digest_says_are_refused(store: Store) -> None:
    async with served(store) as client:
        for data in (b"other", LARGE):
            path = f"/bn/v1/blobs/{digest_bytes(b'hello')}"
            answer = await client.put(path, content=data)
            assert answer.status_code == 400
            assert digest_bytes(data) in answer.json()["error"]
            assert (await client.get(path)).status_code == 404
            assert (await client.get(f"/bn/v1/blobs/{digest_bytes(data)}")).status_code == 404


async def test_what_is_no_digest_is_refused(store: Store) -> None:
    async with served(store) as client:
        for name in ("x", "A" * 64, "0" * 63, "0" * 65, "..", "%00" * 64):
            for what in ("blobs", "actions", "realisations", "closures"):
                answer = await client.get(f"/bn/v1/{what}/{name}")
                assert answer.status_code in (400, 404), name
                assert answer.json()["error"]


@pytest.mark.parametrize("blobs", [[], [b""], [b"a", b"", b"b" * 3000], [b"a", LARGE, b"c", b"a"]])
async def test_many_blobs_come_and_go_in_one_request(store: Store, blobs: list[bytes]) -> None:
    digests = list(dict.fromkeys(map(digest_bytes, blobs)))
    async with served(store) as client:
        assert (await asked(client, "blobs:missing", *digests))["missing"] == digests
        await put_blobs(client, blobs)
        assert (await asked(client, "blobs:missing", ABSENT, *digests))["missing"] == [ABSENT]
        answer = await client.post(
            "/bn/v1/blobs:get", json={"digests": [*digests, ABSENT, *digests]}
        )
        assert answer.headers["content-type"] == "application/x-bn-blobs"
        assert list(framed(answer.content)) == digests


async def test_a_thousand_blobs_take_one_request_each_way(store: Store) -> None:
    blobs = [f"blob {number}\n".encode() * number for number in range(1001)]
    async with served(store) as client:
        await put_blobs(client, blobs)
        digests = list(map(digest_bytes, blobs))
        answer = await client.post("/bn/v1/blobs:get", json={"digests": digests})
        assert list(framed(answer.content).values()) == blobs


async def test_frames_may_come_in_any_parts(store: Store) -> None:
    data = frames([b"one", LARGE, b"two"])

    async def parts(step: int) -> AsyncIterator[bytes]:
        for at in range(0, len(data), step):
            yield data[at : at + step]

    async with served(store) as client:
        for step in (7919, 300_001):
            answer = await client.post("/bn/v1/blobs:put", content=parts(step))
            assert answer.json() == {"stored": 3}
        answer = await client.get(f"/bn/v1/blobs/{digest_bytes(LARGE)}")
        assert answer.content == LARGE


@pytest.mark.parametrize(
    "wrong",
    [
        b"no frames",
        frames([b"fine"])[:-1],
        frames([LARGE])[:-1],
        frames([b"fine"]) + b"x" * 200,
        digest_bytes(b"a").encode() + b" 1\nb",
        digest_bytes(LARGE).encode() + b" %d\n" % len(LARGE) + LARGE[::-1],
        b"a" * 64 + b" 99999999999999999\n",
    ],
    ids=["text", "cut", "cut-large", "more", "other", "other-large", "huge"],
)
async def test_malformed_frames_are_refused(store: Store, wrong: bytes) -> None:
    async with served(store) as client:
        answer = await client.post("/bn/v1/blobs:put", content=frames([b"first"]) + wrong)
        assert answer.status_code in (400, 413)
        assert answer.json()["error"]
        for data in (b"b", LARGE, LARGE[::-1]):
            assert await asked(client, "blobs:missing", digest_bytes(data)) == {
                "missing": [digest_bytes(data)]
            }
        await put_blobs(client, [b"goes on"])


WRONG = [
    "",
    "{",
    "[]",
    "{}",
    "null",
    '{"digests": 1}',
    '{"digests": {}}',
    '{"digests": [1]}',
    '{"digests": [["' + "0" * 64 + '"]]}',
    '{"digests": ["' + "0" * 63 + '"]}',
    '{"digests": [], "more": 1}',
    "[" * 100_000,
    '{"digests": ' + "[" * 10_000 + "]" * 10_000 + "}",
    '{"digests": [' + "1" * 10_000 + "]}",
    '{"digests": ["\ud800"]}'.encode("utf-8", "surrogatepass").decode("latin-1"),
]


async def test_malformed_requests_are_refused(store: Store) -> None:
    async with served(store) as client:
        for what in (
            "blobs:missing",
            "blobs:get",
            "actions:get",
            "realisations:get",
            "closures:get",
        ):
            for body in WRONG:
                answer = await client.post(f"/bn/v1/{what}", content=body.encode())
                assert answer.status_code == 400, (what, body)
                assert answer.json().keys() == {"error", "hint"}


async def test_requests_have_limits(store: Store) -> None:
    digests = [f"{number:064x}" for number in range(50_001)]
    async with served(store) as client:
        assert len((await asked(client, "blobs:missing", *digests[1:]))["missing"]) == 50_000
        assert (await asked(client, "actions:get", *digests[1:])) == {"actions": {}}
        for what in ("blobs:missing", "blobs:get", "closures:get", "actions:get"):
            answer = await client.post(f"/bn/v1/{what}", json={"digests": digests})
            assert answer.status_code == 413
            assert "50000" in answer.json()["hint"]
        for many in (b" " * (5 * 2**20), b"[" + b"{}," * 1_200_000 + b"{}]"):
            answer = await client.post("/bn/v1/blobs:missing", content=many)
            assert answer.status_code == 413


async def test_name_spaces_see_nothing_of_each_other(store: Store) -> None:
    digest = digest_bytes(b"mine")
    async with served(store) as client:
        await put_blobs(client, [b"mine"], base="/ns/mine")
        assert (await client.get(f"/ns/mine/bn/v1/blobs/{digest}")).content == b"mine"
        for base in ("", "/ns/other", "/ns/default"):
            assert (await client.get(f"{base}/bn/v1/blobs/{digest}")).status_code == 404
            assert (await asked(client, "blobs:missing", digest, base=base))["missing"] == [digest]
            answer = await client.post(f"{base}/bn/v1/blobs:get", json={"digests": [digest]})
            assert answer.content == b""


async def test_a_damaged_or_lost_blob_is_a_miss(store: Store) -> None:
    small, large = b"small" * 60_000, LARGE
    async with served(store, hot_bytes=0) as client:
        await put_blobs(client, [small, large])
        for data in (small, large):
            path = Path(store.cas.path(digest_bytes(data)))
            path.chmod(0o644)
            path.write_bytes(b"x" + data[1:])
    async with served(store, hot_bytes=0) as client:
        digests = [digest_bytes(small), digest_bytes(large)]
        answer = await client.post("/bn/v1/blobs:get", json={"digests": digests})
        assert answer.content == b""
        for digest in digests:
            assert (await client.get(f"/bn/v1/blobs/{digest}")).status_code == 404
        await put_blobs(client, [small, large])
        answer = await client.post("/bn/v1/blobs:get", json={"digests": digests})
        assert list(framed(answer.content).values()) == [small, large]


async def test_other_methods_and_paths_are_named(store: Store) -> None:
    async with served(store) as client:
        for path in ("/bn/v1/", "/bn/v1/x", "/bn/v1/blobs", "/bn/v1/blobs/a/b", "/bn/v1/blobs:x"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert "openapi.json" in answer.json()["hint"]
        answer = await client.delete(f"/bn/v1/blobs/{ABSENT}")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, PUT")
        answer = await client.get("/bn/v1/actions:get")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_the_description_is_served(store: Store) -> None:
    async with served(store) as client:
        answer = await client.get("/bn/v1/openapi.json")
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["openapi"].startswith("3.1")


async def test_an_upload_that_stops_leaves_nothing(store: Store) -> None:
    data = frames([b"whole", LARGE])

    async def stops() -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        raise httpx.WriteError("the client is gone")

    async with served(store) as client:
        with pytest.raises(httpx.WriteError):
            await client.post("/bn/v1/blobs:put", content=stops())
        assert (await client.get(f"/bn/v1/blobs/{digest_bytes(LARGE)}")).status_code == 404
