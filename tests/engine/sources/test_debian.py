"""Tests of upstream tarballs from Debian mirrors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.sources import debian
from engine.sources.debian import Pool, known_pools, parse, parse_pools
from engine.sources.http import Patience, Web
from store.errors import HostError, InputError

if TYPE_CHECKING:
    from tests.engine.sources.conftest import Site

HASTY = Patience(attempts=1, connect=5, read=5)


def test_pools_by_component() -> None:
    text = "http://127.0.0.1/d contrib\nhttp://127.0.0.1/d main\ncdrom:x main\n"
    found = parse_pools(text + text)
    assert found == (Pool("http://127.0.0.1/d/", "main"), Pool("http://127.0.0.1/d/", "contrib"))
    assert found[0].directory("lua5.4") == "http://127.0.0.1/d/pool/main/l/lua5.4/"
    assert found[0].directory("libpng") == "http://127.0.0.1/d/pool/main/libp/libpng/"


@pytest.mark.parametrize("text", ["lua5.4=5.4.4-3", "lua5.4=1:5.4.4", "lua5.4=1:5.4.4-3+b1"])
def test_only_the_upstream_version_is_taken(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert 'debian = "lua5.4=5.4.4"' in caught.value.hint


async def test_the_first_form_that_there_is(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "/d/pool/main/p/pkg/"
    site.serve(f"{place}pkg_1.0~rc+ds.orig.tar.xz", b"xz")
    site.serve(place, b'<a href="pkg_1.0%7Erc+ds.orig.tar.xz">pkg_1.0~rc+ds.orig.tar.xz</a>')
    monkeypatch.setenv(debian.MIRROR_VARIABLE, f"{site.url}/none, {site.url}/d")
    async with Web(HASTY) as web:
        got = await debian.fetch(web, "pkg=1.0~rc+ds", str(tmp_path / "f"))
        assert got.size == 2
        with pytest.raises(InputError) as caught:
            await debian.fetch(web, "pkg=1.1", str(tmp_path / "g"))
    assert "1.0~rc+ds" in caught.value.hint


async def test_without_apt_and_without_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError) as caught:
        await known_pools({})
    assert debian.MIRROR_VARIABLE in caught.value.hint
