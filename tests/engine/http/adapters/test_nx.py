"""Nx's protocol, and moon's question for the status."""

from __future__ import annotations

import httpx
import pytest


@pytest.mark.parametrize("prefix", ["", "/some/prefix", "/ns/team"])
async def test_archives(client: httpx.AsyncClient, prefix: str) -> None:
    url = f"{prefix}/v1/cache/17602518616219447273"
    assert (await client.get(url)).status_code == 404
    for content in (b"archive", b"again"):
        assert (await client.put(url, content=content)).status_code == 200
        got = await client.get(url)
        assert (got.status_code, got.content) == (200, content)
    assert (await client.delete(url)).status_code == 405


async def test_moon_is_told_that_there_is_a_cache(client: httpx.AsyncClient) -> None:
    assert (await client.get("/status")).json() == {"status": "ok"}
