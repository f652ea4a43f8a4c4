"""`bn timeline list`: the recorded builds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import click

from engine.cli.options import json_option, open_store, out, print_json, split_spec
from engine.timeline.log import builds, read_timeline
from engine.timeline.summary import Summary, summary
from engine.units import show_duration
from store.errors import OK
from store.store import Store


@click.command()
@click.argument("names", nargs=-1, metavar="[SPEC]")
@click.option(
    "-n", "--number", type=click.IntRange(1), default=20, show_default=True, help="At most so many."
)
@json_option
def command(names: tuple[str, ...], number: int, as_json: bool) -> int:
    """List the recorded builds, the last one first; with a SPEC, only its."""
    spec = split_spec(names)[0].absolute() if names else None
    with open_store() as store:
        found = list(itertools.islice(_summaries(store, spec), number))
    if as_json:
        print_json([_document(one) for one in found])
        return OK
    for one in found:
        counts = ", ".join(f"{n} {name}" for name, n in one.counts.items())
        took = show_duration(one.seconds)
        out(f"{one.build}  {one.day}  {one.status:18} {took:>10}  {one.spec}  ({counts})")
    return OK


def _summaries(store: Store, spec: Path | None) -> Iterator[Summary]:
    for build in builds(store.root):
        one = summary(build, read_timeline(store.root, build))
        if one.events and spec in (None, Path(one.spec)):
            yield one


def _document(one: Summary) -> dict[str, object]:
    return {
        "build": one.build,
        "began": round(one.began, 3),
        "spec": one.spec,
        "targets": list(one.targets),
        "status": one.status,
        "seconds": round(one.seconds, 3),
        "steps": one.steps,
        "counts": dict(one.counts),
    }
