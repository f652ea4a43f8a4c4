"""`bn push`: what a spec came to given to the remote caches."""

from __future__ import annotations

import sys
import time

import click

from engine.cli.options import note, open_store, print_json, request, spec_options
from engine.cli.sharing import remotes_of, tell_events
from engine.session import evaluated, labels_of, targets_of
from engine.units import show_duration
from store.errors import OK, HostError, InputError

STEP_SECONDS = 1.0
"""How often a terminal is told how far it is."""


@click.command()
@spec_options
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
) -> int:
    """Upload the results of a spec's targets, and of all that they rest on, to remote caches.

    Only what is in this store already; nothing is built. What a remote has is not sent again.
    """
    asked = request(names, sets, profile, executor)
    started = time.monotonic()
    with open_store() as store, store.lease("push"):
        from engine.remote.exchange import pushable

        remotes = remotes_of(store, asked)
        if not remotes.writable:
            raise InputError("no remote cache may be written to", "set write = true for one")
        graph = evaluated(store, asked).graph
        labels = labels_of(graph, targets_of(graph, asked))
        items, without = pushable(store, graph, labels)
        if items:
            remotes.give(items)
        while not remotes.wait_for_uploads(STEP_SECONDS):
            if sys.stderr.isatty():
                note(f"{remotes.given()[0]} results to go")
        tell_events(remotes)
        _, taken, lost = remotes.given()
    if as_json:
        print_json({"results": len(items), "uploaded": taken, "not_built": len(without)})
    else:
        more = f"; {len(without)} steps have no result here" if without else ""
        took = show_duration(time.monotonic() - started)
        note(f"{taken} results are at the remote caches ({took}){more}")
    if lost:
        raise HostError(f"{lost} results were not taken by every remote cache")
    return OK
