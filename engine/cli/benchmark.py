"""`bn benchmark`: how fast this machine is, now and before, and beside others."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.options import configured, note, out, print_json
from store.errors import OK, BnError, InputError

if TYPE_CHECKING:
    from engine.resources.benchmark.chart import Group
    from engine.resources.benchmark.results import Run
    from engine.resources.benchmark.session import Setting, Wanted
    from engine.resources.machine import Machine

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "svg"]),
    default="text",
    show_default=True,
    help="How results are written to stdout.",
)
json_option = click.option(
    "--json", "form", flag_value="json", help="Machine-readable on stdout, as --format json."
)


@click.group(invoke_without_command=True)
@click.option(
    "--all", "everything", is_flag=True, help="Measure all; the store's disks and remotes."
)
@click.option("--cpu", is_flag=True, help="Measure processors, in BPU.")
@click.option("--memory", is_flag=True, help="Measure the bandwidth of memory.")
@click.option(
    "--storage",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PATH",
    help="Measure the disk that holds a directory.",
)
@click.option("--network", multiple=True, metavar="URL", help="Measure the way to an address.")
@click.option("--due", is_flag=True, help="Measure what was not for long, if the machine is idle.")
@click.option("--automatic", is_flag=True, help="With --due: only where [benchmark] lets bn watch.")
@click.option("--mix", is_flag=True, help="Measure processors without node, by the compute mix.")
@click.option("--offline", is_flag=True, help="Fetch nothing: without TypeScript, use the mix.")
@format_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    everything: bool,
    cpu: bool,
    memory: bool,
    storage: tuple[Path, ...],
    network: tuple[str, ...],
    due: bool,
    automatic: bool,
    mix: bool,
    offline: bool,
    form: str,
) -> int:
    """Measure how fast this machine is, and keep the results.

    1 BPU is one core of an Intel Core i5-10400 at 2.9 GHz compiling TypeScript. Processors take
    half a minute, everything else seconds.
    """
    if ctx.invoked_subcommand is not None:
        return OK
    from engine.resources.benchmark.kept import directory
    from engine.resources.benchmark.session import Setting, Wanted
    from engine.resources.discover import discover_compute

    machine = discover_compute()
    setting = Setting(kept=directory(), fetch=not offline, force_mix=mix)
    if due:
        return _run_due(machine, setting, form, automatic)
    wanted = Wanted(
        cpu=cpu or mix or everything,
        memory=memory or everything,
        storage=tuple(path.resolve() for path in storage) + (_disks() if everything else ()),
        network=network + (_addresses() if everything else ()),
    )
    if not wanted.anything:
        raise click.UsageError(
            "say what: --all, --cpu, --memory, --storage PATH, --network URL, or --due"
        )
    return _measure(machine, wanted, setting, form)


def _disks() -> tuple[Path, ...]:
    """Return the directories of the store's tiers that are there."""
    _, config = configured()
    return tuple(spec.path.resolve() for spec in config.tiers if spec.path.is_dir())


def _addresses() -> tuple[str, ...]:
    """Return the addresses of the remote caches."""
    _, config = configured()
    return tuple(remote.url for remote in config.cache.remotes) if config.cache else ()


def _run_due(machine: Machine, setting: Setting, form: str, automatic: bool) -> int:
    from engine.resources.benchmark.due import due, why_not_idle
    from engine.resources.benchmark.kept import history
    from engine.resources.settings import schedule

    plan = schedule()
    if automatic and not plan.automatic:
        note("switched off: [benchmark] automatic = false")
        return OK
    here = os.uname().nodename
    wanted = due(history(), plan, here, time.time(), _disks(), _addresses())
    if not wanted.anything:
        note("nothing is due")
        return OK
    busy = why_not_idle(machine)
    if busy:
        note(f"not now: {busy}")
        return OK
    return _measure(machine, wanted, setting, form)


def _measure(machine: Machine, wanted: Wanted, setting: Setting, form: str) -> int:
    from engine.resources.benchmark.session import run_all

    runs: list[Run] = []
    code = OK
    for one in _each(wanted):
        try:
            for run in run_all(machine, one, setting, note):
                runs.append(run)
                _keep(run)
        except BnError as error:
            if not runs and one == _each(wanted)[-1]:
                raise
            note(f"error: {error}")  # what can be measured is
            code = error.exit_code
    _tell(runs, form)
    return code


def _keep(run: Run) -> None:
    from engine.resources.benchmark.kept import keep
    from engine.resources.benchmark.results import STORAGE
    from engine.resources.benchmark.tiers import keep_storage
    from store.where import default_store

    if run.kind == STORAGE:
        keep_storage(run, default_store())
    else:
        keep([run])


def _each(wanted: Wanted) -> list[Wanted]:
    """Return what is wanted one by one."""
    from engine.resources.benchmark.session import Wanted

    return [
        *([Wanted(cpu=True)] if wanted.cpu else []),
        *([Wanted(memory=True)] if wanted.memory else []),
        *(Wanted(storage=(path,)) for path in dict.fromkeys(wanted.storage)),
        *(Wanted(network=(url,)) for url in dict.fromkeys(wanted.network)),
    ]


def _tell(runs: list[Run], form: str) -> None:
    """Show runs, and what they recommend."""
    from engine.resources.benchmark.advice import advice
    from engine.resources.benchmark.report import charted, lines
    from engine.resources.benchmark.results import document
    from store.where import default_store

    here = os.uname().nodename
    told = []
    for node in dict.fromkeys(run.node for run in runs):
        mine = [run for run in runs if run.node == node]
        name = "" if node == here else f"{node}: "
        told += [f"{name}{text}" for text in advice(mine, default_store() if not name else None)]
    if form == "json":
        print_json({**document(runs), "advice": told})
        return
    if form == "svg":
        _svg(f"bn benchmark: {', '.join(sorted({run.node for run in runs}))}", charted(runs))
        return
    for line in lines(runs):
        out(line)
    _chart(charted(runs))
    for text in told:
        out(f"\nadvice: {text}")


