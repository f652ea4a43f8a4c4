"""Closures: all that trees consist of, in one answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engine.http.bn.requests import JSON, MISS, digests_in
from engine.http.bn.walk import Known, Walk, document
from engine.http.message import Request, Response
from store.digest import Digest

if TYPE_CHECKING:
    from engine.http.service import Service


async def get_closure(
    request: Request, service: Service, digest: Digest, *, known: Known
) -> Response:
    """Answer with what one tree consists of."""
    walk = Walk(service, request.name_space, known)
    await walk.add([digest])
    if not walk.is_whole(digest):
        return MISS
    text = await _text(service, walk, [digest])
    return MISS if text is None else Response(200, b"{%s}" % text, JSON, "hit")


async def get_closures(request: Request, service: Service, *, known: Known) -> Response:
    """Answer with what many trees consist of, those that are not whole by name."""
    digests = await digests_in(request)
    walk = Walk(service, request.name_space, known)
    await walk.add(digests)
    whole = [digest for digest in digests if walk.is_whole(digest)]
    text = await _text(service, walk, whole)
    missing = ",".join(
        f'"{digest}"' for digest in digests if text is None or not walk.is_whole(digest)
    )
    if text is None:
        text = b'"blobs":[],"trees":{}'
    body = b'{%s,"missing":[%s]}' % (text, missing.encode())
    return Response(200, body, JSON, "hit" if whole else "miss")


async def _text(service: Service, walk: Walk, trees: Iterable[Digest]) -> bytes | None:
    """Return the JSON of whole trees and of their blobs; None where one went just now."""
    blobs: dict[Digest, int] = {}
    texts = []
    for tree in walk.all_below(trees):
        data = await document(service, walk.rows[tree])
        if data is None:
            return None
        texts.append(b'"%s":%s' % (tree.encode(), data))
        blobs.update(walk.below[tree].blobs)
    listed = ",".join(f'["{digest}",{size}]' for digest, size in blobs.items())
    return b'"blobs":[%s],"trees":{%s}' % (listed.encode(), b",".join(texts))
