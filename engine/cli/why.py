"""`bn why`: what changed, so that an artifact was built again."""

from __future__ import annotations

from typing import Any

import click
from attrs import frozen

from engine.cli.options import json_option, open_store, out, print_json
from engine.cli.steps import PastStep, fetched_in, past_steps
from engine.explain import nearest
from engine.timeline.causes import Cause, Causes, documents, in_lines
from engine.timeline.course import CACHED, SKIPPED
from engine.timeline.named import LAST, find_build
from engine.timeline.recorded import Recorded, Was
from store.digest import Digest
from store.errors import OK, BnError, InputError
from store.index import Table
from store.objects import Action
from store.store import Store


@frozen
class Origin:
    """The remote cache that a step's result came from, and the build that fetched it, if that is
    recorded."""

    remote: str
    build: str | None


@frozen(kw_only=True)
class Why:
    """Why a step is what it is in a build: its causes against build `against`, None where there is
    nothing to compare with or it is no longer in the store."""

    label: str
    build: str
    ran: bool
    against: str | None = None
    causes: tuple[Cause, ...] | None = None
    origin: Origin | None = None

    def document(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "label": self.label,
            "build": self.build,
            "against": self.against,
            "ran": self.ran,
            "remote": self.origin and self.origin.remote,
            "fetched": self.origin and self.origin.build,
            "changes": None if self.causes is None else documents(self.causes),
        }


@click.command()
@click.argument("names", nargs=-1, metavar="[SPEC] ARTIFACT")
@click.option("--build", metavar="A", help="As it was in this build (the last one).")
@click.option("--against", metavar="B", help="Compared with this build (the one most like it).")
@json_option
def command(names: tuple[str, ...], build: str | None, against: str | None, as_json: bool) -> int:
    """Name the file, flag, variable, parameter, tool or dependency that changed since the last
    build of an artifact.

    What another step made is followed to what changed there: `app ← compile[a.c] ← file src/a.c
    changed (line 3)`. Builds are named as for `bn timeline`: an id, how only one begins, `last`,
    `last~2`.
    """
    rows: list[dict[str, Any]] = []
    with open_store() as store:
        steps = past_steps(store, names, "why")
        recorded = Recorded(store.root, str(steps[0].spec))
        for step in steps:
            if build is None and against is None:
                one = explained(store, recorded, step)
            else:
                one = compared(store, recorded, step, build or LAST, against)
            rows.append(one.document())
            if not as_json:
                asked = build is not None or against is not None
                for line in _compared(one) if asked else in_words(one):
                    out(line)
    if as_json:
        print_json(rows)
    return OK


def explained(store: Store, recorded: Recorded, step: PastStep) -> Why:
    """Return what differs between a step's last action and the nearest one before it."""
    last = step.history[0]
    why = Why(label=step.label, build=last.build, ran=last.ran, origin=origin_of(store, step))
    pasts = {past.action: past for past in step.history[1:]}
    new = _action(store, last.action)
    olds = {action: old for action in pasts if (old := _action(store, action)) is not None}
    old = nearest(store.cas, olds.values(), new) if new is not None else None
    if old is None or new is None:
        return why
    before = pasts[old.digest()].build
    causes = _causes(store, recorded, last.build, before).of_actions(step.label, old, new)
    return Why(
        label=why.label,
        build=why.build,
        ran=why.ran,
        against=before,
        causes=causes,
        origin=why.origin,
    )


def compared(
    store: Store, recorded: Recorded, step: PastStep, build: str, against: str | None
) -> Why:
    """Return what differs between a step in one build and in another: by default the last one
    before in which it was another action. Raises InputError."""
    name = find_build(store.root, build, step.spec)
    new = recorded.was(step.label, name)
    if new is None:
        raise InputError(f"{step.label}: not known in build {name}", "bn timeline list")
    old: Was | None
    if against is None:
        old = recorded.other_before(new)
    else:
        other = find_build(store.root, against, step.spec)
        old = recorded.was(step.label, other)
        if old is None:
            raise InputError(f"{step.label}: not known in build {other}", "bn timeline list")
    there = recorded.course(name).steps.get(step.label)
    ran = there is not None and there.status not in (CACHED, SKIPPED)
    causes = None
    if old is not None:
        causes = _causes(store, recorded, new.build, old.build).between(old, new)
    return Why(
        label=step.label,
        build=name,
        ran=ran,
        against=old.build if old is not None else None,
        causes=causes,
    )


def _causes(store: Store, recorded: Recorded, new: str, old: str) -> Causes:
    from engine.timeline.tracing import tracing

    return tracing(store, recorded, new, old)


def _action(store: Store, digest: Digest) -> Action | None:
    try:
        return Action.decode(store.cas.get_bytes(digest))
    except BnError:
        return None


def origin_of(store: Store, step: PastStep) -> Origin | None:
    """Return where a step's last result came from, None where it was built here."""
    last = step.history[0]
    row = None if last.ran else store.index.get_json(Table.ORIGINS, last.action)
    if not isinstance(row, dict) or "remote" not in row:
        return None
    return Origin(str(row["remote"]), fetched_in(store, step.spec, step.label))


def in_words(why: Why) -> list[str]:
    """Return the explanation for people."""
    label, build, origin = why.label, why.build, why.origin
    if origin is not None and origin.build is not None:
        fetched = f"{label}: fetched from {origin.remote} in build {origin.build}"
        if not why.causes:
            return [fetched]
        return [f"{fetched}; it is not what it was because of", *_indented(why.causes)]
    if origin is not None:
        where = f"its result had been fetched from {origin.remote}"
        return [f"{label}: was not run in build {build}: {where}"]
    if not why.ran:
        return [f"{label}: was not run in build {build}: its result was in the store"]
    if why.causes is None:
        return [f"{label}: ran in build {build}: never built before"]
    if not why.causes:
        return [f"{label}: ran in build {build}: its result was no longer in the store"]
    return [f"{label}: ran in build {build} because of", *_indented(why.causes)]


def _compared(why: Why) -> list[str]:
    if why.against is None:
        return [f"{why.label}: in build {why.build} as in all builds before, as far as is recorded"]
    both = f"{why.label}: in build {why.build} against build {why.against}"
    if why.causes is None:
        return [f"{both}: not known: one of its actions is no longer in the store"]
    if not why.causes:
        return [f"{both}: the same action, the same outputs"]
    return [f"{both}: differs because of", *_indented(why.causes)]


def _indented(causes: tuple[Cause, ...]) -> list[str]:
    return [f"  {line}" for line in in_lines(causes)]
