"""A Nix binary cache."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Callable

import httpx
import pytest

from engine.http.adapters.nix import ALPHABET, fields_of, sha256_of

HASH = "fyl122c056x1xc0b7k0ahy6121y2qw0n"
INFO = "StoreDir: /nix/store\n"
NAR = b"an archive"


def base32(data: bytes) -> str:
    """Return what Nix writes for a digest."""
    value = int.from_bytes(data, "little")
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(52)))


NAR_URL = f"nar/{base32(hashlib.sha256(NAR).digest())}.nar.xz"


def narinfo(**changes: str) -> str:
    fields = {
        "StorePath": f"/nix/store/{HASH}-name",
        "URL": NAR_URL,
        "Compression": "xz",
        "NarHash": f"sha256:{'0' * 52}",
        "NarSize": "288",
        "References": "",
        "Sig": "key:c2ln",
        **changes,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value != "-")


@pytest.mark.parametrize("prefix", ["", "/some/prefix", "/ns/team"])
async def test_a_store_path(client: httpx.AsyncClient, prefix: str) -> None:
    for path, content in (
        ("nix-cache-info", INFO.encode()),
        (NAR_URL, NAR),
        (f"{HASH}.narinfo", narinfo().encode()),
        (f"{HASH}.ls", b"{}"),
        (f"log/{HASH}-name.drv", b"log"),
    ):
        assert (await client.get(f"{prefix}/{path}")).status_code == 404
        assert (await client.head(f"{prefix}/{path}")).status_code == 404
        put = await client.put(f"{prefix}/{path}", content=content)
        assert put.status_code == 200, put.text
        assert (await client.get(f"{prefix}/{path}")).content == content
        assert (await client.head(f"{prefix}/{path}")).status_code == 200
    assert (await client.get(f"{prefix}/other/nix-cache-info")).status_code == 404


async def test_a_narinfo_without_its_archive_is_a_miss(client: httpx.AsyncClient) -> None:
    url = f"/{HASH}.narinfo"
    assert (await client.put(url, content=narinfo())).status_code == 200
    assert (await client.get(url)).status_code == 404
    await client.put(f"/{NAR_URL}", content=NAR)
    assert (await client.get(url)).status_code == 200
    assert (await client.delete(f"/{NAR_URL}")).status_code == 204
    assert (await client.get(url)).status_code == 404
    assert (await client.head(url)).status_code == 404


async def test_an_archive_is_held_to_its_name(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"/{NAR_URL}", content=NAR + b"x")).status_code == 400
    assert (await client.get(f"/{NAR_URL}")).status_code == 404
    assert (await client.put(f"/nar/{'z' * 52}.nar", content=NAR)).status_code == 400


ODD: tuple[str | bytes, ...] = (
    "",
    "no narinfo",
    b"\xff",
    narinfo(URL="-"),
    narinfo(URL="nar/../../x.nar"),
    narinfo(URL="https://other.example/nar/x.nar"),
    narinfo(URL="/nar/x.nar"),
    narinfo(StorePath="/nix/store/" + "0" * 32 + "-name"),
    narinfo(StorePath=f"{HASH}-name"),
    narinfo(NarSize="many"),
    narinfo(NarHash="md5:0"),
    narinfo(StorePath=f"/other/store/{HASH}-name"),
)


async def test_a_narinfo_of_another_form_is_refused(client: httpx.AsyncClient) -> None:
    await client.put("/nix-cache-info", content=INFO)
    for text in ODD:
        assert (await client.put(f"/{HASH}.narinfo", content=text)).status_code == 400, text


async def test_a_narinfo_that_is_too_long(client: httpx.AsyncClient) -> None:
    text = narinfo(References="x" * 200_000)
    assert (await client.put(f"/{HASH}.narinfo", content=text)).status_code == 413


async def test_an_archive_does_not_come_by_another_way(client: httpx.AsyncClient) -> None:
    for source in ("/x", "/dir/" + NAR_URL.removeprefix("nar/")):
        await client.put(source, content=b"something else")
    for method in ("MOVE", "COPY"):
        for source, target in (("/x", f"/{NAR_URL}"), ("/dir", "/nar")):
            answer = await client.request(method, source, headers={"destination": target})
            assert answer.status_code == 403
    assert (await client.get(f"/{NAR_URL}")).status_code == 404


async def test_a_cache_is_listed(client: httpx.AsyncClient) -> None:
    await client.put(f"/nix/{NAR_URL}", content=NAR)
    listed = await client.request("PROPFIND", "/nix/nar/", headers={"depth": "1"})
    assert NAR_URL in listed.text


async def test_each_prefix_has_one_store_directory(client: httpx.AsyncClient) -> None:
    other = "StoreDir: /other/store\n"
    assert (await client.put("/nix-cache-info", content=INFO)).status_code == 200
    assert (await client.put("/nix-cache-info", content=INFO)).status_code == 200
    assert (await client.put("/nix-cache-info", content=other)).status_code == 409
    assert (await client.put("/x/nix-cache-info", content=other)).status_code == 200
    assert (await client.put("/y/nix-cache-info", content="x")).status_code == 400


def test_base32_is_read() -> None:
    assert sha256_of("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73") == (
        hashlib.sha256(b"").hexdigest()
    )


def test_lines() -> None:
    assert fields_of(b"A: 1\nB: x: y\n\nA: 2") == {"A": "2", "B": "x: y"}
    assert fields_of(b"A 1") is None


@pytest.mark.parametrize("coding", ["br", "xz", "lz4"])
async def test_what_nix_compressed_stays_as_it_came(client: httpx.AsyncClient, coding: str) -> None:
    """`ls-compression` and `log-compression`, which new versions of Nix have."""
    for path in (f"/{HASH}.ls", f"/log/{HASH}-name.drv"):
        headers = {"content-encoding": coding}
        put = await client.put(path, content=b"coded" * 500, headers=headers)
        assert put.status_code == 200, put.text
        for asked in ("identity", "zstd", coding):
            async with client.stream("GET", path, headers={"accept-encoding": asked}) as answer:
                assert answer.headers["content-encoding"] == coding
                assert b"".join([part async for part in answer.aiter_raw()]) == b"coded" * 500
        assert (await client.head(path)).headers["content-encoding"] == coding


async def test_a_copy_has_the_encoding(client: httpx.AsyncClient) -> None:
    await client.put("/a/one", content=b"coded", headers={"content-encoding": "lz4"})
    to = {"destination": "/a/two"}
    assert (await client.request("COPY", "/a/one", headers=to)).status_code == 201
    assert (await client.get("/a/two")).headers["content-encoding"] == "lz4"
    assert (await client.put("/a/two", content=b"plain")).status_code == 200
    assert "content-encoding" not in (await client.get("/a/two")).headers


@pytest.mark.parametrize(
    ("coding", "pack"), [("xz", lzma.compress), ("bzip2", bz2.compress), ("gzip", gzip.compress)]
)
async def test_a_compressed_narinfo_is_looked_into(
    client: httpx.AsyncClient, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    """`narinfo-compression`."""
    headers = {"content-encoding": coding}
    url = f"/{HASH}.narinfo"
    for wrong in (pack(b"no narinfo"), pack(narinfo().encode())[:-4], b"rubbish"):
        assert (await client.put(url, content=wrong, headers=headers)).status_code == 400
    large = pack(b"x" * 1_000_000)
    assert (await client.put(url, content=large, headers=headers)).status_code == 413
    good = await client.put(url, content=pack(narinfo().encode()), headers=headers)
    assert good.status_code == 200, good.text
    await client.put(f"/{NAR_URL}", content=NAR)
    assert (await client.get(url)).text == narinfo()
    assert "content-encoding" not in (await client.get(url)).headers


async def test_a_narinfo_that_cannot_be_looked_into(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        f"/{HASH}.narinfo", content=b"coded", headers={"content-encoding": "br"}
    )
    assert answer.status_code == 415
    assert "narinfo-compression" in answer.text
