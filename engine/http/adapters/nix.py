"""A Nix binary cache: `nix-cache-info`, `*.narinfo`, `nar/*` and what goes with them, by path.

These are files of the tree that other clients see, too, so that a cache can be synchronised by
WebDAV; but whoever stores one of them is held to what it has to be.
"""

from __future__ import annotations

import bz2
import lzma
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from engine.http.adapters.files import (
    BYTES,
    KIND,
    METHODS,
    READING,
    answer,
    as_it_came,
    guard,
    key_of,
    removed,
    scope_of,
    stored,
)
from engine.http.encodings import Foreign
from engine.http.message import MISS, Failure, Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service

PATH: Final = re.compile(
    r"(?P<prefix>(?:/.*)?/)(?:"
    r"(?P<info>nix-cache-info)"
    r"|(?P<narinfo>(?P<hash>[0-9a-df-np-sv-z]{32})\.narinfo)"
    r"|nar/(?P<sha256>[0-9a-df-np-sv-z]{52})\.nar(?:\.[0-9a-z]+)?"
    r"|nar/[^/]+\.nar(?:\.[0-9a-z]+)?"
    r"|[0-9a-df-np-sv-z]{32}\.ls"
    r"|log/[^/]+\.drv|realisations/[^/]+\.doi|debuginfo/[0-9a-f]{40}(?:\.debug)?)"
)
"""Nix's base 32 has no e, o, u, t. Archives are named by the SHA-256 of their bytes as sent."""

ALPHABET: Final = "0123456789abcdfghijklmnpqrsvwxyz"
MOST_TEXT: Final = 96 * 1024
"""Bytes of a narinfo, which the service always gives as bytes; each reference is some dozens."""
TYPES: Final = {
    "info": {"content-type": "text/x-nix-cache-info"},
    "narinfo": {"content-type": "text/x-nix-narinfo"},
}
DECODERS: Final[Mapping[str, Callable[[], bz2.BZ2Decompressor | lzma.LZMADecompressor]]] = {
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=64 << 20),
    "bzip2": bz2.BZ2Decompressor,
}
"""Encodings of narinfos, besides those that the server undoes for all."""
NEEDED: Final = ("StorePath", "URL", "NarHash", "NarSize")


