"""`bn why`: what changed, so that an artifact was built again."""

from __future__ import annotations

from typing import Any

import click
from attrs import asdict, frozen

from engine.cli.options import json_option, open_store, out, print_json
from engine.cli.steps import PastStep, fetched_in, past_steps
from engine.explain import Change, closest
from engine.history import History
from store.errors import OK, BnError
from store.index import Table
from store.objects import Action
from store.store import Store


@frozen
class Origin:
    """The remote cache that a step's result came from, and the build that fetched it, if that is
    recorded."""

    remote: str
    build: str | None


@click.command()
@click.argument("names", nargs=-1, metavar="[SPEC] ARTIFACT")
@json_option
def command(names: tuple[str, ...], as_json: bool) -> int:
    """Name the file, flag, variable or tool that changed since the last build of an artifact."""
    rows: list[dict[str, Any]] = []
    with open_store() as store:
        for step in past_steps(store, names, "why"):
            changes = explained(store, step)
            origin = origin_of(store, step)
            words = in_lines(step, changes, origin)
            rows.append(
                {
                    "label": step.label,
                    "build": step.history[0].build,
                    "ran": step.history[0].ran,
                    "remote": origin and origin.remote,
                    "fetched": origin and origin.build,
                    "changes": None if changes is None else [asdict(one) for one in changes],
                }
            )
            if not as_json:
                for line in words:
                    out(line)
    if as_json:
        print_json(rows)
    return OK


def explained(store: Store, step: PastStep) -> list[Change] | None:
    """Return what differs between a step's last action and the nearest one before it; None where
    there is none before it or it is no longer in the store."""
    last = step.history[0].action
    try:
        new = Action.decode(store.cas.get_bytes(last))
    except BnError:
        return None
    olds = History(store, step.spec).actions(step.label, but=last)
    return closest(store.cas, olds, new)


def origin_of(store: Store, step: PastStep) -> Origin | None:
    """Return where a step's last result came from, None where it was built here."""
    last = step.history[0]
    row = None if last.ran else store.index.get_json(Table.ORIGINS, last.action)
    if not isinstance(row, dict) or "remote" not in row:
        return None
    return Origin(str(row["remote"]), fetched_in(store, step.spec, step.label))


def in_lines(
    step: PastStep, changes: list[Change] | None, origin: Origin | None = None
) -> list[str]:
    """Return the explanation for people."""
    last = step.history[0]
    if origin is not None and origin.build is not None:
        fetched = f"{step.label}: fetched from {origin.remote} in build {origin.build}"
        if not changes:
            return [fetched]
        return [
            f"{fetched}; it is not what it was because of",
            *(f"  {change}" for change in changes),
        ]
    if origin is not None:
        where = f"its result had been fetched from {origin.remote}"
        return [f"{step.label}: was not run in build {last.build}: {where}"]
    if not last.ran:
        return [f"{step.label}: was not run in build {last.build}: its result was in the store"]
    if changes is None:
        return [f"{step.label}: ran in build {last.build}: never built before"]
    if not changes:
        return [f"{step.label}: ran in build {last.build}: its result was no longer in the store"]
    return [
        f"{step.label}: ran in build {last.build} because of",
        *(f"  {change}" for change in changes),
    ]
