"""`bn node`: machines that run actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli.options import json_option, out, print_json
from store.errors import OK


@click.group()
def command() -> None:
    """Look at the machines that run actions: this one, for now."""


@command.command()
@json_option
def show(as_json: bool) -> int:
    """Show this machine: processors, memory, disks, networks, sensors, and what of it may be used.

    What is not known says why.
    """
    from engine.places import places
    from engine.resources.benchmark.kept import speeds
    from engine.resources.discover import discover
    from engine.resources.nodes import local_nodes
    from engine.resources.show import in_builds, overview
    from store.where import default_store

    machine = discover(latency=latency)
    nodes = local_nodes(machine, speeds())
    where = places(default_store(), None)
    if as_json:
        print_json({**document(machine, nodes), "builds": in_builds(where).document})
        return OK
    for line in overview(machine, nodes):
        out(line)
    for line in in_builds(where).lines:
        out(line)
    return OK


def document(machine: Any, nodes: Any) -> dict[str, Any]:
    """Return the machine and its nodes for machines, with what follows from them."""
    from attrs import asdict

    return {
        **asdict(machine),
        "usable_cpus": list(machine.usable_cpus),
        "share": machine.share,
        "usable_memory": machine.usable_memory,
        "celsius": machine.celsius,
        "local": [{**asdict(node), "slots": node.slots} for node in nodes],
    }


def latency(path: Path, device: str) -> float | None:
    """Return the latency of a device as the store knows it; only its own disk is measured."""
    from store.detect import mounted
    from store.measure import Latencies
    from store.where import default_store

    root = default_store()
    return Latencies(root)(root, device) if mounted(root).device == device else None
