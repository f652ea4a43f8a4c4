"""`bn push`: what a spec came to given to the remote caches."""

from __future__ import annotations

import sys
import time

from engine.cli.exchanging import shared, sharing_command
from engine.cli.options import note, print_json
from engine.cli.sharing import tell_events
from engine.request import Request
from engine.units import show_duration
from store.errors import OK, HostError

STEP_SECONDS = 1.0
"""How often a terminal is told how far it is."""


@sharing_command
def command(asked: Request, as_json: bool) -> int:
    """Upload the results of a spec's targets, and of all that they rest on, to remote caches.

    Only what is in this store already; nothing is built. What a remote has is not sent again.
    """
    started = time.monotonic()
    with shared(asked, writing=True) as it:
        from engine.remote.exchange import pushable

        items, without = pushable(it.store, it.graph, it.labels)
        if items:
            it.remotes.give(items)
        while not it.remotes.wait_for_uploads(STEP_SECONDS):
            if sys.stderr.isatty():
                note(f"{it.remotes.given()[0]} results to go")
        tell_events(it.remotes)
        _, taken, lost = it.remotes.given()
    if as_json:
        print_json({"results": len(items), "uploaded": taken, "not_built": len(without)})
    else:
        more = f"; {len(without)} steps have no result here" if without else ""
        took = show_duration(time.monotonic() - started)
        note(f"{taken} results are at the remote caches ({took}){more}")
    if lost:
        raise HostError(f"{lost} results were not taken by every remote cache")
    return OK
