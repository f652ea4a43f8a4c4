"""Requests and responses as the protocols' adapters see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from enum import IntEnum
from typing import Final, Protocol

from attrs import Factory, define, field, frozen

DEFAULT_NAME_SPACE: Final = "default"


class Scope(IntEnum):
    """What a request needs to be allowed to do; each includes those before it."""

    NONE = 0
    """Nothing: anybody may ask (`/health`)."""
    READ = 1
    WRITE = 2
    ADMIN = 3


@frozen
class Identity:
    """Who asks: a token's or a certificate's name, what it may do, and in which name spaces.

    `name_spaces` is empty where it is all of them.
    """

    name: str
    scope: Scope
    name_spaces: frozenset[str] = frozenset()


ANYBODY: Final = Identity("", Scope.NONE)
"""Who shows neither token nor certificate."""


class Body(Protocol):
    """What a client sends; read once, as it comes."""

    length: int | None
    """Bytes to come, None where that shows at the end (chunked, or encoded on the wire)."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the parts as they come; raises Failure where the client stops or is too slow."""
        ...

    async def read(self, limit: int) -> bytes:
        """Return all of it; raises Failure(413) where that is more than `limit` bytes."""
        ...


@define
class Request:
    """A request. `path` is decoded, without empty parts, `.` and `..`, and without `/ns/NAME`."""

    method: str
    path: str
    """Begins with `/`; it ends with `/` where the client's did."""
    body: Body
    query: Mapping[str, list[str]] = field(factory=dict)
    headers: Mapping[str, str] = field(factory=dict)
    """By lower-case name; what came several times is joined by `, `."""
    name_space: str = DEFAULT_NAME_SPACE
    identity: Identity = ANYBODY
    peer: str = ""
    """The client's address."""
    base: str = ""
    """What the client wrote before `path`, as `/ns/NAME`: for links back."""

    def one(self, name: str) -> str | None:
        """Return the first value of a query parameter."""
        values = self.query.get(name)
        return values[0] if values else None


@frozen
class Stored:
    """Checked bytes of the store, to be sent once: short ones as `data`, others by `descriptor`.

    Who has it sends it or calls `close`.
    """

    digest: str
    size: int
    data: bytes | None = None
    descriptor: int = -1
    meta: Mapping[str, str] = Factory(dict)

    def close(self) -> None:
        """Close the descriptor, where there is one."""
        if self.descriptor >= 0:
            import os

            os.close(self.descriptor)


Content = bytes | Stored | AsyncIterator[bytes]


@frozen
class Response:
    """An answer. Length, date, connection, ranges, entity tag and encoding are the server's part.

    An iterator's bytes are sent in chunks; of a response to HEAD nothing but the head is sent.
    """

    status: int
    content: Content = b""
    headers: Mapping[str, str] = Factory(dict)
    outcome: str = ""
    """What it is in the access log and in metrics: `hit`, `miss`, `stored`, or nothing."""


class Failure(Exception):
    """What ends a request with another answer: status, what is wrong, and a hint."""

    def __init__(
        self,
        status: int,
        message: str,
        hint: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})


MISS: Final = Response(404, b"not found\n", {"content-type": "text/plain"}, "miss")
