"""`bn autopsy`: why a build failed, and what of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from engine.cli.critical_path import write_page
from engine.cli.options import json_option, open_store, out, print_json
from engine.timeline.autopsy import MOST, Autopsy, Failure, autopsy
from engine.timeline.course import SUCCEEDED, Course, course
from engine.timeline.evidence import evidence
from engine.timeline.log import builds, read_timeline
from engine.timeline.named import find_build
from engine.units import show_duration, show_size
from store.errors import OK, InputError

SHOWN = 3
"""Candidates, and names of steps, that are shown of one failure."""

NAMES = 6


@click.command()
@click.argument("build", required=False)
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1),
    default=MOST,
    show_default=True,
    help="Failed steps that are looked into.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with the graph."
)
@json_option
def command(build: str | None, number: int, html: Path | None, as_json: bool) -> int:
    """Say why a BUILD failed (without one: the last that did), and what of it.

    For each failed step: the lines of its log that decide, the candidates for the root cause (what
    changed since it passed last, followed to files, flags, parameters and tools) with their
    likeness, what was tried where, what was not built because of it, and the command that runs it
    again just as it was.
    """
    with open_store() as store:
        name = _last_failed(store.root) if build is None else find_build(store.root, build)
        found = course(name, read_timeline(store.root, name))
        result = autopsy(found, evidence(store, found), number)
    if html is not None:
        from engine.timeline.critical import critical
        from engine.timeline.page import page

        write_page(html, page(found, critical(found), result))
    if as_json:
        print_json(result.document())
    else:
        for line in lines(result):
            out(line)
    return OK


def _last_failed(root: Path) -> str:
    """Return the last recorded build that did not end well. Raises InputError."""
    for name in builds(root):
        found: Course = course(name, read_timeline(root, name))
        if found.steps and (found.failures() or found.status not in ("ok", "")):
            return name
    raise InputError("no build is known to have failed", "name a build: bn timeline list")


def lines(found: Autopsy) -> Iterator[str]:
    """Yield an autopsy for people."""
    took = f" after {show_duration(found.seconds)}" if found.seconds else ""
    yield f"{found.build}: {found.status}{took}, {found.spec}"
    if not found.failures:
        yield "nothing failed in it"
    for failure in found.failures:
        yield ""
        yield from _failure(failure)
    if found.others:
        yield ""
        yield f"{len(found.others)} more failed: {_names(found.others)}"
    if len(found.failures) > 1:
        yield ""
        yield "over all failures"
        for root in found.roots[:SHOWN]:
            behind = f"{len(root.failed)} of {len(found.failures)}"
            yield f"  {root.likeness:4.0%}  {root.change} (may be behind {behind})"
    tail = {
        "not tried, though nothing that they need failed": found.untried,
        "running when it ended": found.running,
        "targets not reached": found.unreached,
    }
    for what, labels in tail.items():
        if labels:
            yield ""
            yield f"{what}: {_names(labels)}"


def _failure(one: Failure) -> Iterator[str]:
    code = f" (exit code {one.exit_code})" if one.exit_code and one.status != "failed" else ""
    yield f"{one.label}: {one.reason or one.status}{code}"
    if one.action:
        used = f"{show_duration(one.cpu_seconds)} of a processor, {show_size(one.peak_memory)}"
        yield f"  after {show_duration(one.seconds)} ({used}); it ran because of: {one.why}"
        yield "  log" if one.lines else "  its log is empty"
    for line in one.lines:
        yield f"    {line.number:>5}  {line.text}"
    yield from _candidates(one)
    yield from _tried(one)
    if one.stopped:
        yield f"  not built because of it: {_names(one.stopped)}"
    for hint in one.hints:
        yield f"  hint: {hint}"
    if one.kept:
        yield f"  its sandbox is kept: {one.kept}"
    if one.reproduce:
        yield f"  again, just as it was: {one.reproduce}"


def _candidates(one: Failure) -> Iterator[str]:
    if not one.candidates:
        return
    since = "" if one.passed is None else f", since build {one.passed.build}, where it passed"
    yield f"  likely causes{since}"
    for candidate in one.candidates[:SHOWN]:
        because = f"  ({', '.join(candidate.because)})" if candidate.because else ""
        yield f"    {candidate.likeness:4.0%}  {candidate}{because}"
    if len(one.candidates) > SHOWN:
        yield f"          and {len(one.candidates) - SHOWN} less likely"


def _tried(one: Failure) -> Iterator[str]:
    tried = [attempt for attempt in one.attempts if attempt.status != SUCCEEDED]
    if len(tried) < 2 and all(attempt.node in ("", "local") for attempt in tried):
        return
    yield "  tried"
    for attempt in tried:
        took = attempt.ended - attempt.began if attempt.ended is not None else None
        after = "" if took is None else f" after {show_duration(took)}"
        yield f"    on {attempt.node or 'local'}: {attempt.reason or attempt.status}{after}"


def _names(labels: tuple[str, ...]) -> str:
    more = f" and {len(labels) - NAMES} more" if len(labels) > NAMES else ""
    return f"{', '.join(labels[:NAMES])}{more}"
