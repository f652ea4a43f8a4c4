"""The network to an address, by HTTP: latency of HEAD, bandwidth of GET, and a score."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from engine.resources.benchmark.cpu import Say
from engine.resources.benchmark.results import Measure, measure
from store.errors import HostError, InputError

if TYPE_CHECKING:
    import httpx

REQUESTS: Final = 10
SECONDS: Final = 3.0
BYTES: Final = 256 * 2**20
"""Bounds on what is read to tell the bandwidth: whichever is reached first."""

ENOUGH: Final = 4 * 2**20
"""Bytes from which on a body tells the bandwidth; with less it is at least what is told."""

TIMEOUT: Final = 10.0


def score(latency: float, bandwidth: float | None) -> int:
    """Return the score from 0 to 1000: half by latency, half by bandwidth.

    The formula is ours, as that of storage: logarithmic from 300 ms to 0.1 ms, and from 1 MB/s to
    1.25 GB/s, which are a bad mobile link and 10 Gb/s in the same rack. Without a bandwidth the
    latency counts alone.
    """
    near = _part(1 / latency, 1 / 0.3, 1e4)
    return round(1000 * (near if bandwidth is None else (near + _part(bandwidth, 1e6, 1.25e9)) / 2))


def _part(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, math.log(value / low) / math.log(high / low)))


def measure_network(
    url: str, say: Say, requests: int = REQUESTS, seconds: float = SECONDS
) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """Measure the way to an address; raises InputError and HostError.

    HEAD is asked on a connection that is open already, so latency is one round trip and what the
    server takes. Any answer will do for it; a bandwidth needs a body, read over and over.
    """
    import httpx

    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no address", "write it as http://host:port/ or https://…")
    say(f"network: {url}")
    try:
        with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
            began = time.perf_counter()
            client.head(url)
            connect = time.perf_counter() - began
            waits = [_head(client, url) for _ in range(requests)]
            bandwidth, largest = _read(client, url, seconds)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
        raise InputError(f"{url}: {error}", "write it as http://host:port/") from error
    except httpx.HTTPError as error:
        raise HostError(
            f"{url}: {str(error) or type(error).__name__}", "is it reachable?"
        ) from error
    latency = measure("network.latency", "s", waits)
    measures = [latency, measure("network.connect", "s", [connect])]
    notes = []
    if bandwidth is None:
        notes.append("no body to read at this address: the score is by latency alone")
    else:
        measures.append(measure("network.bandwidth", "B/s", [bandwidth]))
        if largest < ENOUGH:
            notes.append("the body is small: bandwidth is at least what is told")
    points = float(score(latency.value, bandwidth))
    return (measure("network.score", "points", [points]), *measures), tuple(notes)


def _head(client: httpx.Client, url: str) -> float:
    began = time.perf_counter()
    client.head(url)
    return time.perf_counter() - began


def _read(client: httpx.Client, url: str, seconds: float) -> tuple[float | None, int]:
    """Return bytes a second of bodies read until time or bytes are up, and the largest body."""
    began = time.perf_counter()
    total, largest = 0, 0
    while total < BYTES and time.perf_counter() - began < seconds:
        size = 0
        with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
            if not answer.is_success:
                return None, 0
            for chunk in answer.iter_raw():
                size += len(chunk)
                if total + size >= BYTES or time.perf_counter() - began >= seconds:
                    break
        total += size
        largest = max(largest, size)
        if not size:
            return None, 0
    return total / (time.perf_counter() - began), largest
