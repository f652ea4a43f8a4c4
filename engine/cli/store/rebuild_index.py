"""`bn store rebuild-index`: make the index again from the files alone."""

from __future__ import annotations

import click
from attrs import asdict

from engine.cli.options import configured, json_option, note, print_json
from engine.healing import linked
from store.cas import Cas
from store.errors import OK
from store.rebuild import rebuild


@click.command()
@json_option
def command(as_json: bool) -> int:
    """Make the index again from the blobs; the old one is moved aside.

    Results come back, and so do cache entries if their tables are damaged. What is lost: names of
    artifacts (until they are built again), how long steps took, and which file had which digest.
    """
    root, config = configured()
    cas = Cas(root, config.tiers)
    cas.create()
    report = rebuild(root, cas, linked(root))
    if as_json:
        print_json({**asdict(report), "aside": str(report.aside) if report.aside else None})
    else:
        note(
            f"{report.results} results, {report.realisations} realisations, {report.roots} roots"
            + (f"; the old index is {report.aside}" if report.aside else "")
            + ("" if report.cached is None else f"; {report.cached} cache entries could be saved")
        )
    return OK
