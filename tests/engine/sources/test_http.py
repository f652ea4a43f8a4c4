"""Tests of downloads."""

from __future__ import annotations

import errno
import hashlib
import os
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from engine.sources.http import NotFoundError, Patience, Web, shown
from store.errors import HostError, InputError

if TYPE_CHECKING:
    from tests.engine.sources.conftest import Site

BODY = bytes(range(256)) * 4000
HASTY = Patience(attempts=3, backoff=0.01, connect=5, read=5)


async def fetch(url: str, target: Path, patience: Patience = HASTY) -> str:
    async with Web(patience) as web:
        return (await web.download(url, str(target))).sha256


async def test_a_file_arrives_with_its_digest_and_progress(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    async with Web(HASTY) as web:
        got = await web.download(
            site.serve("/f", BODY), str(tmp_path / "f"), lambda *step: seen.append(step)
        )
    assert (tmp_path / "f").read_bytes() == BODY
    assert (got.sha256, got.size) == (hashlib.sha256(BODY).hexdigest(), len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)


async def test_a_redirect_is_followed(site: Site, tmp_path: Path) -> None:
    site.serve("/new", BODY)

    def moved(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/new")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    site.routes["/old"] = moved
    assert await fetch(f"{site.url}/old", tmp_path / "f") == hashlib.sha256(BODY).hexdigest()


async def test_a_server_error_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.serve("/f", BODY)
    answer = site.routes["/f"]

    def flaky(handler: BaseHTTPRequestHandler) -> None:
        if site.hits["/f"] < 3:
            handler.send_error(500)
        else:
            answer(handler)

    site.routes["/f"] = flaky
    assert await fetch(f"{site.url}/f", tmp_path / "f") == hashlib.sha256(BODY).hexdigest()
    assert site.hits["/f"] == 3


async def test_a_server_that_keeps_failing_is_the_hosts_fault(site: Site, tmp_path: Path) -> None:
    site.routes["/f"] = lambda handler: handler.send_error(503)
    with pytest.raises(HostError, match=r"503.*tried 3 times"):
        await fetch(f"{site.url}/f", tmp_path / "f")
    assert site.hits["/f"] == 3
    assert os.listdir(tmp_path) == []


async def test_what_is_not_there_is_asked_for_once(site: Site, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="404"):
        await fetch(f"{site.url}/missing", tmp_path / "f")
    assert site.hits["/missing"] == 1


async def test_a_refusal_is_an_input_error(site: Site, tmp_path: Path) -> None:
    site.routes["/f"] = lambda handler: handler.send_error(403)
    with pytest.raises(InputError, match="403") as caught:
        await fetch(f"{site.url}/f", tmp_path / "f")
    assert "credentials" in caught.value.hint


async def test_a_cut_off_is_noticed_and_nothing_stays(site: Site, tmp_path: Path) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1000])

    site.routes["/f"] = cut
    with pytest.raises(HostError, match="connection failed"):
        await fetch(f"{site.url}/f", tmp_path / "f")
    assert site.hits["/f"] == 3
    assert os.listdir(tmp_path) == []


async def test_a_silent_server_is_not_waited_for_forever(site: Site, tmp_path: Path) -> None:
    def silent(handler: BaseHTTPRequestHandler) -> None:
        site.closing.wait(20)

    site.routes["/f"] = silent
    hasty = Patience(attempts=2, backoff=0.01, connect=5, read=0.1)
    with pytest.raises(HostError, match="in time"):
        await fetch(f"{site.url}/f", tmp_path / "f", hasty)


async def test_nothing_stays_when_it_is_cancelled(site: Site, tmp_path: Path) -> None:
    def stall(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(BODY)))
        handler.end_headers()
        handler.wfile.write(BODY[:1000])
        site.closing.wait(20)

    site.routes["/f"] = stall
    begun = trio.Event()
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, Web(HASTY) as web:

            async def get() -> None:
                await web.download(
                    f"{site.url}/f", str(tmp_path / "f"), lambda done, total: begun.set()
                )

            nursery.start_soon(get)
            await begun.wait()
            assert os.listdir(tmp_path) == ["f"]
            nursery.cancel_scope.cancel()
    assert os.listdir(tmp_path) == []


async def test_a_server_that_is_down(site: Site, tmp_path: Path) -> None:
    url = f"{site.url}/f"
    site.shutdown()
    site.server_close()
    with pytest.raises(HostError, match="connection failed"):
        await fetch(url, tmp_path / "f")


async def test_a_full_disk_is_the_hosts_fault(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    url = site.serve("/f", BODY)
    with monkeypatch.context() as patch:
        patch.setattr("engine.sources.http.os.write", full)
        with pytest.raises(HostError, match="no space") as caught:
            await fetch(Path(__file__).as_uri(), tmp_path / "f")
    assert "BN_STORE" in caught.value.hint
    assert os.listdir(tmp_path) == []
    assert await fetch(url, tmp_path / "f")


async def test_local_files(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(BODY)
    url = (tmp_path / "a b").as_uri()
    assert await fetch(url, tmp_path / "f") == hashlib.sha256(BODY).hexdigest()
    with pytest.raises(NotFoundError):
        await fetch(f"{url}x", tmp_path / "g")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/f", "nonsense", "http://[::1"])
async def test_addresses_that_cannot_work(url: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot fetch"):
        await fetch(url, tmp_path / "f")


def test_credentials_are_not_shown() -> None:
    assert shown("https://user:secret@host:8/p?token=1#x") == "https://host:8/p"
