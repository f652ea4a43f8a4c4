"""`bn timeline export`: a build's events for other tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from engine.cli.options import note, open_store
from engine.timeline.chrome import to_chrome
from engine.timeline.log import NAME, read_timeline
from engine.timeline.named import LAST, find_build
from store.errors import OK, host_error


@click.command()
@click.argument("build", default=LAST)
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "chrome"]),
    default="jsonl",
    show_default=True,
    help="The events as they were written, or a Chrome trace, which Perfetto opens.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="A file (standard output).")
def command(build: str, form: str, output: Path | None) -> int:
    """Write the events of a BUILD (the last one) to a file or to standard output."""
    with open_store() as store:
        name = find_build(store.root, build)
        if form == "jsonl":
            data = (store.root / "builds" / name / NAME).read_bytes()
        else:
            data = json.dumps(to_chrome(read_timeline(store.root, name))).encode() + b"\n"
    if output is None:
        sys.stdout.buffer.write(data)
        return OK
    try:
        output.write_bytes(data)
    except OSError as error:
        raise host_error(error, f"cannot write {output}") from error
    note(f"{name} → {output}")
    return OK
