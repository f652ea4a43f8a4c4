"""`bn impact`: what an edit would build again, and how long that takes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from attrs import frozen

from engine.cli.asking import SPEC_NAME
from engine.cli.options import json_option, open_store, out, print_json, request
from engine.graph import Graph
from engine.history import History
from engine.plan import Cached, Plan
from engine.request import labels_of, planned, targets_of
from engine.units import show_duration
from store.digest import Digest
from store.errors import OK
from store.store import Store

if TYPE_CHECKING:
    from engine.timeline.impact import Impact

SHOWN = 12


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    default=SPEC_NAME,
    show_default=True,
    help="The spec, or the directory where it lies.",
)
@click.option("--target", "targets", multiple=True, metavar="NAME", help="Only for this target.")
@click.option("--tests", is_flag=True, help="For what bn test runs, instead of bn build.")
@click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Set a parameter.")
@click.option("--profile", metavar="NAME", help="Use a profile's parameters.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Processors (those that there are).")
@json_option
def command(
    paths: tuple[str, ...],
    spec: Path,
    targets: tuple[str, ...],
    tests: bool,
    sets: tuple[str, ...],
    profile: str | None,
    jobs: int | None,
    as_json: bool,
) -> int:
    """Say what an edit of files, directories, specs or toolchains would make run again, and how
    long that would take, as long as steps took last. Nothing is built.

    An action that reports what it read (depfile) counts only where it read an edited file. Of the
    steps after it all count, though those stay whose inputs come out as before.
    """
    where = str(spec / SPEC_NAME if spec.is_dir() else spec)
    asked = request(
        (where, *targets), sets, profile, "sandbox", jobs=jobs, tests=tests, remote=False
    )
    with open_store() as store:
        evaluation, plan = planned(store, asked)
        graph = evaluation.graph
        order = graph.order(labels_of(graph, targets_of(graph, asked)))
        found = _impact(store, graph, order, plan, paths, jobs)
    if as_json:
        print_json(found.document())
    else:
        for line in lines(found):
            out(line)
    return OK


def _impact(
    store: Store,
    graph: Graph,
    order: list[str],
    plan: Plan,
    paths: Collection[str],
    jobs: int | None,
) -> Impact:
    from engine.places import places
    from engine.timeline.impact import impact
    from engine.timeline.touched import Touched

    touched = Touched(store.cas, graph, order, _toolchains(store, graph))
    edits = [touched.edit(path) for path in paths]
    here = places(store.root, jobs)
    known = _Known(store, graph, plan, History(store, graph.about.spec), here.neutral)
    anyway = {label for label, step in plan.steps.items() if not isinstance(step, Cached)}
    return impact(graph, order, edits, known.observed, known.seconds, here.cpus, anyway)


@frozen
class _Known:
    """What is known of the steps of a graph from when they ran."""

    store: Store
    graph: Graph
    plan: Plan
    history: History
    neutral: float

    def observed(self, label: str) -> Collection[str] | None:
        """Return what a step said it read, when it last ran."""
        actions: list[Digest] = []
        step = self.plan.steps.get(label)
        if isinstance(step, Cached):
            actions.append(step.action)
        else:
            known = self.store.actions.realisation(self.graph.digest_of(label))
            actions += [known.action] if known is not None else []
        actions += [past.action for past in self.history.of(label)]
        for action in actions:
            result = self.store.actions.result_of(action)
            if result is not None:
                return result.observed
        return None

    def seconds(self, label: str) -> float | None:
        """Return how long a step takes here, as it took last."""
        seconds, _ = self.history.cost(label, default=0.0, neutral=self.neutral)
        return seconds / self.neutral if seconds else None


def _toolchains(store: Store, graph: Graph) -> Mapping[Path, Digest]:
    """Return the trees of the toolchain files of a graph, which were imported for it just now."""
    from engine.spec.load import read
    from engine.spec.model import ToolchainFile
    from engine.toolchains.importer import import_toolchain

    found: dict[Path, Digest] = {}
    for unit in graph.root.units():
        for where in unit.spec.file.toolchains.values():
            file = (unit.spec.directory / where).resolve()
            if file not in found:
                spec = read(file, ToolchainFile).toolchain
                found[file] = import_toolchain(store, spec, file.parent).tree
    return found


def lines(found: Impact) -> Iterator[str]:
    """Yield the impact for people."""
    for edit in found.edits:
        takes = f"{len(edit.steps)} action{'s' if len(edit.steps) != 1 else ''}"
        verb = {"spec": "it says", "toolchain": "it is for", "tool": "it is for"}.get(
            edit.kind, "taken by"
        )
        note = f" ({edit.note})" if edit.note else ""
        yield f"{edit.path}: {edit.kind}, {verb} {takes}{note}"
    count = len(found.affected)
    what = "this edit re-runs" if len(found.edits) == 1 else "these edits re-run"
    if not count:
        yield f"{what} nothing"
    else:
        most = "" if found.exact else "at most "
        actions = f"{most}{count} action{'s' if count != 1 else ''}"
        cpus = f"{found.processors} processor{'s' if found.processors != 1 else ''}"
        yield f"{what} {actions} of {found.steps}, about {show_duration(found.seconds)} on {cpus}"
        chain, work = show_duration(found.longest), show_duration(found.work)
        yield f"  longest chain {chain}, work {work}"
        for one in found.affected[:SHOWN]:
            about = "" if one.known else " (never ran)"
            yield f"  {show_duration(one.seconds):>9}  {one.label} ← {one.because}{about}"
        if count > SHOWN:
            yield f"  and {count - SHOWN} more"
    if found.unknown:
        yield f"{found.unknown} of them never ran: they count as the others do"
    if found.anyway:
        names = ", ".join(found.anyway[:3]) + (", …" if len(found.anyway) > 3 else "")
        yield f"besides, {len(found.anyway)} run without any edit: {names}"
