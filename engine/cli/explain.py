"""`bn explain`: why an artifact ran where and when it did, or why it did not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click
from attrs import asdict

from engine.cli.options import json_option, open_store, out, print_json
from engine.cli.steps import past_steps
from engine.placed import Placed, in_words, last_placed
from engine.units import show_duration
from store.errors import OK, InputError


@click.command()
@click.argument("names", nargs=-1, metavar="[SPEC] ARTIFACT")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Say why an artifact ran, on which node and at which moment, in its last build.

    Of one that was cached then, also how it was when it ran last. `bn why` says what changed.
    """
    with open_store() as store:
        steps = past_steps(store, names, "explain")
        labels = [step.label for step in steps]
        found = last_placed(store.root, steps[0].spec, labels)
    if not found:
        raise InputError(f"no timeline of {labels[0]!r} is kept", "bn build first")
    if as_json:
        print_json([_document(label, *found[label]) for label in labels if label in found])
        return OK
    for label in labels:
        for line in _lines(label, *found[label]) if label in found else ():
            out(line)
    return OK


def _document(label: str, last: Placed, ran: Placed | None) -> dict[str, Any]:
    return {
        "label": label,
        **asdict(last),
        "last_run": None if ran is None or ran is last else asdict(ran),
    }


def _lines(label: str, last: Placed, ran: Placed | None) -> Iterator[str]:
    if last.ran:
        yield from _run(f"{label}: ran", last)
        return
    if last.status == "cached":
        yield f"{label}: was not run in build {last.build}: its result was in the store"
    else:
        yield f"{label}: was not run in build {last.build}: {last.reason}"
    if ran is not None:
        yield from _run("it ran last", ran)


def _run(begin: str, one: Placed) -> Iterator[str]:
    moment = "" if one.began is None else f", {show_duration(one.began)} after it began"
    yield f"{begin} in build {one.build}{moment}: {one.reason}"
    for part in in_words(one.placement or {}):
        yield f"  {part}"
    if one.seconds is not None:
        yield f"  {one.status} after {show_duration(one.seconds)}"
