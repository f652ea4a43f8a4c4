"""Simple package indexes: project pages in HTML (PEP 503) and JSON (PEP 691)."""

from __future__ import annotations

import json
import posixpath
import re
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from attrs import frozen

from engine.sources.http import Page, shown
from store.errors import HostError

ACCEPT: Final = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.1"
)

_SDIST: Final = (".tar.gz", ".zip", ".tgz", ".tar.bz2", ".tar.xz")
"""Suffixes of source distributions, the preferred first."""

_PRE: Final = {"alpha": "a", "beta": "b", "c": "rc", "pre": "rc", "preview": "rc"}


@frozen
class Candidate:
    """A file that an index offers; `sha256` is what the index says it is, if it does."""

    name: str
    url: str
    sha256: str | None = None


def normalised(name: str) -> str:
    """Return a project's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def version_key(version: str) -> str:
    """Return a version in a form in which equal ones (PEP 440: `1.0` and `1.0.0`) are the same."""
    text = version.strip().lower().removeprefix("v").replace("_", "-")
    match = re.match(r"(?:\d+!)?\d+(?:\.\d+)*", text)
    if match is None:
        return text
    release, rest = match[0], text[match.end() :]
    rest = re.sub(r"[a-z]+", lambda word: _PRE.get(word[0], word[0]), rest)
    rest = re.sub(r"^[-.]?(a|b|rc)[-.]?", r"\1", rest)
    return re.sub(r"(\.0+)+$", "", release) + rest


def project_url(index: str, name: str) -> str:
    """Return the address of a project's page."""
    return f"{index.rstrip('/')}/{normalised(name)}/"


def candidates(page: Page, index: str) -> list[Candidate]:
    """Return the files on a project's page, in its order.

    Links may be relative; those on the index's own host get its credentials, as pip does it. Raises
    HostError where the page is not in the form that it claims.
    """
    try:
        rows = _json_rows(page) if "json" in page.content_type else _html_rows(page)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"{shown(page.url)}: malformed index page: {error}") from error
    found = []
    for name, link, sha256 in rows:
        url = urldefrag(_with_credentials(link, index))[0]
        found.append(
            Candidate(name or unquote(posixpath.basename(urlsplit(url).path)), url, sha256)
        )
    return found


def version_of(file_name: str, project: str) -> str | None:
    """Return the version in the name of one of the project's files, None where there is none."""
    stem = file_name
    for suffix in (*_SDIST, ".whl", ".egg", ".exe"):
        stem = stem.removesuffix(suffix)
    parts = stem.split("-")
    for number in range(1, len(parts)):
        if normalised("-".join(parts[:number])) == normalised(project):
            binary = file_name.endswith((".whl", ".egg", ".exe"))
            return parts[number] if binary else "-".join(parts[number:])
    return None


def sdists(found: list[Candidate], project: str, version: str) -> list[Candidate]:
    """Return the source distributions of exactly this version, the preferred form first."""
    wanted = version_key(version)
    matching = []
    for candidate in found:
        rank = next((n for n, s in enumerate(_SDIST) if candidate.name.endswith(s)), None)
        has = version_of(candidate.name, project)
        if rank is not None and has is not None and version_key(has) == wanted:
            matching.append((rank, candidate))
    return [candidate for _, candidate in sorted(matching, key=lambda item: item[0])]


def _with_credentials(link: str, index: str) -> str:
    parts, own = urlsplit(link), urlsplit(index)
    user, at, host = own.netloc.rpartition("@")
    if at and parts.netloc == host and parts.scheme == own.scheme:
        return urlunsplit(parts._replace(netloc=f"{user}@{host}"))
    return link


def _json_rows(page: Page) -> list[tuple[str, str, str | None]]:
    document: dict[str, Any] = json.loads(page.text)
    return [
        (
            str(file["filename"]),
            urljoin(page.url, file["url"]),
            file.get("hashes", {}).get("sha256"),
        )
        for file in document["files"]
    ]


def _html_rows(page: Page) -> list[tuple[str, str, str | None]]:
    parser = _Links()
    parser.feed(page.text)
    parser.close()
    base = urljoin(page.url, parser.base)
    rows: list[tuple[str, str, str | None]] = []
    for href in parser.links:
        link = urljoin(base, href)
        match = re.search(r"(?:^|&)sha256=([0-9a-fA-F]{64})", urlsplit(link).fragment)
        rows.append(("", link, match[1].lower() if match else None))
    return rows


class _Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.links.append(href)
        elif href and tag == "base" and not self.base:
            self.base = href
