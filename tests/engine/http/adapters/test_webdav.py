"""WebDAV's own methods."""

from __future__ import annotations

from xml.etree import ElementTree

import httpx
import pytest

from engine.http.adapters.files import KIND
from engine.http.service import Item, Service

D = "{DAV:}"


async def propfind(
    client: httpx.AsyncClient, path: str, depth: str | None = "1"
) -> dict[str, tuple[bool, str | None]]:
    """Return what a listing has: path → whether it is a directory, and its length."""
    headers = {} if depth is None else {"depth": depth}
    body = b'<?xml version="1.0"?><D:propfind xmlns:D="DAV:"><D:allprop/></D:propfind>'
    answer = await client.request("PROPFIND", path, headers=headers, content=body)
    assert answer.status_code == 207, answer.text
    found = {}
    for response in ElementTree.fromstring(answer.content).iter(f"{D}response"):
        href = response.findtext(f"{D}href")
        properties = response.find(f"{D}propstat/{D}prop")
        assert href is not None
        assert properties is not None
        assert properties.findtext(f"{D}getlastmodified")
        is_directory = properties.find(f"{D}resourcetype/{D}collection") is not None
        found[href] = (is_directory, properties.findtext(f"{D}getcontentlength"))
    return found


async def test_options_say_what_there_is(client: httpx.AsyncClient) -> None:
    got = await client.options("/")
    assert got.status_code == 200
    assert got.headers["dav"] == "1"
    assert "PROPFIND" in got.headers["allow"]


async def test_a_listing(client: httpx.AsyncClient) -> None:
    for path in ("/dir/b", "/dir/a & b<c>", "/dir/e/1", "/dir/e/2", "/dir/e.x", "/d2", "/other"):
        await client.put(path, content=b"12345")
    listed = {
        "/dir/": (True, None),
        "/dir/a%20%26%20b%3Cc%3E": (False, "5"),
        "/dir/b": (False, "5"),
        "/dir/e/": (True, None),
        "/dir/e.x": (False, "5"),
    }
    assert await propfind(client, "/dir/") == listed
    assert await propfind(client, "/dir") == listed
    assert await propfind(client, "/dir/", None) == listed
    assert await propfind(client, "/dir/", "0") == {"/dir/": (True, None)}
    assert await propfind(client, "/dir/b", "0") == {"/dir/b": (False, "5")}
    assert sorted(await propfind(client, "/")) == ["/", "/d2", "/dir/", "/other"]


async def test_a_listing_in_a_name_space(client: httpx.AsyncClient) -> None:
    await client.put("/ns/team/dir/a", content=b"")
    assert await propfind(client, "/ns/team/dir/") == {
        "/ns/team/dir/": (True, None),
        "/ns/team/dir/a": (False, "0"),
    }
    assert (await client.request("PROPFIND", "/dir")).status_code == 404


async def test_a_long_listing(client: httpx.AsyncClient, service: Service) -> None:
    await service.put_many(
        "default", [Item(KIND, f"/dir/{number}/x", b"") for number in range(300)]
    )
    assert len(await propfind(client, "/dir/")) == 301
    assert (await client.delete("/dir/")).status_code == 204
    assert await propfind(client, "/") == {"/": (True, None)}


async def test_methods_that_are_not_served(client: httpx.AsyncClient) -> None:
    await client.put("/a", content=b"1")
    for method in ("PROPPATCH", "LOCK", "POST"):
        answer = await client.request(method, "/a")
        assert answer.status_code == 405, method
        assert "PROPFIND" in answer.headers["allow"]


async def test_directories_of_sccache_need_not_be_made(client: httpx.AsyncClient) -> None:
    for path in ("/", "/prefix/e/", "/prefix/e/2/", "/prefix/e/2/0/"):
        assert await propfind(client, path, "0") == {path: (True, None)}


async def test_a_client_can_begin_with_any_address(client: httpx.AsyncClient) -> None:
    for path in ("/new/", "/some/new/place/"):
        assert await propfind(client, path) == {path: (True, None)}


