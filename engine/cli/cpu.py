"""`bn cpu`: the processors of this machine."""

from __future__ import annotations

import click

from engine.cli.options import json_option, out, print_json
from store.errors import OK


@click.group()
def command() -> None:
    """Look at the processors of this machine."""


@command.command()
@click.option("--topology", is_flag=True, help="Show packages, NUMA nodes, caches, cores, threads.")
@json_option
def info(topology: bool, as_json: bool) -> int:
    """Show the processors: how many, how fast, of which kinds, and which of them may be used."""
    from attrs import asdict

    from engine.resources import show
    from engine.resources.discover import discover_compute

    machine = discover_compute()
    if as_json:
        told = {"cpu": asdict(machine.cpu), "usable_cpus": list(machine.usable_cpus)}
        if topology:
            told |= {"nodes": [asdict(node) for node in machine.nodes]}
        print_json(told)
        return OK
    for line in show.processor(machine.cpu):
        out(line)
    out(f"usable: {show.spans(machine.usable_cpus)}, {machine.share:g} processors' worth of time")
    if topology:
        out()
        for line in show.topology(machine):
            out(line)
    return OK
