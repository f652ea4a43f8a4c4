"""`bn timeline verify`: whether every event is there as it was written."""

from __future__ import annotations

import click
from attrs import asdict

from engine.cli.options import json_option, note, open_store, out, print_json
from engine.timeline.log import builds
from engine.timeline.named import LAST, find_build
from engine.timeline.verify import Verified, verify
from store.errors import OK, InputError, IntegrityError


@click.command()
@click.argument("names", nargs=-1, metavar="[BUILD]...")
@click.option("--all", "every", is_flag=True, help="All recorded builds.")
@json_option
def command(names: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Check the chain of a BUILD's events (by default of the last one): none was changed, moved,
    added or lost.

    The exit code is 5 where something is wrong; each fault names the first event that it is about.
    """
    if every and names:
        raise click.UsageError("name builds, or use --all")
    found: list[Verified] = []
    with open_store() as store:
        wanted = [find_build(store.root, name) for name in names or (LAST,)]
        for build in builds(store.root) if every else wanted:
            try:
                found.append(verify(store, build))
            except InputError as error:
                if not every:
                    raise
                note(str(error))
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        for one in found:
            _tell(one)
    return IntegrityError.exit_code if any(one.faults for one in found) else OK


def _tell(one: Verified) -> None:
    if one.faults:
        out(f"{one.build}: {len(one.faults)} faults in {one.events} events")
        for fault in one.faults:
            out(f"  {fault}")
    else:
        end = "" if one.ended else "; its end was not noted: bn was killed, or is at it"
        out(f"{one.build}: {one.events} events, all as they were written{end}")