async def test_what_is_not_there_is_not_listed(client: httpx.AsyncClient) -> None:
    await client.put("/dir/file", content=b"1")
    await client.put("/file", content=b"1")
    for path in ("/nothing", "/dir/nothing/", "/dir/nothing", "/dir/file/", "/file/"):
        assert (await client.request("PROPFIND", path)).status_code == 404


async def test_a_listing_of_everything_is_refused(client: httpx.AsyncClient) -> None:
    refused = await client.request("PROPFIND", "/", headers={"depth": "infinity"})
    assert refused.status_code == 403


async def test_directories_are_made_and_removed(client: httpx.AsyncClient) -> None:
    assert (await client.request("MKCOL", "/dir/")).status_code == 201
    assert (await client.request("MKCOL", "/dir")).status_code == 405
    assert (await client.request("MKCOL", "/dir/e")).status_code == 201
    assert (await client.request("MKCOL", "/x", content=b"<a/>")).status_code == 415
    assert await propfind(client, "/dir/") == {"/dir/": (True, None), "/dir/e/": (True, None)}
    await client.put("/dir/e/f", content=b"1")
    assert (await client.request("MKCOL", "/dir/e/f")).status_code == 405
    assert (await client.get("/dir/")).status_code == 404
    assert (await client.delete("/dir/")).status_code == 204
    assert (await client.delete("/dir/")).status_code == 404
    assert (await client.get("/dir/e/f")).status_code == 404


@pytest.mark.parametrize("size", [5, 400_000])
async def test_files_are_copied_and_moved(client: httpx.AsyncClient, size: int) -> None:
    await client.put("/a", content=b"x" * size)
    base = str(client.base_url).rstrip("/")
    copied = await client.request("COPY", "/a", headers={"destination": f"{base}/b%20c"})
    assert copied.status_code == 201
    moved = await client.request("MOVE", "/a", headers={"destination": "/dir/a"})
    assert moved.status_code == 201
    assert (await client.get("/a")).status_code == 404
    assert (await client.get("/b%20c")).content == b"x" * size
    assert (await client.get("/dir/a")).content == b"x" * size
    keep = {"destination": "/dir/a", "overwrite": "F"}
    assert (await client.request("MOVE", "/b%20c", headers=keep)).status_code == 412
    over = {"destination": "/dir/a", "overwrite": "T"}
    assert (await client.request("MOVE", "/b%20c", headers=over)).status_code == 204
    assert (await client.request("MOVE", "/b%20c", headers=over)).status_code == 404


async def test_directories_are_copied_and_moved(client: httpx.AsyncClient) -> None:
    await client.request("MKCOL", "/dir/empty")
    for path in ("/dir/a", "/dir/e/b", "/old/x"):
        await client.put(path, content=path.encode())
    copied = await client.request("COPY", "/dir", headers={"destination": "/d2"})
    assert copied.status_code == 201
    moved = await client.request("MOVE", "/dir/", headers={"destination": "/old/"})
    assert moved.status_code == 204
    for base in ("/d2", "/old"):
        assert sorted(await propfind(client, f"{base}/")) == [
            f"{base}/",
            *(f"{base}/a", f"{base}/e/", f"{base}/empty/"),
        ]
        assert (await client.get(f"{base}/e/b")).content == b"/dir/e/b"
    assert (await client.request("PROPFIND", "/dir")).status_code == 404
    for target in ("/d2/e/x", "/d2", "/"):
        into = await client.request("MOVE", "/d2/", headers={"destination": target})
        assert into.status_code == 403
    around = await client.request("MOVE", "/d2/e/b", headers={"destination": "/d2"})
    assert around.status_code == 403
    assert (await client.delete("/d2")).status_code == 204
    assert (await client.delete("/d2")).status_code == 404


REFUSED = {
    "": 400,
    "http://elsewhere.example/a": 502,
    "/x/../../y": 400,
    "/x//y": 400,
    "/x/%2e%2e/y": 400,
    "/a": 403,
    "/ns/other/a": 400,
}


async def test_destinations_that_are_refused(client: httpx.AsyncClient) -> None:
    await client.put("/a", content=b"1")
    for target, status in REFUSED.items():
        answer = await client.request("MOVE", "/a", headers={"destination": target})
        assert answer.status_code == status, target
        assert (await client.get("/a")).content == b"1"
