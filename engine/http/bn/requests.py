"""JSON in requests and answers of bn's own protocol: bounded, and of one form."""

from __future__ import annotations

import json
from typing import Any, Final

from engine.http.message import Failure, Request, Response
from store.digest import Digest, is_digest

DIGESTS_MOST: Final = 50_000
"""Digests in a request."""

CANDIDATES_MOST: Final = 10_000
"""Results or realisations in a request."""

_DIGESTS_BYTES: Final = 4 * 2**20
_JSON_BYTES: Final = 16 * 2**20

_VALUES_MOST: Final = 1_000_000
"""Values in a request's JSON: each takes much more memory than on the wire."""

JSON: Final = {"content-type": "application/json"}

MISS: Final = Response(404, b'{"error":"not found","hint":""}\n', JSON, "miss")


def answer(value: object, outcome: str = "", status: int = 200) -> Response:
    """Return a response in JSON."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Response(status, text.encode(), JSON, outcome)


def digest_of(text: str) -> Digest:
    """Return the digest that `text` is. Raises Failure(400)."""
    if not is_digest(text):
        raise Failure(400, f"{text[:80]!r} is no digest", "64 lower-case hexadecimal digits")
    return Digest(text)


async def digests_in(request: Request) -> list[Digest]:
    """Return the digests in a request's body, each once. Raises Failure(400, 413)."""
    digests = await _listed(request, "digests", DIGESTS_MOST, _DIGESTS_BYTES)
    for digest in digests:
        if not isinstance(digest, str):
            raise Failure(400, "`digests` holds something that is no digest")
    return [digest_of(digest) for digest in dict.fromkeys(digests)]


async def candidates_in(request: Request, name: str) -> list[Any]:
    """Return what a request's body lists under `name`. Raises Failure(400, 413)."""
    return await _listed(request, name, CANDIDATES_MOST, _JSON_BYTES)


async def json_in(request: Request, limit: int = _JSON_BYTES) -> Any:
    """Return the JSON in a request's body of at most `limit` bytes. Raises Failure(400, 413)."""
    data = await request.body.read(limit)
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > _VALUES_MOST:
        raise Failure(413, f"about {values} values in a request", "send several requests")
    try:
        return json.loads(data)
    except RecursionError:
        raise Failure(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise Failure(400, f"the body is no JSON: {error}") from None


async def _listed(request: Request, name: str, most: int, limit: int) -> list[Any]:
    value = await json_in(request, limit)
    if not isinstance(value, dict) or value.keys() != {name} or not isinstance(value[name], list):
        raise Failure(400, "the body has another form", f'{{"{name}": […]}}')
    if len(value[name]) > most:
        raise Failure(
            413, f"{len(value[name])} {name} in a request", f"ask for up to {most} at once"
        )
    listed: list[Any] = value[name]
    return listed
