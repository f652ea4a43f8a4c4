"""Bazel's protocol: blobs held to their digest, results to what they need."""

from __future__ import annotations

import os
from collections.abc import Sequence

import httpx
import pytest

from engine.http.service import Service
from store.digest import Digest
from store.tiers import Form
from tests.engine.http.adapters.messages import (
    directory,
    output_directory,
    output_file,
    sha256,
    streams,
    tree,
)

KEY = sha256(b"an action")


async def put_blobs(client: httpx.AsyncClient, blobs: Sequence[bytes], at: str = "") -> None:
    for blob in blobs:
        put = await client.put(f"{at}/cas/{sha256(blob)}", content=blob)
        assert put.status_code == 200


@pytest.mark.parametrize("prefix", ["", "/a/prefix", "/ns/team", "/ns/team/a/b"])
@pytest.mark.parametrize("directory", ["cas", "cas.v2"])
async def test_blobs(client: httpx.AsyncClient, prefix: str, directory: str) -> None:
    path = f"{prefix}/{directory}/{sha256(b'blob')}"
    assert (await client.get(path)).status_code == 404
    put = await client.put(path, content=b"blob")
    assert (put.status_code, put.content) == (200, b"")
    assert (await client.get(path)).content == b"blob"
    assert (await client.head(path)).headers["content-length"] == "4"


async def test_the_prefix_is_of_no_account(client: httpx.AsyncClient) -> None:
    await put_blobs(client, [b"blob"], "/one")
    assert (await client.get(f"/cas.v2/{sha256(b'blob')}")).content == b"blob"


@pytest.mark.parametrize("size", [10, 300_000])
async def test_another_blob_is_refused(client: httpx.AsyncClient, size: int) -> None:
    blob = b"b" * size
    path = f"/cas/{sha256(blob)}"
    refused = await client.put(path, content=blob[:-1] + b"x")
    assert refused.status_code == 400
    assert (await client.get(path)).status_code == 404
    assert (await client.put(path, content=b"")).status_code == 400


async def test_the_empty_blob_is_always_there(client: httpx.AsyncClient) -> None:
    got = await client.get(f"/cas/{sha256(b'')}")
    assert (got.status_code, got.content) == (200, b"")


async def test_results_are_opaque(client: httpx.AsyncClient) -> None:
    for value in (b"\xcc\xac\x01anything", b'{"outputFiles": []}', b"x" * 400_000):
        assert (await client.put(f"/ac/{KEY}", content=value)).status_code == 200
        assert (await client.get(f"/ac/{KEY}")).content == value


async def test_an_empty_result_is_a_miss(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"/ac/{KEY}", content=b"")).status_code == 200
    assert (await client.get(f"/ac/{KEY}")).status_code == 404


async def test_a_result_without_its_outputs_is_a_miss(client: httpx.AsyncClient) -> None:
    whole = tree(directory(a=b"in a"), directory(b=b"in b"))
    result = output_file("x", b"x") + output_directory("d", whole) + streams(b"out", b"err")
    await client.put(f"/ac/{KEY}", content=result)
    needed = [b"x", whole, b"in a", b"in b", b"out", b"err"]
    for number in range(len(needed)):
        assert (await client.get(f"/ac/{KEY}")).status_code == 404, number
        await put_blobs(client, needed[number : number + 1])
    got = await client.get(f"/ac/{KEY}")
    assert (got.status_code, got.content) == (200, result)
    for blob in needed:
        assert (await client.delete(f"/cas/{sha256(blob)}")).status_code == 204
        assert (await client.get(f"/ac/{KEY}")).status_code == 404
        assert (await client.head(f"/ac/{KEY}")).status_code == 404
        await put_blobs(client, [blob])
        assert (await client.get(f"/ac/{KEY}")).status_code == 200


async def test_a_result_in_another_name_space_needs_its_own_blobs(
    client: httpx.AsyncClient,
) -> None:
    await put_blobs(client, [b"x"])
    await client.put(f"/ns/other/ac/{KEY}", content=output_file("x", b"x"))
    assert (await client.get(f"/ns/other/ac/{KEY}")).status_code == 404
    await put_blobs(client, [b"x"], "/ns/other")
    assert (await client.get(f"/ns/other/ac/{KEY}")).status_code == 200


async def test_a_result_with_many_outputs(client: httpx.AsyncClient) -> None:
    result = b"".join(output_file(f"{number:04}", b"same") for number in range(7000))
    assert len(result) > 512 * 1024
    await client.put(f"/ac/{KEY}", content=result)
    assert (await client.get(f"/ac/{KEY}")).status_code == 404
    await put_blobs(client, [b"same"])
    assert (await client.get(f"/ac/{KEY}")).content == result


async def test_a_result_of_which_a_file_was_taken_away(
    client: httpx.AsyncClient, service: Service
) -> None:
    blob = b"large" * 100_000
    await put_blobs(client, [blob])
    await client.put(f"/ac/{KEY}", content=output_file("x", blob))
    assert (await client.get(f"/ac/{KEY}")).status_code == 200
    row = service.find("default", "sha256", sha256(blob))
    assert row is not None
    taken_away(service, row.digest)
    assert (await client.get(f"/ac/{KEY}")).status_code == 404
    assert (await client.get(f"/cas/{sha256(blob)}")).status_code == 404


def taken_away(service: Service, digest: Digest) -> None:
    path = service.store.cas.primary.path(digest, Form.PLAIN)
    os.unlink(path)


async def test_methods_that_are_not_served(client: httpx.AsyncClient) -> None:
    assert (await client.post(f"/cas/{KEY}", content=b"")).status_code in (404, 405)
