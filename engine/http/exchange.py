"""An exchange: what is to be counted and logged of one request and its answer."""

from __future__ import annotations

from itertools import count
from os import getpid
from time import perf_counter
from typing import TYPE_CHECKING, Final

from engine.http.hooks import Ended

if TYPE_CHECKING:
    from engine.http.hooks import Counter, Log

_numbers: Final = count(1)


class Exchange:
    """A request under way; filled in as it goes."""

    __slots__ = (
        *("adapter", "head_size", "identity", "method", "name_space", "number", "outcome"),
        *("path", "received", "started", "status", "uploading", "why"),
    )

    def __init__(self, started: float) -> None:
        self.started = started
        self.number = next(_numbers)
        self.method = ""
        self.path = ""
        self.adapter = ""
        self.name_space = ""
        self.identity = ""
        self.status = 0
        self.outcome = ""
        self.why = ""
        self.received = 0
        self.uploading = False
        self.head_size = 0
        """Bytes that the connection will have sent when the head of the answer is sent."""

    @property
    def request(self) -> str:
        """The request's id: of this process, and its number there."""
        return f"{getpid():x}-{self.number:x}"


def tell(exchange: Exchange, peer: str, sent: int, counter: Counter, log: Log | None) -> None:
    """Count and log an exchange that has ended; `sent` is all that its connection ever sent."""
    seconds = perf_counter() - exchange.started
    content = max(0, sent - exchange.head_size) if exchange.head_size else 0
    ended = Ended(
        adapter=exchange.adapter,
        name_space=exchange.name_space,
        method=exchange.method,
        status=exchange.status,
        received=exchange.received,
        sent=content,
        seconds=seconds,
        outcome=exchange.outcome,
    )
    counter.request(ended)
    if log is not None:
        ended.peer = peer
        ended.identity = exchange.identity
        ended.path = exchange.path
        ended.request = exchange.request
        ended.why = exchange.why
        log.line(ended)
