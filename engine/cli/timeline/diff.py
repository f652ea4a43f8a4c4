"""`bn timeline diff`: two builds compared."""

from __future__ import annotations

from collections.abc import Iterator

import click
from attrs import asdict

from engine.cli.options import json_option, open_store, out, print_json
from engine.explain import in_words
from engine.timeline.differing import Compared, Differing, Step, compare
from engine.timeline.log import read_timeline
from engine.timeline.named import find_build
from engine.units import show_duration
from store.errors import OK


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@json_option
def command(before: str, after: str, as_json: bool) -> int:
    """Say how build B differs from build A: what was asked for, on which nodes, which steps came
    out otherwise, and what changed in them."""
    with open_store() as store:
        names = [find_build(store.root, name) for name in (before, after)]
        found = compare(store.cas, *(read_timeline(store.root, name) for name in names))
    if as_json:
        print_json(asdict(found))
        return OK
    out(f"A {names[0]}  {show_duration(found.seconds[0])}")
    out(f"B {names[1]}  {show_duration(found.seconds[1])}")
    for line in _lines(found):
        out(line)
    return OK


def _lines(found: Compared) -> Iterator[str]:
    for name, a, b in found.asked:
        yield f"{name}: {a} → {b}"
    for name, a, b in found.nodes:
        yield f"node {name}: {a or 'not there'} → {b or 'not there'}"
    for step in found.steps:
        yield f"{step.label}: {_became(step.before)} → {_became(step.after)}"
        if step.other_action:
            changes = step.changes
            known = in_words(changes) if changes is not None else "an action is not kept"
            yield f"  because of {known}"
        elif _not_reproducible(step):
            yield "  the same action came out otherwise: bn replay looks into it"
    yield f"{found.same} steps are the same"


def _became(step: Step | None) -> str:
    if step is None:
        return "not there"
    if step.seconds:
        return f"{step.ended} after {show_duration(step.seconds)}"
    return step.ended


def _not_reproducible(step: Differing) -> bool:
    pair = [one for one in (step.before, step.after) if one is not None and one.outputs]
    return len(pair) == 2 and pair[0].outputs != pair[1].outputs
