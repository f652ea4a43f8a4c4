"""`bn pull`: what a spec came to elsewhere taken from the remote caches."""

from __future__ import annotations

import time

from engine.cli.exchanging import shared, sharing_command
from engine.cli.options import note, print_json
from engine.cli.sharing import tell_events
from engine.request import Request
from engine.units import show_duration
from store.errors import OK


@sharing_command
def command(asked: Request, as_json: bool) -> int:
    """Fetch the results of a spec's targets, and of all that they rest on, from remote caches.

    With all files, so that builds can go on without a network; nothing is built.
    """
    started = time.monotonic()
    with shared(asked, writing=False) as it:
        from engine.remote.exchange import pull

        done = pull(it.remotes, it.store, it.graph, it.labels)
        tell_events(it.remotes)
    if as_json:
        print_json({"fetched": done.found, "here": done.here, "missing": list(done.missing)})
        return OK
    took = show_duration(time.monotonic() - started)
    more = f"; {len(done.missing)} steps have none anywhere" if done.missing else ""
    note(f"fetched {done.found} results, {done.here} are here ({took}){more}")
    return OK