def _chart(groups: list[Group]) -> None:
    import shutil

    from engine.resources.benchmark.chart import text_chart

    if groups:
        out()
    for line in text_chart(groups, min(100, shutil.get_terminal_size().columns)):
        out(line)


def _svg(title: str, groups: list[Group]) -> None:
    from engine.resources.benchmark.chart import svg_chart

    out(svg_chart(title, groups).rstrip("\n"))


@command.command()
@click.option("--node", metavar="NAME", help="Only of this node; by default of all known.")
@click.option("--history", "whole", is_flag=True, help="All runs, not only the last ones.")
@click.option(
    "--import",
    "imported",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="First take in what another node wrote with --format json.",
)
@format_option
@json_option
def results(node: str | None, whole: bool, imported: Path | None, form: str) -> int:
    """Show what was measured, and what it recommends."""
    from engine.resources.benchmark.kept import history, keep
    from engine.resources.benchmark.report import history_lines
    from engine.resources.benchmark.results import document, latest

    kept = history()
    if imported:
        known = {(run.node, run.kind, run.target, run.time) for run in kept}
        new = [
            run
            for run in _read(imported)
            if (run.node, run.kind, run.target, run.time) not in known
        ]
        keep(new)
        note(f"{len(new)} runs taken in from {imported}")
        kept = sorted([*kept, *new], key=lambda run: run.time)
    runs = [run for run in kept if node in (None, run.node)]
    if node is not None and not runs:
        raise _unknown(f"nothing is known of a node {node!r}", node, kept)
    if not runs and form == "text":
        note("nothing was measured yet: bn benchmark --all")
        return OK
    if whole and form == "text":
        for line in history_lines(runs):
            out(line)
    elif whole and form == "json":
        print_json(document(runs))
    else:
        _tell(latest(runs), form)
    if form == "text" and not whole and node in (None, os.uname().nodename):
        for line in due_here(kept):
            out(f"due: {line}")
    return OK


def due_here(kept: list[Run] | None = None) -> list[str]:
    """Return what is due on this node, for people; raises InputError and HostError."""
    from engine.resources.benchmark.due import due_lines
    from engine.resources.benchmark.kept import history
    from engine.resources.settings import schedule

    here = os.uname().nodename
    runs = history() if kept is None else kept
    return due_lines(runs, schedule(), here, time.time(), _disks(), _addresses())


@command.command()
@click.argument("first")
@click.argument("second")
@format_option
@json_option
def compare(first: str, second: str, form: str) -> int:
    """Compare two nodes. Each is the name of a node whose results are known, a file that
    `bn benchmark results --format json` wrote, `reference` (the machine that BPU is defined by), or
    `best` (the best possible for the other one).
    """
    from engine.resources.benchmark import compare as comparing
    from engine.resources.benchmark.kept import history
    from engine.resources.benchmark.report import compared, compared_chart

    if first == second == comparing.BEST:
        raise InputError(
            "best is the best possible for a node", "name that: bn benchmark compare NODE best"
        )
    kept = history()
    sides = {name: _side(name, kept) for name in (first, second) if name != comparing.BEST}
    other = {first: second, second: first}
    for name in (first, second):
        if name == comparing.BEST:
            rest = sides.get(other[name], [])
            known = [*kept, *rest]
            sides[name] = comparing.best(known, rest[0].node if rest else os.uname().nodename)
    rows = comparing.compare(sides[first], sides[second])
    names = (_named(first), _named(second))
    if form == "json":
        print_json(
            [
                {
                    "name": row.name,
                    "unit": row.unit,
                    "first": row.first.value if row.first else None,
                    "second": row.second.value if row.second else None,
                    "ratio": row.ratio,
                    "sure": row.sure,
                }
                for row in rows
            ]
        )
    elif form == "svg":
        _svg(f"bn benchmark: {names[0]} and {names[1]}", compared_chart(rows, *names))
    else:
        for line in compared(rows, *names):
            out(line)
        if not comparing.same_way(sides[first], sides[second]):
            note("processors were measured in different ways: BPU compare only roughly")
        _chart(compared_chart(rows, *names))
    return OK


def _named(name: str) -> str:
    return Path(name).stem if Path(name).is_file() else name


def _side(name: str, kept: list[Run]) -> list[Run]:
    """Return the runs that a name stands for; raises InputError."""
    from engine.resources.benchmark import compare as comparing

    if name == comparing.REFERENCE:
        return comparing.reference()
    if Path(name).is_file():
        return _read(Path(name))
    runs = [run for run in kept if run.node == name]
    if not runs:
        raise _unknown(f"{name!r} is neither a node with results nor a file", name, kept)
    return runs


def _unknown(message: str, name: str, kept: list[Run]) -> InputError:
    from engine.spec.faults import nearest

    known = sorted({run.node for run in kept})
    hint = nearest(name, known) if known else "measure first: bn benchmark --all"
    return InputError(message, hint)


def _read(path: Path) -> list[Run]:
    from engine.resources.benchmark.results import runs_of

    try:
        return runs_of(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        why = "it is no JSON" if isinstance(error, json.JSONDecodeError) else str(error)
        hint = "write it with bn benchmark results --format json"
        raise InputError(f"{path}: {why}", hint) from error
