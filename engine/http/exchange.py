"""An exchange: what is to be counted and logged of one request and its answer."""

from __future__ import annotations

from itertools import count
from os import getpid
from typing import Final

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
