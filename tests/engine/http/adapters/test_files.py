"""Files by path: ccache's, sccache's, Gradle's, and anybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

PATHS = (
    "/some/file.bin",
    "/p/93/2b254fa8hkikjn22eubha10lll2r9g2",
    "/932b254fa8hkikjn22eubha10lll2r9g2",
    "/e/2/0/e20" + "a" * 61,
    "/cache/cb8ed4b39190765fd1e13c48d05913b7",
    "/ns/team/x",
    "/with%20space/%C3%A9%2Bx",
    "/" + "x" * 1000,
)


@pytest.mark.parametrize("path", PATHS)
async def test_what_is_put_is_there_until_it_is_deleted(
    client: httpx.AsyncClient, path: str
) -> None:
    assert (await client.get(path)).status_code == 404
    assert (await client.put(path, content=b"value")).status_code == 200
    got = await client.get(path)
    assert (got.status_code, got.content) == (200, b"value")
    head = await client.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, "5")
    assert (await client.get(path, headers={"range": "bytes=1-2"})).content == b"al"
    assert (await client.put(path, content=b"other")).status_code == 200
    assert (await client.get(path)).content == b"other"
    assert (await client.delete(path)).status_code == 204
    assert (await client.delete(path)).status_code == 404
    assert (await client.head(path)).status_code == 404


async def test_an_empty_file_is_a_file(client: httpx.AsyncClient) -> None:
    assert (await client.put("/empty", content=b"")).status_code == 200
    got = await client.get("/empty")
    assert (got.status_code, got.content) == (200, b"")


async def test_chunked_and_large_uploads(client: httpx.AsyncClient) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 50_000

    assert (await client.put("/large", content=parts())).status_code == 200
    assert (await client.get("/large")).content == b"x" * 2_000_000


async def test_conditions_on_uploads(client: httpx.AsyncClient) -> None:
    once = {"if-none-match": "*"}
    assert (await client.put("/a", content=b"1", headers={"if-match": "*"})).status_code == 412
    assert (await client.put("/a", content=b"1", headers=once)).status_code == 200
    assert (await client.put("/a", content=b"2", headers=once)).status_code == 412
    tag = (await client.head("/a")).headers["etag"]
    assert (await client.put("/a", content=b"3", headers={"if-match": tag})).status_code == 200
    assert (await client.put("/a", content=b"4", headers={"if-match": tag})).status_code == 412
    assert (await client.get("/a")).content == b"3"


async def test_name_spaces_do_not_see_each_other(client: httpx.AsyncClient) -> None:
    await client.put("/ns/one/x", content=b"1")
    assert (await client.get("/ns/two/x")).status_code == 404
    assert (await client.get("/x")).status_code == 404
    assert (await client.get("/ns/one/x")).content == b"1"


async def test_a_file_is_not_put_at_a_directory(client: httpx.AsyncClient) -> None:
    assert (await client.put("/a/", content=b"1")).status_code == 405


async def test_too_long_a_path(client: httpx.AsyncClient) -> None:
    assert (await client.put("/" + "x" * 5000, content=b"1")).status_code == 414
