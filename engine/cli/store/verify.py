"""`bn store verify`: check every blob and every entry of the index."""

from __future__ import annotations

from typing import Any

import click
from attrs import asdict

from engine.cli.options import configured, json_option, note, open_store, out, print_json
from engine.healing import rebuild_index
from engine.units import show_duration, show_size
from store.errors import OK, HostError, IntegrityError
from store.verify import Report, verify


class Sample(click.ParamType[int]):
    """A share, as 1/10."""

    name = "1/N"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """Return N."""
        number = str(value).removeprefix("1/")
        if not number.isascii() or not number.isdigit() or int(number) < 1:
            self.fail(f"{value!r}: write it as 1/10", param, ctx)
        return int(number)


@click.command()
@click.option("--repair", is_flag=True, help="Set aside what is bad, drop what names it.")
@click.option(
    "--sample", type=Sample(), default="1/1", help="Read one blob in N, others each time."
)
@json_option
def command(repair: bool, sample: int, as_json: bool) -> int:
    """Read every blob again, follow every entry of the index, compare every shown tree.

    Exits with 5 where something is wrong and not repaired.
    """
    healed = ""
    try:
        report = checked(repair, sample)
    except IntegrityError as error:
        if not repair:
            raise IntegrityError(
                error.message, "bn store verify --repair, or rebuild-index"
            ) from None
        healed = f"{error.message}: {rebuild_index(*configured())}"
        report = checked(repair, sample)
    if as_json:
        print_json({**asdict(report), "sound": report.sound, "index": healed})
    else:
        show(report, healed)
    return OK if report.sound else IntegrityError.exit_code


def checked(repair: bool, sample: int) -> Report:
    """Verify the user's store."""
    with open_store(heal=False) as store:
        if repair and store.read_only:
            raise HostError(
                f"{store.root}: the store is read-only", "make it writable to repair it"
            )
        return verify(store, repair=repair, sample=sample)


def show(report: Report, healed: str) -> None:
    """Print what is wrong, and what was looked at."""
    if healed:
        out(healed)
    for problem in report.problems:
        done = f" ({problem.repaired})" if problem.repaired else ""
        out(f"{problem.kind} {problem.where}: {problem.what}{done}")
    wrong = sum(problem.repaired is None for problem in report.problems)
    note(
        f"{report.blobs} blobs, {report.entries} entries, {report.shown} shown trees: "
        f"{f'{wrong} wrong' if wrong else 'all well'}"
        f" ({show_size(report.bytes)} read in {show_duration(report.seconds)})"
    )
    if wrong:
        note("hint: bn store verify --repair sets aside what is bad; builds make it again")
