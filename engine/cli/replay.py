"""`bn replay`: recorded actions run again, and what comes out compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import click

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.replay.bundle import SUFFIX, unbundle
from engine.replay.kept import Kept, diffoscope, keep
from engine.replay.report import details, document, junit, line, markdown, summary
from engine.replay.running import How, Replayed, replay
from engine.replay.steps import chosen, recorded
from engine.replay.surroundings import KINDS, kinds_of, possible
from engine.timeline.log import read_timeline
from engine.timeline.named import LAST, find_build
from store.errors import NOT_REPRODUCIBLE, OK, HostError, host_error
from store.store import Store


@click.command()
@click.argument("build", default=LAST)
@click.argument("artifacts", nargs=-1, metavar="[ARTIFACT]...")
@click.option("--times", type=click.IntRange(1), default=1, show_default=True, help="How often.")
@click.option("-j", "--jobs", type=click.IntRange(1), help="Actions at a time (all processors).")
@click.option(
    "--perturb",
    metavar="KINDS",
    is_flag=False,
    flag_value="all",
    help=f"Also in other surroundings: {', '.join(KINDS)}, or all.",
)
@click.option("--ran", is_flag=True, help="Only what ran in that build, not what was cached.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="N of the actions.")
@click.option("--junit", "xml", type=click.Path(path_type=Path), help="Write JUnit XML to a file.")
@click.option("--markdown", "page", type=click.Path(path_type=Path), help="Append a summary to it.")
@click.option(
    "--decisions",
    is_flag=True,
    help="Run nothing: decide again what starts where, and compare with what was decided.",
)
@click.option("--play", is_flag=True, help="Run nothing: show the console of that build again.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times as fast to play it.",
)
@json_option
def command(
    build: str,
    artifacts: tuple[str, ...],
    times: int,
    jobs: int | None,
    perturb: str | None,
    ran: bool,
    sample: int | None,
    xml: Path | None,
    page: Path | None,
    decisions: bool,
    play: bool,
    speed: float,
    as_json: bool,
) -> int:
    """Run the actions of a BUILD (the last one) again, or those of ARTIFACT, each in a fresh
    sandbox from what was recorded, whatever the sources are now, and compare every byte. A BUILD
    that ends with .bn is a file that bn bundle wrote.

    The exit code is 6 where something came out otherwise; then it is said where, and what kind of
    difference it looks like, and both outputs are kept.
    """
    kinds = kinds_of(perturb) if perturb is not None else ()
    left, why_not = possible(kinds)
    for reason in why_not:
        note(f"not perturbed: {reason}")
    how = How(times=times, jobs=jobs or len(os.sched_getaffinity(0)), perturb=left)
    with open_store() as store:
        if build.endswith(SUFFIX):
            name = unbundle(store, Path(build))
        else:
            name = find_build(store.root, build)
        if decisions:
            return replay_decisions(store, name, as_json)
        if play:
            return play_build(store, name, speed)
        return replay_build(
            store,
            name,
            how,
            artifacts=artifacts,
            ran=ran,
            sample=sample,
            xml=xml,
            page=page,
            as_json=as_json,
        )


def replay_decisions(store: Store, build: str, as_json: bool) -> int:
    """Decide again what started where in a recorded build, and say what comes out otherwise."""
    from engine.replay import decisions

    judged = decisions.decide_again(build, read_timeline(store.root, build))
    if as_json:
        print_json(decisions.document(judged))
    else:
        for text in decisions.details(judged):
            out(text)
    note(decisions.summary(judged))
    return NOT_REPRODUCIBLE if judged.differences else OK


def play_build(store: Store, build: str, speed: float) -> int:
    """Show the console of a recorded build again."""
    from engine.cli.console import make_console
    from engine.timeline.play import play
    from engine.timeline.summary import summary as summed
    from engine.units import show_duration

    console = make_console(store.cas, "")
    try:
        play(read_timeline(store.root, build), console, speed)
    finally:
        console.close()
    one = summed(build, read_timeline(store.root, build))
    counts = ", ".join(f"{number} {name}" for name, number in one.counts.items())
    note(f"{build}: {one.status} after {show_duration(one.seconds)} ({counts})")
    return OK


def replay_build(
    store: Store,
    build: str,
    how: How,
    *,
    artifacts: Collection[str] = (),
    ran: bool = False,
    sample: int | None = None,
    xml: Path | None = None,
    page: Path | None = None,
    as_json: bool = False,
    tell: Callable[[str], None] = out,
) -> int:
    """Replay a recorded build, say what came of it, and return the exit code.

    Raises HostError where nothing came out otherwise, but not all could be run.
    """
    steps = chosen(build, recorded(build, read_timeline(store.root, build)), artifacts, ran, sample)

    def told(one: Replayed) -> None:
        if not as_json:
            tell(line(one))

    with store.lease("replay"):
        found = replay(store, steps, how, told)
        kept = keep(store, found)
    if xml is not None:
        _write(xml, junit(build, found), "wb")
    if page is not None:
        _write(page, markdown(build, found).encode(), "ab")
    if as_json:
        print_json(document(build, found))
    else:
        _tell_differing(found, kept, tell)
    note(summary(build, found))
    if any(one.other for one in found):
        return NOT_REPRODUCIBLE
    gone = [one for one in found if one.gone]
    if gone:
        raise HostError(
            f"{len(gone)} of {len(found)} actions cannot be replayed: {gone[0].gone}",
            "what builds of the last days need is kept: keep_days under [store] in bn.toml",
        )
    return OK


def _tell_differing(
    found: list[Replayed], kept: dict[str, Kept], tell: Callable[[str], None]
) -> None:
    first = True
    for one in found:
        if one.other is None:
            continue
        tell(f"{one.recorded.label}{' (the first that differs)' if first else ''}:")
        for text in details(one):
            tell(f"  {text}")
        both = kept.get(one.recorded.label)
        if both is not None:
            tell(f"  recorded: {both.before}")
            tell(f"  replayed: {both.after}")
            said = diffoscope(both) if first else None
            for text in (said or "").splitlines()[:40]:
                tell(f"  | {text}")
        first = False


def _write(path: Path, data: bytes, mode: str) -> None:
    try:
        with path.open(mode) as file:
            file.write(data)
    except OSError as error:
        raise host_error(error, "cannot write the report") from error