class Nix:
    """Store paths of Nix; each prefix is a cache with a store directory of its own."""

    name = "nix"

    def matches(self, request: Request) -> bool:
        """Say whether the path is one of a binary cache's."""
        return request.method in METHODS and PATH.fullmatch(request.path) is not None

    def scope(self, request: Request) -> Scope:
        """Return READ for GET and HEAD."""
        return scope_of(request)

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer; a narinfo of which the archive is gone is a miss."""
        path = PATH.fullmatch(request.path)
        if path is None:
            raise Failure(404, f"{request.path}: nothing of a Nix binary cache")
        key = key_of(request)
        if request.method in READING:
            return await _get(request, service, path)
        if request.method == "DELETE":
            return removed(await service.remove(request.name_space, KIND, key))
        guard(request, service, KIND, key)
        if path["info"] or path["narinfo"]:
            data = await _plain(request)
            fields = fields_of(data)
            if path["info"]:
                await _check_info(request, service, fields)
            else:
                await _check_narinfo(request, service, path, fields)
            await service.put(request.name_space, KIND, key, data)
        elif path["sha256"]:
            checked = sha256_of(path["sha256"])
            await service.put(request.name_space, KIND, key, request.body, sha256=checked)
        else:
            body, meta = as_it_came(request)
            await service.put(request.name_space, KIND, key, body, meta=meta)
        return stored()


async def _plain(request: Request) -> bytes:
    """Return a text as it was before Nix encoded it (`narinfo-compression`).
    Raises Failure(400, 413, 415)."""
    body = request.body
    if not isinstance(body, Foreign):
        return await body.read(MOST_TEXT)
    decoder = DECODERS.get(body.coding)
    if decoder is None:
        raise Failure(
            415,
            f"{body.coding}: what is to be checked cannot be in that encoding",
            f"narinfo-compression may be zstd, gzip, {', '.join(DECODERS)} or none",
        )
    coded = await body.coded.read(MOST_TEXT)
    undone = decoder()
    try:
        data = undone.decompress(coded, MOST_TEXT + 1)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise Failure(400, f"the {body.coding} is malformed: {error}") from error
    if len(data) > MOST_TEXT:
        raise Failure(413, f"a text has at most {MOST_TEXT} bytes")
    if not undone.eof:
        raise Failure(400, f"the {body.coding} stops before its end")
    return data


async def _get(request: Request, service: Service, path: re.Match[str]) -> Response:
    found = await service.get(request.name_space, KIND, request.path)
    if found is None:
        return MISS
    if path["info"]:
        return answer(found, TYPES["info"])
    if not path["narinfo"]:
        return answer(found, BYTES)
    fields = fields_of(found.data or b"")
    url = fields.get("URL", "") if fields else ""
    if not service.is_there(request.name_space, KIND, [path["prefix"] + url]):
        found.close()
        return MISS
    return answer(found, TYPES["narinfo"])


async def _check_info(request: Request, service: Service, fields: dict[str, str] | None) -> None:
    """Hold an upload of nix-cache-info to its form, and to the store directory of the prefix."""
    if not fields or not fields.get("StoreDir", "").startswith("/"):
        raise Failure(400, "a nix-cache-info has a line “StoreDir: /…”")
    now = await _store_directory(request, service, request.path)
    if now is not None and now != fields["StoreDir"]:
        raise Failure(
            409,
            f"this cache is for {now}, not for {fields['StoreDir']}",
            "give each store directory a prefix of its own in the cache's address",
        )


async def _check_narinfo(
    request: Request, service: Service, path: re.Match[str], fields: dict[str, str] | None
) -> None:
    """Hold an upload of a narinfo to its form, name and store directory; raises Failure(400)."""
    if fields is None or any(not fields.get(name) for name in NEEDED):
        raise Failure(400, f"a narinfo has lines {', '.join(NEEDED)}")
    directory, _, name = fields["StorePath"].rpartition("/")
    if not directory.startswith("/") or not name.startswith(f"{path['hash']}-"):
        raise Failure(400, f"StorePath {fields['StorePath']} is not what {path['narinfo']} names")
    url = fields["URL"]
    if not PATH.fullmatch(f"/{url}") or not url.startswith("nar/") or ".." in url.split("/"):
        raise Failure(400, f"URL {url}: has to be nar/NAME.nar, or that with a compression's name")
    if not fields["NarSize"].isdigit() or not fields["NarHash"].startswith("sha256:"):
        raise Failure(400, "NarSize has to be a number, and NarHash sha256:…")
    wanted = await _store_directory(request, service, f"{path['prefix']}nix-cache-info")
    if wanted is not None and wanted != directory:
        raise Failure(400, f"StorePath {fields['StorePath']} is not in this cache's {wanted}")


async def _store_directory(request: Request, service: Service, key: str) -> str | None:
    """Return the StoreDir of a nix-cache-info, None where there is none yet."""
    data = await service.read(request.name_space, KIND, key, MOST_TEXT)
    fields = fields_of(data) if data is not None else None
    return fields.get("StoreDir") if fields else None


def fields_of(data: bytes) -> dict[str, str] | None:
    """Return the lines `Name: value` by name (of several, the last), None where one is no such."""
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError:
        return None
    fields = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon or not name.isalnum():
            return None
        fields[name] = value.strip()
    return fields


def sha256_of(text: str) -> str:
    """Return the hexadecimal form of 32 bytes in Nix's base 32: lowest bits last.

    Raises Failure(400) where the text stands for more than 32 bytes.
    """
    value = 0
    for character in text:
        value = value << 5 | ALPHABET.index(character)
    if value >> 256:
        raise Failure(400, f"{text}: no SHA-256 in base 32")
    return value.to_bytes(32, "little").hex()
