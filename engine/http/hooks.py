"""What the server asks others: who may do what, what to count, what to log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from attrs import define

from engine.http.message import ANYBODY, Identity, Scope

Certificate = Mapping[str, Any]
"""A client's checked certificate, as `ssl.SSLSocket.getpeercert` gives it."""


@define
class Ended:
    """A request that ended: what is counted and logged of it."""

    adapter: str
    name_space: str
    method: str
    status: int
    received: int
    """Bytes of its body, as they came on the wire."""
    sent: int
    """Bytes of the answer's body, as they went."""
    seconds: float
    """From the end of its head to the end of its answer."""
    outcome: str
    """`hit`, `miss`, `stored`, or nothing."""
    peer: str = ""
    identity: str = ""
    path: str = ""
    request: str = ""
    """Its id."""
    why: str = ""
    """What the answer said is wrong."""


class Gate(Protocol):
    """Access control."""

    def identify(self, headers: Mapping[str, str], certificate: Certificate | None) -> Identity:
        """Return who asks; raises Failure(401) where a token is shown that is not known."""
        ...

    def allow(self, identity: Identity, name_space: str, scope: Scope, peer: str) -> None:
        """Raise Failure (401 or 403) where that one may not do it there; `peer` is its address,
        `unix` for a socket in the file system."""
        ...


class Counter(Protocol):
    """What counts requests."""

    connections: int
    uploads: int

    def request(self, ended: Ended) -> None:
        """Count a request that ended."""
        ...

    def count(self, what: str, of: str = "", amount: float = 1) -> None:
        """Add to a counter."""
        ...


class Log(Protocol):
    """The access log."""

    def line(self, ended: Ended) -> None:
        """Note a request that ended."""
        ...


class Open:
    """A gate that is open to all: for tests, and for measuring the others."""

    def identify(self, headers: Mapping[str, str], certificate: Certificate | None) -> Identity:
        return ANYBODY

    def allow(self, identity: Identity, name_space: str, scope: Scope, peer: str) -> None:
        pass


class Uncounted:
    """A counter that counts nothing."""

    def __init__(self) -> None:
        self.connections = 0
        self.uploads = 0

    def request(self, *_: Any) -> None:
        pass

    def count(self, *_: Any) -> None:
        pass
