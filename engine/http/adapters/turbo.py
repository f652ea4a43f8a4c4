"""Turborepo's remote cache: `/v8/artifacts`, each team with artifacts of its own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from engine.http.adapters.files import BYTES, answer, stored
from engine.http.message import MISS, Failure, Request, Response, Scope

if TYPE_CHECKING:
    from engine.http.service import Service
    from store.entries import Row

KIND: Final = "turbo"
PATH: Final = re.compile(r"(?:/.*)?/v8/artifacts(?:/([0-9A-Za-z._-]{1,128}))?")
JSON: Final = {"content-type": "application/json"}
DURATION: Final = "x-artifact-duration"
TAG: Final = "x-artifact-tag"
KEPT: Final = (DURATION, TAG, "x-artifact-sha", "x-artifact-dirty-hash")
"""Headers of an upload that come back with every download."""
MOST_HEADER: Final = 1024
MOST_QUERY: Final = 4 << 20
"""Bytes of a list of hashes, or of events."""
MOST_HASHES: Final = 10_000
PREFLIGHT: Final = {
    "access-control-allow-methods": "GET, HEAD, PUT, POST, OPTIONS",
    "access-control-allow-headers": ", ".join(
        (
            *("Authorization", "Content-Type", "User-Agent", *KEPT),
            *("x-artifact-client-ci", "x-artifact-client-interactive"),
        )
    ),
}


class Turbo:
    """Artifacts by hash and team, with what the client said of them."""

    name = "turbo"

    def matches(self, request: Request) -> bool:
        """Say whether the path is of this interface."""
        return PATH.fullmatch(request.path.rstrip("/")) is not None

    def scope(self, request: Request) -> Scope:
        """Return WRITE for an upload; questions and events need READ, a preflight nothing."""
        if request.method == "OPTIONS":
            return Scope.NONE
        return Scope.WRITE if request.method == "PUT" else Scope.READ

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        path = PATH.fullmatch(request.path.rstrip("/"))
        name = path[1] if path is not None else None
        match request.method, name:
            case "OPTIONS", _:
                return Response(200, headers=PREFLIGHT)
            case "GET" | "HEAD", "status":
                return _json({"status": "enabled"})
            case "POST", "events":
                await request.body.read(MOST_QUERY)
                return _json({})
            case "POST", None:
                return _json(_asked(await request.body.read(MOST_QUERY), request, service))
            case "GET" | "HEAD", str(key):
                found = await service.get(request.name_space, KIND, _key(request, key))
                if found is None:
                    return MISS
                if request.method == "GET":
                    saved = int(found.meta.get(DURATION, "0")) / 1000
                    service.counts.save(request.name_space, saved)
                return answer(found, {**BYTES, **_kept(found.meta)})
            case "PUT", str(key) if key not in ("status", "events"):
                meta = _said(request)
                await service.put(
                    request.name_space, KIND, _key(request, key), request.body, meta=meta
                )
                return stored(json.dumps({"urls": []}).encode(), JSON)
        raise Failure(405, f"{request.method} is not served there")


def _key(request: Request, key: str) -> str:
    """Return the key of an artifact: a team's are its own, by id or else by slug."""
    team = request.one("teamId") or request.one("slug") or ""
    if len(team.encode()) > 200 or "/" in team:
        raise Failure(400, "a team's name has at most 200 bytes and no /")
    return f"{team}/{key}"


def _said(request: Request) -> dict[str, str]:
    """Return what an upload's headers say; raises Failure(400) where that cannot be kept."""
    said = {name: request.headers[name] for name in KEPT if name in request.headers}
    for name, value in said.items():
        if len(value) > MOST_HEADER or not value.isascii() or not value.isprintable():
            raise Failure(400, f"{name}: has to be at most {MOST_HEADER} printable characters")
    if DURATION in said and not (said[DURATION].isdigit() and len(said[DURATION]) < 16):
        raise Failure(400, f"{DURATION}: has to be a number of milliseconds")
    return said


def _kept(meta: Any) -> dict[str, str]:
    return {name: meta[name] for name in KEPT if name in meta}


def _asked(body: bytes, request: Request, service: Service) -> dict[str, Any]:
    """Return what is known of each hash that was asked for: null where nothing is."""
    try:
        hashes = json.loads(body)["hashes"]
    except (ValueError, RecursionError, KeyError, TypeError):
        hashes = None
    if not isinstance(hashes, list) or not all(isinstance(one, str) for one in hashes):
        raise Failure(400, 'the body has to be {"hashes": ["…"]}')
    if len(hashes) > MOST_HASHES:
        raise Failure(413, f"at most {MOST_HASHES} hashes at a time")
    return {
        one: None
        if not PATH.fullmatch(f"/v8/artifacts/{one}")
        else _about(service.find(request.name_space, KIND, _key(request, one)))
        for one in hashes
    }


def _about(row: Row | None) -> dict[str, Any] | None:
    if row is None:
        return None
    about: dict[str, Any] = {"size": row.size, "taskDurationMs": int(row.meta.get(DURATION, "0"))}
    if TAG in row.meta:
        about["tag"] = row.meta[TAG]
    return about


def _json(value: Any) -> Response:
    return Response(200, json.dumps(value).encode(), JSON)
