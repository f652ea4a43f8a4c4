"""What commands say of remote caches at their end."""

from __future__ import annotations

from typing import Final

from engine.cli.asking import note
from engine.cli.console import given_up_line
from engine.remote.remotes import Remotes
from engine.request import ISOLATION, Request
from engine.timeline.events import Event, RemoteGivenUp, TokenWithheld
from engine.timeline.log import append
from executors.base import HERMETIC
from store.errors import InputError
from store.store import Store

QUIET_SECONDS: Final = 1.0
LONGEST_SECONDS: Final = 10.0
"""How long the end of a build waits for uploads without saying so, and at most."""


def end_uploads(store: Store, build: str) -> None:
    """Wait a little for what is still being uploaded, say what is not, and note it all in the
    timeline of `build`."""
    remotes = store.cas.upstream
    if not isinstance(remotes, Remotes):
        return
    try:
        if not remotes.wait_for_uploads(QUIET_SECONDS):
            waiting, _, _ = remotes.given()
            note(f"uploading {waiting} results")
            remotes.wait_for_uploads(LONGEST_SECONDS - QUIET_SECONDS)
    finally:
        append(store, build, tell_events(remotes))
        waiting, taken, lost = remotes.given()
        if waiting + lost:
            total = waiting + taken + lost
            note(f"{waiting + lost} of {total} results were not uploaded; bn push tries again")


def remotes_of(store: Store, asked: Request) -> Remotes:
    """Return the remote caches of a store for a command about them; raises InputError."""
    remotes = store.cas.upstream
    if not isinstance(remotes, Remotes):
        raise InputError(
            "no remote cache is configured", "name one in bn.toml under [[cache.remotes]]: url"
        )
    if ISOLATION[asked.executor] != HERMETIC:
        raise InputError("what ran without isolation is not shared")
    return remotes


def tell_events(remotes: Remotes) -> list[Event]:
    """Say which remotes were given up; return all that happened."""
    events = list(remotes.take_events())
    for event in events:
        if isinstance(event, RemoteGivenUp):
            note(given_up_line(event))
        elif isinstance(event, TokenWithheld):
            note(f"remote cache {event.remote}: {event.reason}")
    return events
