"""Tests of package indexes, as pip is set up to use them."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.sources import pip_config, pypi
from engine.sources.http import Download, Page, Patience, Web
from engine.sources.pip_config import index_urls, parse_config
from engine.sources.simple_index import candidates, sdists, version_key, version_of
from store.errors import HostError, InputError

if TYPE_CHECKING:
    from tests.engine.sources.conftest import Site

HASTY = Patience(attempts=1, connect=5, read=5)
HTML = '<!DOCTYPE html><title>x</title><a href="{}">{}</a>'


def use_indexes(monkeypatch: pytest.MonkeyPatch, *urls: str) -> None:
    async def chosen() -> tuple[str, ...]:
        return urls

    monkeypatch.setattr(pypi, "index_urls", chosen)


async def fetch(tmp_path: Path, requirement: str, sha256: str | None = None) -> Download:
    async with Web(HASTY) as web:
        return await pypi.fetch(web, requirement, sha256, str(tmp_path / "got"))


async def test_a_relative_link_of_a_html_index(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = HTML.format("../../files/My_Pkg-1.0.tar.gz#sha256=" + "a" * 64, "My_Pkg-1.0.tar.gz")
    site.serve("/simple/my-pkg/", link.encode(), "text/html")
    site.serve("/files/My_Pkg-1.0.tar.gz", b"sdist")
    use_indexes(monkeypatch, f"{site.url}/simple/")
    assert (await fetch(tmp_path, "my.pkg==1.0.0")).size == 5


async def test_a_json_index_is_asked_for_and_understood(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = []
    page = json.dumps(
        {
            "files": [
                {"filename": "p-1.0.zip", "url": "/f/p-1.0.zip", "hashes": {"sha256": "b" * 64}}
            ]
        }
    )
    site.serve("/simple/p/", page.encode(), "application/vnd.pypi.simple.v1+json")
    answer = site.routes["/simple/p/"]

    def listen(handler: BaseHTTPRequestHandler) -> None:
        accepted.append(handler.headers["Accept"])
        answer(handler)

    site.routes["/simple/p/"] = listen
    site.serve("/f/p-1.0.zip", b"zip")
    use_indexes(monkeypatch, f"{site.url}/simple")
    assert (await fetch(tmp_path, "p==1.0")).size == 3
    assert accepted[0].startswith("application/vnd.pypi.simple.v1+json")


async def test_credentials_of_the_index_go_to_its_own_files(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guarded(body: bytes) -> None:
        def route(handler: BaseHTTPRequestHandler) -> None:
            seen.append((handler.path, handler.headers.get("Authorization")))
            handler.send_response(200)
            handler.send_header("Content-Type", "text/html")
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        site.routes["/f" if body == b"sdist" else "/s/p/"] = route

    seen: list[tuple[str, str | None]] = []
    guarded(HTML.format(f"{site.url}/f#egg", "p-1.tar.gz").replace("/f#", "/p-1.tar.gz#").encode())
    guarded(b"sdist")
    site.routes["/p-1.tar.gz"] = site.routes["/f"]
    use_indexes(monkeypatch, site.url.replace("//", "//me:pass@") + "/s")
    await fetch(tmp_path, "p==1")
    expected = "Basic " + base64.b64encode(b"me:pass").decode()
    assert seen == [("/s/p/", expected), ("/p-1.tar.gz", expected)]


async def test_local_indexes_and_missing_projects(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "simple"
    (local / "p").mkdir(parents=True)
    (local / "p" / "index.html").write_text(HTML.format("p-2.tar.gz", "p-2.tar.gz"))
    (local / "p" / "p-2.tar.gz").write_bytes(b"two")
    use_indexes(monkeypatch, site.url, (tmp_path / "none").as_uri(), local.as_uri())
    assert (await fetch(tmp_path, "p==2")).size == 3
    with pytest.raises(InputError, match="no package 'q'"):
        await fetch(tmp_path, "q==1")
    with pytest.raises(InputError, match="no version 2\\.1") as caught:
        await fetch(tmp_path, "p==2.1")
    assert "2" in caught.value.hint


async def test_the_digest_decides_between_indexes(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, letter in (("one", "a"), ("two", "b")):
        link = HTML.format(f"p-1.tar.gz#sha256={letter * 64}", "p-1.tar.gz").encode()
        site.serve(f"/{name}/p/", link, "text/html")
        site.serve(f"/{name}/p/p-1.tar.gz", name.encode())
    use_indexes(monkeypatch, f"{site.url}/one", f"{site.url}/two")
    await fetch(tmp_path, "p==1", "b" * 64)
    assert (tmp_path / "got").read_text() == "two"
    await fetch(tmp_path, "p==1", "c" * 64)
    assert (tmp_path / "got").read_text() == "one"


async def test_an_index_that_is_down_is_reported_only_if_no_other_has_it(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.routes["/down/p/"] = lambda handler: handler.send_error(500)
    site.serve("/up/p/", HTML.format("p-1.tar.gz", "").encode(), "text/html")
    site.serve("/up/p/p-1.tar.gz", b"x")
    use_indexes(monkeypatch, f"{site.url}/down", f"{site.url}/up")
    await fetch(tmp_path, "p==1")
    with pytest.raises(HostError, match="500"):
        await fetch(tmp_path, "p==2")


async def test_only_built_distributions(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.serve("/p/", HTML.format("p-1.0-py3-none-any.whl", "").encode(), "text/html")
    use_indexes(monkeypatch, site.url)
    with pytest.raises(InputError, match="no source distribution"):
        await fetch(tmp_path, "p==1.0")


def test_versions_in_file_names() -> None:
    assert version_of("Foo_Bar-1.0.tar.gz", "foo.bar") == "1.0"
    assert version_of("foo-bar-1.0-1.zip", "foo-bar") == "1.0-1"
    assert version_of("foo-bar-1.0.tar.gz", "foo") == "bar-1.0"
    assert version_of("foo-1.0-py3-none-any.whl", "foo") == "1.0"
    assert version_of("other-1.0.tar.gz", "foo") is None
    assert version_key("1.0") == version_key("v1.0.0") == version_key("1")
    assert version_key("1.0-beta.2") == version_key("1b2")
    assert version_key("1.10") != version_key("1.1")


def test_the_preferred_form_comes_first() -> None:
    links = "".join(f'<a href="/f/p-1.{kind}">x</a>' for kind in ("zip", "tar.gz", "whl"))
    page = Page("http://127.0.0.1/p/", "text/html", f'<base href="http://127.0.0.2/">{links}')
    found = sdists(candidates(page, "http://127.0.0.1"), "p", "1")
    assert [c.url for c in found] == ["http://127.0.0.2/f/p-1.tar.gz", "http://127.0.0.2/f/p-1.zip"]


def test_a_malformed_page_is_the_servers_fault() -> None:
    with pytest.raises(HostError, match="malformed"):
        candidates(Page("http://127.0.0.1/p/", "application/json", "[]"), "http://127.0.0.1")


LISTING = """global.index-url='http://127.0.0.1/global'
install.index-url='http://127.0.0.1/install'
:env:.extra-index-url='http://127.0.0.1/a\\nhttp://127.0.0.1/b'
freeze.timeout='10'
"""


def test_pips_configuration() -> None:
    assert parse_config(LISTING) == {
        "index-url": "http://127.0.0.1/install",
        "extra-index-url": "http://127.0.0.1/a\nhttp://127.0.0.1/b",
    }


async def test_where_indexes_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pip(*arguments: str) -> str:
        return LISTING if "config" in arguments else "http://127.0.0.1/default\n"

    async def fresh_pip(*arguments: str) -> str:
        return "" if "config" in arguments else "http://127.0.0.1/default\n"

    async def no_pip(*arguments: str) -> str:
        return ""

    monkeypatch.setattr(pip_config, "_pip", pip)
    extra = ("http://127.0.0.1/a", "http://127.0.0.1/b")
    assert await index_urls({}) == ("http://127.0.0.1/install", *extra)
    assert (await index_urls({"PIP_INDEX_URL": "http://127.0.0.1/mine"}))[0].endswith("mine")
    monkeypatch.setattr(pip_config, "_pip", fresh_pip)
    assert await index_urls({}) == ("http://127.0.0.1/default",)
    assert await index_urls({"UV_DEFAULT_INDEX": extra[0]}) == extra[:1]
    monkeypatch.setattr(pip_config, "_pip", no_pip)
    with pytest.raises(HostError) as caught:
        await index_urls({})
    assert "PIP_INDEX_URL" in caught.value.hint
