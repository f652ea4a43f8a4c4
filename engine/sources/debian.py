"""Upstream tarballs of Debian source packages, fetched from the mirrors that apt uses."""

from __future__ import annotations

import difflib
import os
import re
import subprocess
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import trio
from attrs import frozen

from engine.sources.http import Download, NotFoundError, Progress, Web
from store.errors import BnError, HostError, InputError

MIRROR_VARIABLE: Final = "BN_DEBIAN_MIRROR"
"""Addresses of mirrors, separated by commas, each with a component after a blank or `main`."""

_SOURCE: Final = re.compile(r"\s*([a-z0-9][a-z0-9+.-]+)\s*=\s*(\S+)\s*")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+~]+")
_SUFFIXES: Final = ("gz", "xz", "bz2")
_SCHEMES: Final = ("http://", "https://", "file://")


@frozen
class Pool:
    """A mirror's address, with a slash at its end, and one of its components."""

    mirror: str
    component: str

    def directory(self, source: str) -> str:
        """Return the address of the directory that holds the files of a source package."""
        prefix = source[:4] if source.startswith("lib") else source[:1]
        return f"{self.mirror}pool/{self.component}/{prefix}/{source}/"


def parse(text: str) -> tuple[str, str]:
    """Return source package and version of `SOURCE=UPSTREAM_VERSION`; raises InputError."""
    match = _SOURCE.fullmatch(text)
    if match is None:
        raise InputError(
            f"{text!r} is not of the form SOURCE=UPSTREAM_VERSION", 'as debian = "lua5.4=5.4.4"'
        )
    source, version = match[1], match[2]
    if _VERSION.fullmatch(version) is None:
        upstream = version.rpartition(":")[2].rpartition("-")[0] or version.rpartition(":")[2]
        raise InputError(
            f"{text!r}: {version!r} is not an upstream version",
            f'leave out epoch and Debian revision: debian = "{source}={upstream}"',
        )
    return source, version


async def fetch(web: Web, text: str, target: str, progress: Progress | None = None) -> Download:
    """Fetch the upstream tarball of `SOURCE=UPSTREAM_VERSION` into the new file `target`.

    Raises InputError where no mirror has it, HostError where none is known or does not answer.
    """
    source, version = parse(text)
    pools = await known_pools()
    for pool in pools:
        for suffix in _SUFFIXES:
            url = f"{pool.directory(source)}{source}_{version}.orig.tar.{suffix}"
            try:
                return await web.download(url, target, progress)
            except NotFoundError:
                continue
    raise await _missing(web, source, version, pools)


async def known_pools(environment: Mapping[str, str] = os.environ) -> tuple[Pool, ...]:
    """Return where to look, the component `main` first. Raises HostError where nothing is known."""
    if chosen := environment.get(MIRROR_VARIABLE):
        return parse_pools("\n".join(chosen.split(",")))
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(COMPONENT)"]
    try:
        done = await trio.run_process(
            [*command, "Created-By: Packages"],
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        pools = parse_pools(done.stdout.decode("utf-8", "replace"))
    except OSError:
        pools = ()
    if not pools:
        raise HostError(
            "no Debian mirror is known: apt is not installed here or has no sources",
            f"set {MIRROR_VARIABLE} to the address of a mirror, or fetch it with url = …",
        )
    return pools


def parse_pools(text: str) -> tuple[Pool, ...]:
    """Return the pools in lines of a mirror's address and, after a blank, its component."""
    pools = []
    for line in text.splitlines():
        mirror, _, component = line.strip().partition(" ")
        if mirror.startswith(_SCHEMES):
            pools.append(Pool(f"{mirror.rstrip('/')}/", component.strip() or "main"))
    return tuple(sorted(dict.fromkeys(pools), key=lambda pool: pool.component != "main"))


async def _missing(web: Web, source: str, version: str, pools: tuple[Pool, ...]) -> InputError:
    """Return the error that names the versions that the mirrors' listings show, where they do."""
    pattern = re.compile(rf"{re.escape(source)}_([^\s\"'<>/]+?)\.orig\.tar\.(?:gz|xz|bz2)\b")
    versions: dict[str, None] = {}
    for pool in pools:
        try:
            page = await web.page(pool.directory(source))
        except BnError:
            continue
        versions |= dict.fromkeys(pattern.findall(unquote(page.text)))
    message = f"no upstream tarball {source} {version} on the mirrors that apt uses"
    if not versions:
        return InputError(message, "check the name of the source package and the version")
    near = difflib.get_close_matches(version, versions, n=4, cutoff=0.3) or list(versions)[-4:]
    return InputError(message, f"there are: {', '.join(near)}")
