"""`bn pull`: what a spec came to elsewhere taken from the remote caches."""

from __future__ import annotations

import time

import click

from engine.cli.options import note, open_store, print_json, request, spec_options
from engine.cli.sharing import remotes_of, tell_events
from engine.session import evaluated, labels_of, targets_of
from engine.units import show_duration
from store.errors import OK, InputError


@click.command()
@spec_options
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
) -> int:
    """Fetch the results of a spec's targets, and of all that they rest on, from remote caches.

    With all files, so that builds can go on without a network; nothing is built.
    """
    asked = request(names, sets, profile, executor)
    started = time.monotonic()
    with open_store() as store, store.lease("pull"):
        from engine.remote.exchange import pull

        remotes = remotes_of(store, asked)
        if not remotes.readable:
            raise InputError("no remote cache may be read from", "set read = true for one")
        graph = evaluated(store, asked).graph
        done = pull(remotes, store, graph, labels_of(graph, targets_of(graph, asked)))
        tell_events(remotes)
    if as_json:
        print_json({"fetched": done.found, "here": done.here, "missing": list(done.missing)})
        return OK
    took = show_duration(time.monotonic() - started)
    more = f"; {len(done.missing)} steps have none anywhere" if done.missing else ""
    note(f"fetched {done.found} results, {done.here} are here ({took}){more}")
    return OK
