"""`bn bundle`: a recorded build as one file."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.options import json_option, note, open_store, print_json
from engine.replay.bundle import SUFFIX, bundle
from engine.replay.steps import chosen, recorded
from engine.timeline.log import read_timeline
from engine.timeline.named import LAST, find_build
from engine.units import show_size
from store.errors import OK


@click.command()
@click.argument("build", default=LAST)
@click.argument("artifacts", nargs=-1, metavar="[ARTIFACT]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The file (BUILD.bn).")
@click.option("--ran", is_flag=True, help="Only what ran in that build, not what was cached.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="N of the actions.")
@json_option
def command(
    build: str,
    artifacts: tuple[str, ...],
    output: Path | None,
    ran: bool,
    sample: int | None,
    as_json: bool,
) -> int:
    """Write a BUILD (the last one) to one file: its timeline, and its actions (or those of
    ARTIFACT) with their inputs, toolchains and outputs.

    `bn replay FILE.bn` runs them on another machine, which needs neither network nor sources.
    """
    with open_store() as store, store.lease("bundle"):
        name = find_build(store.root, build)
        steps = chosen(
            name, recorded(name, read_timeline(store.root, name)), artifacts, ran, sample
        )
        target = output or Path(f"{name}{SUFFIX}")
        size = bundle(store, name, steps, target)
    if as_json:
        print_json({"build": name, "file": str(target), "size": size, "actions": len(steps)})
    else:
        note(f"{target}: {len(steps)} actions of {name}, {show_size(size)}")
    return OK
