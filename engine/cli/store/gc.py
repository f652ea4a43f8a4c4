"""`bn store gc`: remove what nothing needs any more."""

from __future__ import annotations

from typing import Any

import click
from attrs import asdict

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.retention import collect_garbage
from engine.units import parse_size, show_duration, show_size
from store.errors import OK
from store.gc import Report


class Size(click.ParamType[int]):
    """A size, as 20GB."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return the bytes."""
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("-n", "--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option(
    "--max-size", type=Size(), help="Let go of the oldest builds' results, too, down to this size."
)
@json_option
def command(dry_run: bool, max_size: int | None, as_json: bool) -> int:
    """Remove what is neither a root (bn store roots) nor part of a recent build.

    It runs beside builds: what they may use stays.
    """
    with open_store() as store:
        report = collect_garbage(store, max_size=max_size, dry_run=dry_run)
    assert report is not None
    if as_json:
        print_json(asdict(report))
        return OK
    show(report)
    if report.over:
        note(f"{show_size(report.over)} over {show_size(max_size or 0)}: {_needed(report)}")
    return OK


def show(report: Report) -> None:
    """Print what went and what is kept, and why."""
    verb = "would remove" if report.dry_run else "removed"
    for kind, count in report.removed.items():
        size = f"  {show_size(count.bytes)}" if count.bytes else ""
        out(f"{verb:<12} {count.number:>8} {kind}{size}")
    for why, count in report.kept.items():
        if count.number:
            out(f"{'kept':<12} {count.number:>8} blobs  {show_size(count.bytes)}  ({why})")
    for name, freed in report.freed.items():
        out(f"tier {name}: {show_size(freed)} freed, {show_size(report.used[name])} used")
    if report.evicted:
        out(f"gave way: {len(report.evicted)} recent builds and the like")
    out(f"{show_duration(report.seconds)}")


def _needed(report: Report) -> str:
    """Say what stands in the way of a smaller store."""
    parts = [f"{why} {show_size(c.bytes)}" for why, c in report.kept.items() if c.bytes]
    return "what is left is needed by " + (", ".join(parts) or "nothing")
