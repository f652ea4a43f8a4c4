"""`bn critical-path`: what a build's duration was made of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.timeline.course import course
from engine.timeline.critical import BEGIN, NEED, Critical, Link, critical
from engine.timeline.log import read_timeline
from engine.timeline.named import LAST, find_build
from engine.units import show_duration
from store.errors import OK, host_error

SHORT = 0.01
"""Seconds up to which a wait on the path is not told of."""


@click.command()
@click.argument("build", default=LAST)
@click.option(
    "-n", "--number", type=click.IntRange(1), default=20, show_default=True, help="Rows shown."
)
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with the graph."
)
@json_option
def command(build: str, number: int, html: Path | None, as_json: bool) -> int:
    """Show the critical path of a BUILD (the last one): the chain of steps that ended last, what
    each waited for, its share of the whole, and what making steps faster would gain.

    Gains are found by running the build through again on paper, with the nodes that it had, and
    with that step taking half its time, or none.
    """
    with open_store() as store:
        name = find_build(store.root, build)
        found = course(name, read_timeline(store.root, name))
        path = critical(found)
        if html is not None:
            from engine.timeline.page import page

            write_page(html, page(found, path, None))
    if as_json:
        print_json(path.document())
    else:
        for line in lines(path, number):
            out(line)
    return OK


def write_page(path: Path, text: str) -> None:
    """Write a page to a file and say so. Raises HostError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise host_error(error, f"cannot write {path}") from error
    note(f"→ {path}")


def lines(path: Critical, number: int) -> Iterator[str]:
    """Yield the path for people."""
    if not path.chain:
        yield f"{path.build}: nothing ran"
        return
    processors = f"{path.processors} processor{'s' if path.processors != 1 else ''}"
    yield f"{path.build}: {show_duration(path.makespan)} for {path.steps} steps on {processors}"
    share = path.on_path / path.makespan if path.makespan else 0.0
    longest = show_duration(path.longest)
    yield (
        f"the path below took {show_duration(path.on_path)} of it ({share:.0%}); "
        f"the longest chain of needs {longest}"
    )
    yield ""
    yield f"{'began':>9} {'took':>9} {'share':>6}  step"
    for link in _shortened(path.chain, number):
        if isinstance(link, str):
            yield f"{'':26}  {link}"
            continue
        took = f"{show_duration(link.began):>9} {show_duration(link.seconds):>9} {link.share:6.0%}"
        yield f"{took}  {link.label}{_waited(link)}"
    yield ""
    yield f"{'half':>9} {'no time':>9}  saved if this step took that"
    useful = [gain for gain in path.gains if gain.zero > 0]
    for gain in useful[:number]:
        beside = "" if gain.on_path else "  (beside the path)"
        saved = f"{show_duration(gain.half):>9} {show_duration(gain.zero):>9}"
        yield f"{saved}  {gain.label}{beside}"
    if not useful:
        yield f"{'':19}  no step alone gains anything"


def _shortened(chain: tuple[Link, ...], number: int) -> Iterator[Link | str]:
    """Yield the links that took longest, in order, and how many lie between them."""
    longest = sorted(range(len(chain)), key=lambda one: (-chain[one].seconds, one))[:number]
    kept, left = set(longest), 0
    for place, link in enumerate(chain):
        if place in kept:
            if left:
                yield f"… {left} shorter"
            left = 0
            yield link
        else:
            left += 1
    if left:
        yield f"… {left} shorter"


def _waited(link: Link) -> str:
    if link.waited_for == BEGIN:
        return ""
    late = f", {show_duration(link.gap)} after that" if link.gap >= SHORT else ""
    what = "outputs" if link.waited_for == NEED else "processor"
    return f"  (after {link.after} for its {what}{late})"
