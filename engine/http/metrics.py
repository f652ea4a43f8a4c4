"""What `/metrics` tells, in the text format of Prometheus."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from attrs import Factory, frozen
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from engine.http.observing import BOUNDS, Counts

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

COUNTERS: Final = {
    "evicted_entries": ("name_space", "Entries removed because the name space was over its quota"),
    "evicted_bytes": ("name_space", "Bytes of the entries that were evicted"),
    "expired_entries": ("", "Entries removed because they were not used for long"),
    "freed_bytes": ("", "Bytes of blobs that the collector removed"),
    "collections": ("", "Runs of the collector"),
    "damaged": ("", "Blobs set aside because their bytes were not what their digest says"),
    "failures": ("what", "What went wrong inside, by what it was"),
    "log_lines_dropped": ("", "Lines of the access log that were left out"),
    "refused": ("reason", "Requests and connections refused, by the limit that they met"),
    "saved_seconds": ("name_space", "Seconds of work that hits saved, as clients said"),
}
"""Counters that `Observer.count` knows: their label, and what they are."""

_OUTCOMES: Final = {
    "hit": ("bn_hits", "Requests for entries that were there"),
    "miss": ("bn_misses", "Requests for entries that were not there"),
    "stored": ("bn_stored", "Requests that stored something"),
}
_COUNT, _RECEIVED, _SENT, _SECONDS, _FIRST = range(5)


@frozen(kw_only=True)
class NameSpace:
    """How full a name space is: entries, their bytes, the most bytes that it may hold."""

    entries: int
    bytes: int
    quota: int | None = None


@frozen(kw_only=True)
class TierNow:
    """A tier now: its level's name, bytes that it holds, that it may hold, free on its disk."""

    level: str
    used: int
    limit: int
    free: int
    ok: bool


@frozen(kw_only=True)
class Now:
    """What is told beside the counts; `started` in seconds since 1970."""

    version: str
    started: float
    workers: int = 1
    name_spaces: Mapping[str, NameSpace] = Factory(dict)
    tiers: Mapping[str, TierNow] = Factory(dict)
    refusing: bool = False
    """Whether uploads are refused because the disk is full."""


def exposition(counts: Counts, now: Now) -> bytes:
    """Return the text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Told([*_requests(counts), *_counters(counts), *_gauges(counts, now)]))
    return generate_latest(registry)


class _Told(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _requests(counts: Counts) -> Iterator[Metric]:
    labels = ("adapter", "name_space", "method", "status")
    requests = _counter("bn_requests", "Requests that were answered", labels)
    requests_by: defaultdict[tuple[str, ...], float] = defaultdict(float)
    by_place: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    by_method: dict[tuple[str, str], list[float]] = {}
    by_outcome: defaultdict[tuple[str, str, str], float] = defaultdict(float)
    for (adapter, name_space, method, status, outcome), row in counts.requests.items():
        requests_by[adapter, name_space, method, str(status)] += row[_COUNT]
        by_outcome[outcome, adapter, name_space] += row[_COUNT]
        place = by_place[adapter, name_space]
        place[0] += row[_RECEIVED]
        place[1] += row[_SENT]
        mine = by_method.setdefault((adapter, method), [0.0] * len(row))
        by_method[adapter, method] = [a + b for a, b in zip(mine, row, strict=True)]
    for key in sorted(requests_by):
        requests.add_metric(key, requests_by[key])
    yield requests
    for outcome, (name, what) in _OUTCOMES.items():
        family = _counter(name, what, ("adapter", "name_space"))
        for (said, *place_of), value in sorted(by_outcome.items()):
            if said == outcome:
                family.add_metric(place_of, value)
        yield family
    for index, name, what in (
        (0, "bn_received_bytes", "Bytes of request bodies, as they came"),
        (1, "bn_sent_bytes", "Bytes of response bodies, as they went"),
    ):
        family = _counter(name, what, ("adapter", "name_space"))
        for place_key in sorted(by_place):
            family.add_metric(place_key, by_place[place_key][index])
        yield family
    yield _latency(by_method)


def _latency(rows: Mapping[tuple[str, str], list[float]]) -> Metric:
    what = "Seconds from the end of a request's head to the end of its answer"
    family = HistogramMetricFamily("bn_request_seconds", what, labels=("adapter", "method"))
    names = [*map(str, BOUNDS), "+Inf"]
    for key in sorted(rows):
        row = rows[key]
        buckets = list(zip(names, itertools.accumulate(row[_FIRST:]), strict=True))
        family.add_metric(key, buckets, row[_SECONDS])
    return family


def _counters(counts: Counts) -> Iterator[Metric]:
    for name, (label, what) in COUNTERS.items():
        family = _counter(f"bn_{name}", what, (label,) if label else ())
        found = sorted((of, value) for (said, of), value in counts.counts.items() if said == name)
        for of, value in found:
            family.add_metric((of,) if label else (), value)
        if not found and not label:
            family.add_metric((), 0)
        yield family


def _gauges(counts: Counts, now: Now) -> Iterator[Metric]:
    for name, what, value in (
        ("connections", "Open connections", counts.gauges.get(("connections", ""), 0)),
        ("uploads", "Uploads that are coming in", counts.gauges.get(("uploads", ""), 0)),
        ("workers", "Processes that serve", now.workers),
        ("start_time_seconds", "When the server was started, in seconds since 1970", now.started),
        ("refusing_uploads", "1 while uploads are refused as the disk is full", now.refusing),
    ):
        yield GaugeMetricFamily(f"bn_{name}", what, value=value)
    yield _gauge("bn_build_info", "The server's version", "version", {now.version: 1})
    spaces = now.name_spaces
    held = {name: space.entries for name, space in spaces.items()}
    yield _gauge("bn_entries", "Entries held", "name_space", held)
    held = {name: space.bytes for name, space in spaces.items()}
    yield _gauge("bn_entries_bytes", "Bytes of the entries held", "name_space", held)
    quotas = {name: space.quota for name, space in spaces.items() if space.quota is not None}
    yield _gauge("bn_quota_bytes", "Bytes that a name space may hold", "name_space", quotas)
    for name, what in (
        ("used", "Bytes of blobs that a tier holds"),
        ("limit", "Bytes that a tier may hold"),
        ("free", "Bytes free on a tier's disk"),
    ):
        family = GaugeMetricFamily(f"bn_tier_{name}_bytes", what, labels=("tier", "level"))
        for tier, it in now.tiers.items():
            family.add_metric((tier, it.level), getattr(it, name))
        yield family
    up = {tier: int(it.ok) for tier, it in now.tiers.items()}
    yield _gauge("bn_tier_up", "1 where a tier can be written", "tier", up)


def _counter(name: str, what: str, labels: Iterable[str]) -> CounterMetricFamily:
    return CounterMetricFamily(name, what, labels=tuple(labels))


def _gauge(name: str, what: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=(label,))
    for of in sorted(values):
        family.add_metric((of,), values[of])
    return family
