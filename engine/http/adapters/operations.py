"""`/health` and `/metrics`: what a load balancer and Prometheus ask."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import frozen

from engine import __version__
from engine.http.message import Failure, Identity, Request, Response, Scope
from engine.http.metrics import CONTENT_TYPE, NameSpace, Now, TierNow, exposition
from engine.http.observing import CountKey, Counts, Observer
from engine.http.reserve import quota_of
from store.action_cache import USED
from store.errors import BnError
from store.room import free_bytes
from store.tiers import LEVEL_NAMES, State, Tier

if TYPE_CHECKING:
    from engine.http.reserve import Reserve
    from engine.http.service import Service
    from store.store import Store

HEALTH: Final = "/health"
METRICS: Final = "/metrics"

FRESH_SECONDS: Final = 1.0
"""How long an answer about the store's health is good for: to find out writes to the disk."""


@frozen(kw_only=True)
class Health:
    """How the server is: `status` is ok, full (it reads, and refuses uploads), or failing."""

    status: str
    why: str
    writable: bool
    free: int
    """Bytes that may still be put on the store's disk."""

    @property
    def code(self) -> int:
        """The status of the answer: 503 where nothing can be served."""
        return 503 if self.status == "failing" else 200


class Operations:
    """The adapter of what those ask who run the server."""

    name = "operations"

    def __init__(
        self, observer: Observer, reserve: Reserve, *, workers: int = 1, started: float = 0.0
    ) -> None:
        """`started` is when the server was started (seconds since 1970), by default now."""
        self._observer = observer
        self._reserve = reserve
        self._workers = workers
        self._started = started or time.time()
        self._health: Health | None = None
        self._looked = 0.0

    def matches(self, request: Request) -> bool:
        """Take the two paths, whatever name space is asked for."""
        return request.path in (HEALTH, METRICS)

    def scope(self, request: Request) -> Scope:
        """Let anybody ask how the server is; numbers tell about name spaces."""
        return Scope.NONE if request.path == HEALTH else Scope.READ

    async def handle(self, request: Request, service: Service) -> Response:
        """Answer."""
        if request.method not in ("GET", "HEAD"):
            message = f"{request.method} is not for {request.path}"
            raise Failure(405, message, headers={"allow": "GET, HEAD"})
        if request.path == METRICS:
            self._observer.flush(now=True)
            text = await trio.to_thread.run_sync(self._metrics, service, request.identity)
            return Response(200, text, {"content-type": CONTENT_TYPE, "cache-control": "no-store"})
        health, now = self._health, trio.current_time()
        if health is None or now - self._looked >= FRESH_SECONDS:
            health = await trio.to_thread.run_sync(look, service.store, self._reserve)
            self._health, self._looked = health, now
        document: dict[str, Any] = {
            "status": health.status,
            "version": __version__,
            "writable": health.writable,
            "free": health.free,
            "uptime": round(time.time() - self._started, 3),
        }
        if health.why:
            document["why"] = health.why
        headers = {"content-type": "application/json", "cache-control": "no-store"}
        return Response(health.code, json.dumps(document).encode() + b"\n", headers)

    def _metrics(self, service: Service, identity: Identity) -> bytes:
        allowed = identity.name_spaces
        counts = self._observer.seen()
        spaces = {
            name: NameSpace(
                entries=usage.entries, bytes=usage.bytes, quota=quota_of(service.quotas, name)
            )
            for name, usage in service.entries.name_spaces().items()
            if not allowed or name in allowed
        }
        now = Now(
            version=__version__,
            started=self._started,
            workers=self._workers,
            name_spaces=spaces,
            tiers=tiers_now(service.store),
            refusing=self._reserve.is_short(),
        )
        return exposition(only(counts, allowed) if allowed else counts, now)


def only(counts: Counts, allowed: frozenset[str]) -> Counts:
    """Return what of the counts is about some name spaces, or about none."""
    from engine.http.metrics import COUNTERS

    return Counts(
        {key: row for key, row in counts.requests.items() if key[1] in allowed},
        {
            (what, of): value
            for (what, of), value in counts.counts.items()
            if COUNTERS.get(what, ("",))[0] != "name_space" or of in allowed
        },
        counts.gauges,
    )


def tiers_now(store: Store) -> Mapping[str, TierNow]:
    """Return how full the tiers are, by the index's count and their disks."""
    found = {}
    for tier in store.cas.tiers:
        free, limit = _room(tier)
        found[tier.name] = TierNow(
            level=LEVEL_NAMES[tier.level],
            used=store.index.number(f"{USED}{tier.name}") or 0,
            limit=limit,
            free=free,
            ok=tier.state is State.OK,
        )
    return found


def _room(tier: Tier) -> tuple[int, int]:
    try:
        return free_bytes(tier.root), tier.limit()
    except OSError:
        return 0, 0


def look(store: Store, reserve: Reserve) -> Health:
    """Find out how the store is, by reading and writing it."""
    writable, why = True, ""
    try:
        store.cas.primary.try_out()
    except (BnError, OSError) as error:
        writable, why = False, f"the store cannot be written: {error}"
    try:
        store.index.number("health")
        if not store.cas.primary.in_place():
            raise FileNotFoundError(f"{store.cas.primary.root} is gone")
    except (BnError, OSError) as error:
        why = f"the store cannot be read: {error}"
        return Health(status="failing", why=why, writable=False, free=reserve.free)
    short = reserve.is_short()
    if short and writable:
        why = "the store's disk is full: uploads are refused"
    status = "ok" if writable and not short else "full"
    return Health(status=status, why=why, writable=writable and not short, free=reserve.free)


def totals(service: Service) -> Mapping[CountKey, float]:
    """Return what the service of this process counted, for `Observer.totals`."""
    told: dict[CountKey, float] = {
        ("damaged", ""): service.counts.damaged,
        ("freed_bytes", ""): service.freed,
    }
    for name_space, gone in service.evicted.items():
        told["evicted_entries", name_space] = gone.entries
        told["evicted_bytes", name_space] = gone.bytes
    for name_space, seconds in dict(service.counts.saved).items():
        told["saved_seconds", name_space] = seconds
    return told
