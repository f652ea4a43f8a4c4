"""`bn timeline show`: what happened in a build."""

from __future__ import annotations

import click

from engine.cli.options import json_option, open_store, out, print_json
from engine.timeline.log import read_timeline
from engine.timeline.named import LAST, find_build
from engine.timeline.words import in_words
from store.errors import OK


@click.command()
@click.argument("build", default=LAST)
@click.option("--label", metavar="STEP", help="Only what happened to a step.")
@click.option("--event", "kind", metavar="NAME", help="Only events of a kind, as StepFinished.")
@json_option
def command(build: str, label: str | None, kind: str | None, as_json: bool) -> int:
    """Show what happened in a BUILD (the last one), each event with the seconds since its begin."""
    with open_store() as store:
        events = list(read_timeline(store.root, find_build(store.root, build)))
    start = float(events[0]["time"]) if events else 0.0
    events = [
        event
        for event in events
        if label in (None, event.get("label")) and kind in (None, event.get("event"))
    ]
    if as_json:
        print_json(events)
        return OK
    for event in events:
        out(f"{float(event['time']) - start:10.3f}  {in_words(event)}")
    return OK
