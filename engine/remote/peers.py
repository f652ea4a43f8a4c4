"""The remotes of a build, in order: who can still be asked, and what is told of them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from engine.remote.client import Client, GivenUp
from engine.remote.settings import RemoteSpec
from engine.timeline.events import Event, RemoteGivenUp, TokenWithheld
from store.errors import BnError
from store.records import define, field


@define(eq=False)
class Peer:
    """One remote, and why it is not read from, or not written to, any more."""

    spec: RemoteSpec
    unread: str | None = None
    unwritten: str | None = None
    client: Client | None = None

    @property
    def name(self) -> str:
        """What it is called, and noted as."""
        return self.spec.base

    @property
    def readable(self) -> bool:
        """Whether it may be asked."""
        return self.spec.read and self.unread is None

    @property
    def writable(self) -> bool:
        """Whether something may be stored there."""
        return self.spec.write and self.unwritten is None


@define(eq=False)
class Peers:
    """All remotes; what happens with them is kept until somebody takes it, to be told."""

    all: Sequence[Peer]
    _events: deque[Event] = field(factory=deque)
    _lock: threading.Lock = field(factory=threading.Lock)

    def readable(self) -> list[Peer]:
        """Return those that may be asked."""
        return [peer for peer in self.all if peer.readable]

    def writable(self) -> list[Peer]:
        """Return those that may be given something."""
        return [peer for peer in self.all if peer.writable]

    def called(self, name: str) -> Peer | None:
        """Return the remote of that name, if it may be asked."""
        return next((peer for peer in self.all if peer.name == name and peer.readable), None)

    def client(self, peer: Peer) -> Client:
        """Return the client of a remote, within the loop. Raises GivenUp."""
        if peer.client is None:
            peer.client = Client(peer.spec)
            if peer.client.withheld:
                self.tell(TokenWithheld(remote=peer.name, reason=peer.client.withheld))
        return peer.client

    async def close(self) -> None:
        """Close all connections."""
        for peer in self.all:
            if peer.client is not None:
                await peer.client.close()

    def give_up(self, peer: Peer, error: GivenUp, *, writing: bool = False) -> None:
        """Do without a remote from here on, for reading or for writing; it is told once."""
        with self._lock:
            if (peer.unwritten if writing else peer.unread) is not None:
                return
            reason = str(error)
            told = reason in (peer.unread, peer.unwritten)
            if writing:
                peer.unwritten = reason
            else:
                peer.unread = reason
        if not told:
            doing = "writing" if writing else "reading"
            self.tell(RemoteGivenUp(remote=peer.name, doing=doing, reason=reason))

    def tell(self, event: Event) -> None:
        """Keep an event until it is taken; any thread may."""
        self._events.append(event)

    def take(self) -> Iterable[Event]:
        """Return what happened since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]


def given_up(group: BaseExceptionGroup[BaseException]) -> GivenUp:
    """Return why a remote is given up, of what went wrong at the same time; what is not for its
    sake is raised: an error of bn's own alone."""
    mine, others = group.split(GivenUp)
    if others is not None:
        for error in _leaves(others):
            if isinstance(error, BnError):
                raise error
        raise others
    assert mine is not None
    return next(error for error in _leaves(mine) if isinstance(error, GivenUp))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
