"""`bn shell`: a shell in an action's sandbox, with its inputs."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

import click
from attrs import evolve

from engine.cli.building import end_badly, run
from engine.cli.options import note, open_store, print_json, request, spec_options
from engine.cli.steps import last_failed
from engine.graph import Graph
from engine.request import Request, evaluated
from engine.resolve import resolve
from engine.result import BuildStatus
from engine.spec.faults import nearest
from executors.sandbox import PlainSandbox, Sandbox
from store.digest import Digest
from store.errors import InputError
from store.objects import Action
from store.store import Store


@click.command()
@spec_options
@click.option("--build", metavar="BUILD", help="As it was in a recorded build.")
@click.option("-c", "script", metavar="COMMAND", help="Run this instead of a shell.")
@click.option("--run", "own", is_flag=True, help="Run the action's own command.")
def command(
    names: tuple[str, ...],
    sets: tuple[str, ...],
    profile: str | None,
    executor: str,
    as_json: bool,
    build: str | None,
    script: str | None,
    own: bool,
) -> int:
    """Open a shell in the sandbox of an artifact's action, with its inputs staged.

    Without an artifact: of the action that failed last, just as it was; with a build, of the one
    that failed first in it. What is written is thrown away at the end. The exit code is that of the
    shell or command.
    """
    asked = request(names, sets, profile, executor)
    if executor != "sandbox":
        raise click.UsageError("a shell is there only with --executor sandbox")
    with open_store() as store:
        action: Action | None
        if build is not None:
            label, action = _recorded(store, build, asked.targets)
            note(f"{label}, as it was in build {build}")
        elif asked.targets:
            action = _current(store, asked, as_json)
        else:
            label, action = last_failed(store, asked.spec.absolute())
            note(f"{label}, as it failed")
        if action is None:
            return 1
        if own:
            script = f"exec {shlex.join(action.command)}"
        if as_json:
            print_json({"action": action.digest(), "command": list(action.command)})
            sys.stdout.flush()
        if script is None:
            note(f"its command: {shlex.join(action.command)}")
        return enter(Sandbox(store), action, script, sys.stderr if as_json else None)


def enter(
    sandbox: PlainSandbox, action: Action, script: str | None, out: TextIO | None = None
) -> int:
    """Run a shell, or `script`, in the sandbox of `action` and return its exit code.

    What it prints goes to `out` (default: standard output).
    """
    with sandbox.shell_command(action, script) as argv:
        # Ctrl-C is for what runs in there. It is not ignored: that would be inherited.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        ended = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            return subprocess.call(argv, stdout=out)
        finally:
            signal.signal(signal.SIGINT, before)
            signal.signal(signal.SIGTERM, ended)


def _current(store: Store, asked: Request, as_json: bool) -> Action | None:
    """Return the action that the spec now says, its inputs built; None where they cannot be."""
    graph = evaluated(store, asked).graph
    label = _one_label(graph, asked.targets)
    recipe = graph.recipes[label]
    needs = tuple(dict.fromkeys(need.recipe for need in recipe.needs))
    outputs: dict[str, Digest] = {}
    if needs:
        report = run(store, evolve(asked, targets=needs))
        if report.result.status is not BuildStatus.OK:
            end_badly(report, as_json)
            return None
        outputs = dict(report.trees)
    return resolve(store.cas, recipe, outputs.__getitem__).action


def _recorded(store: Store, text: str, targets: Sequence[str]) -> tuple[str, Action]:
    """Return the label and action that a step was in a recorded build: the one named, else the one
    that failed first. Raises InputError."""
    from engine.timeline.course import course
    from engine.timeline.log import read_timeline
    from engine.timeline.named import find_build

    build = find_build(store.root, text)
    found = course(build, read_timeline(store.root, build))
    if len(targets) > 1:
        raise InputError("name one artifact, or none", f"{targets[0]!r}, for example")
    labels = targets or [step.label for step in found.failures() if step.action][:1]
    if not labels:
        raise InputError(f"build {build}: nothing failed in it", "name an artifact")
    step = found.steps.get(labels[0])
    if step is None or not step.action:
        known = [label for label, one in found.steps.items() if one.action]
        raise InputError(
            f"build {build}: no action of {labels[0]!r} is known",
            nearest(labels[0], known, "actions"),
        )
    return step.label, Action.decode(store.cas.get_bytes(Digest(step.action)))


def _one_label(graph: Graph, targets: Sequence[str]) -> str:
    labels = [label for target in targets for label in graph.labels_of(target)]
    if len(labels) != 1:
        shown = ", ".join(repr(label) for label in labels[:3])
        raise InputError(f"{targets[0]!r} is {len(labels)} actions", f"name one: {shown}, …")
    return labels[0]
